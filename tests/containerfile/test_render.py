"""Rendering: golden files a person can read, no undefined values, nothing that a value can break out of."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.containerfile import render
from orchestrator.containerfile.render import render_containerfile, render_manifest, render_scripts
from orchestrator.inputs.nominal import nominal_inputs
from orchestrator.nanos.settings import read_settings
from orchestrator.plan.make import make_plan
from orchestrator.plan.plan import DependenciesPlan, Plan
from orchestrator.project.load import load_project
from orchestrator.resources import SCRIPTS

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
STAGING = re.compile("scripts/staging-[0-9a-f]{12}")
EXAMPLES = {
    "my-prover": "examples/my-prover/project.yaml",
    "my-prover-ops": "examples/my-prover/project.ops.yaml",
    "my-verifier": "examples/my-verifier/project.yaml",
    "hello": "examples/hello/project.yaml",
    "device-query": "examples/device-query/project.yaml",
}


def plan_of(path: Path) -> Plan:
    loaded = load_project(path)
    return make_plan(loaded, read_settings(loaded), nominal_inputs(loaded))


def locked(plan: Plan) -> Plan:
    """As with a lock that names packages for its images."""
    shim = replace(plan.shim, packages_locked=True) if plan.shim is not None else None
    return replace(plan, packages_locked=bool(plan.packages), shim=shim)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_render_as_their_golden_files(name: str) -> None:
    """Set UPDATE_GOLDEN=1 to write them anew; the diff is then the review."""
    plan = plan_of(ROOT / EXAMPLES[name])
    rendered = {
        "Containerfile": render_containerfile(plan),
        "classic.Containerfile": render_containerfile(plan, mounts=False),
        "manifest.json": render_manifest(plan),
    }
    for kind, text in rendered.items():
        text = STAGING.sub("scripts/staging-DIGEST", text)  # noqa: PLW2901 - of all scripts, whatever is changed in them
        golden = GOLDEN / f"{name}.{kind}"
        if os.environ.get("UPDATE_GOLDEN"):
            golden.write_text(text)
        assert text == golden.read_text(), f"{golden.name} differs; UPDATE_GOLDEN=1 writes it anew"


DEPENDENCIES = DependenciesPlan(kinds=("cargo", "go"), files={}, texts={})


@pytest.mark.parametrize("dependencies", [None, DEPENDENCIES])
def test_classic_builder_gets_the_same_steps_without_mounts(dependencies: DependenciesPlan | None) -> None:
    plan = replace(locked(plan_of(ROOT / EXAMPLES["my-prover"])), dependencies=dependencies)
    with_mounts, without = render_containerfile(plan), render_containerfile(plan, mounts=False)
    assert "--mount" not in without
    stripped = re.sub(r"--mount=\S+ \\\n\s+", "", with_mounts)
    # Nothing that outlasts a step either.
    stripped = re.sub(r"# Also caches that outlast.*\n", "", stripped)
    stripped = stripped.replace("sh /orchestrator/caches.sh ", "")
    without = re.sub(r"COPY scripts/staging-\w+/ /orchestrator/staging/\n", "", without)
    assert stripped == re.sub(r"COPY (network|packages|dependencies)/\S* /orchestrator/\1/\n", "", without)
    assert ("COPY dependencies/ /orchestrator/dependencies/" in without) == (dependencies is not None)


def test_nothing_that_decides_the_result_is_mounted() -> None:
    """Podman 4.3 keeps a layer when only the content of a bind mount changed."""
    for example in EXAMPLES.values():
        text = render_containerfile(locked(plan_of(ROOT / example)))
        for source in set(re.findall(r"--mount=type=bind,source=([^,]+),", text)) - {"network/apt.conf"}:
            if STAGING.fullmatch(source):  # its name says what is in it
                continue
            # Or what is copied before has its sums, which the step insists on.
            before = text[: text.index(f"source={source},")].rpartition("\nRUN ")[0].splitlines()[-1]
            assert before == f"COPY scripts/install-packages.sh {source}/packages.sha256 /orchestrator/"


def test_no_two_stages_begin_alike() -> None:
    """Podman would take one's layer for the other's and miss its cache from there on: my-verifier built all anew."""
    for example in EXAMPLES.values():
        stages = re.split(r"^FROM .*$", render_containerfile(locked(plan_of(ROOT / example))), flags=re.M)[1:]
        first = [next(line for line in stage.splitlines() if line and not line.startswith("#")) for stage in stages]
        assert len(set(first)) == len(first), first


def test_scripts_of_the_context_hold_the_users_step() -> None:
    plan = plan_of(ROOT / EXAMPLES["my-prover"])
    assert render_scripts(plan)["step/orchestrator/build.sh"] == plan.run_script


def test_the_folder_of_the_staging_scripts_is_named_by_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(ROOT / EXAMPLES["hello"])
    before = STAGING.findall(render_containerfile(plan))
    changed = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, changed)
    with (changed / "sbom-records.sh").open("a") as script:
        script.write("# changed\n")
    monkeypatch.setattr(render, "SCRIPTS", changed)
    after = STAGING.findall(render_containerfile(plan))
    assert before and after and before != after
    assert f"{after[0].removeprefix('scripts/')}/sbom-records.sh" in render_scripts(plan)


arguments = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=40)


@given(st.lists(arguments, min_size=1, max_size=5))
def test_any_one_line_value_reaches_the_script_as_it_is(values: list[str]) -> None:
    """The project model refuses control characters; everything else must survive Containerfile and shell."""
    plan = plan_of(ROOT / EXAMPLES["hello"])
    staging = replace(plan.staging, arguments=tuple(("--file", value) for value in values))
    text = render_containerfile(replace(plan, staging=staging))
    run = text[text.index("    sh /orchestrator/staging/stage-tree.sh") :].split("\n\n", 1)[0]
    words = shlex.split(run.replace("\\\n", ""))
    options = [word for value in values for word in ("--file", value)]
    assert words[2:] == [*options, "&&", "sh", "/orchestrator/staging/sbom-records.sh"]


def test_a_run_script_with_an_interpreter_line_is_run_by_it(tmp_path: Path) -> None:
    project = tmp_path / "project.yaml"
    project.write_text("name: x\nbuild:\n  run: |\n    #!/bin/bash -eu\n    echo hi\n  program: x\n")
    assert "/bin/bash -eu /orchestrator/build.sh" in render_containerfile(plan_of(project))


def test_user_text_can_add_no_instruction(tmp_path: Path) -> None:
    """The user's script is shown as a comment; no line of it may become an instruction."""
    project = tmp_path / "project.yaml"
    project.write_text(
        'name: x\nbuild:\n  run: "true\\nFROM evil\\rRUN evil\\u2028RUN evil \\\\\\nRUN evil"\n  program: x\n'
    )
    text = render_containerfile(plan_of(project))
    instructions = [line for line in re.split(r"[\r\n\u2028]", text) if "evil" in line]
    assert instructions
    assert all(line.startswith("#") for line in instructions)
