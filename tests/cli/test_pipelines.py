"""`init --ci`: the steps of each pipeline, run as its system runs them, in the environment that it documents."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from orchestrator.amounts import size
from orchestrator.scaffold.pipeline import SYSTEMS
from tests.cli.conftest import cli, unchanged
from tests.support.without_engine import write_command

GOOD: Final = """\
name: good
base: debian:bookworm
build: {run: make, program: program}
nanos: {kernel: stub}
ops: {version: 0.1.43}
"""
BAD: Final = GOOD.replace("name: good", "name: bad") + "env: {X: y}\n"
REMEDY: Final = "the guest's variables go into `manifest: {Env: {NAME: value}}`"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A directory with projects, and a machine that builds them."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, script: str, *shell: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """A script, in an environment that has nothing of this process's."""
        command = [*(shell or ("bash", "-e")), "-c", script]
        done = subprocess.run(command, cwd=self.path, env={**self.environment, **(env or {})}, capture_output=True)
        out, err = done.stdout.decode(), done.stderr.decode()  # with each \r, which text=True would not leave
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def receipt(self) -> Any:
        return json.loads((self.path / "target/good.receipt.json").read_text())


@pytest.fixture
def repository(here: Path, tmp_path: Path) -> Repository:
    for name, text in {"good": GOOD, "bad": BAD}.items():
        (here / name).mkdir()
        (here / name / "project.yaml").write_text(text)
    program = tmp_path / "program"
    subprocess.run(["gcc", "-x", "c", "-", "-o", program], input="int main(void) { return 0; }", text=True, check=True)
    write_command(tmp_path / "bin")
    (tmp_path / "bin/python").write_text("#!/bin/sh\n[ \"$1 $2 $3\" = '-m pip install' ]\n")  # it is installed already
    (tmp_path / "bin/python").chmod(0o755)
    path = os.pathsep.join(
        [str(tmp_path / "bin"), str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
    )
    home = tmp_path / "home"
    home.mkdir()
    return Repository(
        path=here,
        environment={
            "PATH": path,
            "HOME": str(home),
            "STAGED_PROGRAM": str(program),
            "TMPDIR": str(tmp_path),
        },
    )


def github_steps(repository: Repository, project: str, env: Mapping[str, str]) -> tuple[bool, str]:
    """Whether the job succeeded, and its log. Steps that use an action need GitHub, and are left out."""
    workflow = yaml.safe_load((repository.path / ".github/workflows/images.yml").read_text())
    job = workflow["jobs"]["image"]
    assert project in job["strategy"]["matrix"]["project"]
    own = {**workflow["env"], **{k: v.replace("${{ matrix.project }}", project) for k, v in job["env"].items()}}
    ok, log = True, ""
    for step in job["steps"]:
        if "run" in step and (ok or step.get("if") == "always()"):
            done = repository.run(step["run"], env={**own, **env})
            ok, log = ok and done.returncode == 0, log + done.stdout + done.stderr
    return ok, log


def commands_in(log: str) -> list[str]:
    """What GitHub's runner would act on."""
    return [line for line in log.splitlines() if line.lstrip().startswith("::") or "##[" in line]


def test_github(repository: Repository, tmp_path: Path) -> None:
    assert cli("init", "--ci", "github").text == ".github/workflows/images.yml\n"
    summary = tmp_path / "summary.md"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(repository.path), "GITHUB_STEP_SUMMARY": str(summary)}
    ok, log = github_steps(repository, "good/project.yaml", env)
    assert ok, log
    no_effect = "ops: has no effect with the native packer, which is the default; remove it, or set `packer: ops`"
    warning = f"::warning file=good/project.yaml,line=5,title=check::{no_effect}"
    commands = [re.sub(r"^::group::#\d+ ", "::group::", line) for line in commands_in(log)]
    warnings = [number for number, line in enumerate(commands) if not line.startswith(("::group::", "::endgroup::"))]
    assert warnings == [0, len(commands) - 1] and commands[0] == commands[-1] == warning
    # A step that says nothing has a group too where it takes seconds.
    assert commands[commands.index("::group::[program] RUN make") + 1] == "::endgroup::"
    rows = [line for line in summary.read_text().splitlines() if line.startswith("| good")]
    image = repository.receipt()["image"]
    assert [cell.strip() for cell in rows[0].split("|")[1:6]] == [
        "good", "built", "<code>target/good.img</code> (a stand-in: not bootable)", size(image["size"]),
        f"<code>{image['blake3']}</code>",
    ]  # fmt: skip
    assert rows[0].endswith("| there was none |")
    (repository.path / "good/more.c").write_text("int more;\n")
    ok, log = github_steps(repository, "good/project.yaml", env)
    assert ok, log
    rows = [line for line in summary.read_text().splitlines() if line.startswith("| good")]
    assert rows[1].rpartition(" | ")[2].startswith("the sources")

    ok, log = github_steps(repository, "bad/project.yaml", env)
    assert not ok
    said = f"::error file=bad/project.yaml,line=6,title=unknown-key::env: unknown key at the top level; {REMEDY}"
    assert commands_in(log) == [said]
    assert not (repository.path / "target/bad.img").exists()


def test_gitlab(repository: Repository) -> None:
    assert cli("init", "--ci", "gitlab").text == ".gitlab-ci.yml\n"
    pipeline = yaml.safe_load((repository.path / ".gitlab-ci.yml").read_text())
    job = pipeline["build-image"]
    system = {"GITLAB_CI": "true", "CI_PROJECT_DIR": str(repository.path), "CI_NODE_INDEX": "1"}
    variables = {
        name: value.replace("$CI_PROJECT_DIR", str(repository.path))
        for name, value in pipeline["variables"].items()
        if not name.startswith("DOCKER")
    }
    report = repository.path / job["artifacts"]["reports"]["codequality"]
    for (project,), code in zip([[name] for name in job["parallel"]["matrix"][0]["PROJECT"]], (2, 0), strict=True):
        env = {**system, **variables, "PROJECT": project}
        done = repository.run("\n".join([*job["before_script"], *job["script"]]), "bash", "-eo", "pipefail", env=env)
        assert done.returncode == code, done.stderr
        rows = [row for row in json.loads(report.read_text()) if row["location"]["path"] == project]
        assert [(row["check_name"], row["severity"], row["location"]["lines"]["begin"]) for row in rows] == [
            ("orchestrator/unknown-key", "major", 6) if code else ("orchestrator/check", "minor", 5)
        ]
        assert len({row["fingerprint"] for row in rows}) == len(rows) and rows[0]["description"]
        assert repository.run("\n".join(job["after_script"]), env=env).returncode == 0
    assert re.search(r"\x1b\[0Ksection_start:\d+:orchestrator_1\[collapsed=true\]\r\x1b\[0K#1 \[program\]", done.stderr)
    assert re.search(r"\x1b\[0Ksection_end:\d+:orchestrator_1\r\x1b\[0K", done.stderr)
    assert "| good | built |" in (repository.path / "target/summary.md").read_text()
    assert (repository.path / ".orchestrator-cache/CACHEDIR.TAG").is_file()


def test_make(repository: Repository, tmp_path: Path) -> None:
    assert cli("init", "--ci", "make").text == "images.mk\n"
    make = f"make -f images.mk CACHE={tmp_path}/cache.tar.zst"
    failed = repository.run(make)
    assert (
        failed.returncode == 2 and f"bad/project.yaml:6: env: unknown key at the top level; {REMEDY}" in failed.stderr
    )
    assert not (repository.path / "target").exists()
    done = repository.run(f"{make} PROJECTS=good/project.yaml")
    assert done.returncode == 0, done.stderr
    assert (repository.path / "target/good.img").is_file() and (tmp_path / "cache.tar.zst").is_file()
    assert "| good | built |" in (repository.path / "target/summary.md").read_text()
    assert "--locked" in repository.run(f"{make} -n PROJECTS=good/project.yaml").stdout  # there is a lock now


def test_systemd(repository: Repository) -> None:
    assert cli("init", "--ci", "systemd").text == "gevulot-images.service\n"
    unit = configparser.RawConfigParser(strict=False)
    text = (repository.path / "gevulot-images.service").read_text()
    unit.read_string(text)
    service = unit["Service"]
    assert (service["Type"], service["WorkingDirectory"]) == ("oneshot", str(repository.path))
    lines = re.findall(r"^(ExecStartPre|ExecStart|ExecStartPost)=(.*)$", text, re.MULTILINE)
    codes = [repository.run(f"exec {shlex.join(shlex.split(line))}").returncode for _, line in lines]
    assert [(kind, code) for (kind, _), code in zip(lines, codes, strict=True)] == [
        ("ExecStartPre", 2), ("ExecStartPre", 0), ("ExecStart", 2), ("ExecStartPost", 0),
    ]  # fmt: skip
    assert "OnCalendar=daily" in (repository.path / "gevulot-images.timer").read_text()


def test_jenkins(repository: Repository) -> None:
    assert cli("init", "--ci", "jenkins").text == "Jenkinsfile\n"
    text = (repository.path / "Jenkinsfile").read_text()
    assert "values 'bad/project.yaml', 'good/project.yaml'" in text
    steps = [long or short for long, short in re.findall(r"sh '''(.*?)'''|sh '([^'\n]*)'", text, re.DOTALL)]
    assert [step.split()[0] for step in steps[:2]] == ["python3", ".venv/bin/python"]
    write_command(repository.path / ".venv/bin")  # instead of these two, which need a network

    def build(project: str) -> list[int]:
        env = {"PROJECT": project, "WORKSPACE": str(repository.path), "BUILD_NUMBER": "1"}
        return [repository.run(step, "sh", "-xe", env=env).returncode for step in steps[2:]]

    assert build("good/project.yaml") == [0, 0, 0]
    assert "| good | built |" in (repository.path / "target/summary.md").read_text()
    assert build("bad/project.yaml")[:2] == [2, 2]


@pytest.mark.parametrize("system", SYSTEMS)
def test_nothing_is_overwritten(here: Path, system: str) -> None:
    """Neither a file of a pipeline nor, with one that is there, a project."""
    for name in SYSTEMS[system]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("mine\n")
    with unchanged(here):
        ended = cli("init", "--ci", system)
    assert ended.code == 2
    assert "already exists; nothing was written" in ended.err


def test_a_new_project_has_its_pipeline(here: Path) -> None:
    made = cli("init", "new", "--language", "c", "--ci", "github")
    assert made.text == "new/project.yaml\nnew/.github/workflows/images.yml\n"
    assert cli("check", "new").code == 0


@pytest.mark.parametrize("name", ["a b", "a'b", "$(id)", "a;b", "-x"])
def test_a_path_that_a_shell_would_not_take_as_it_is(here: Path, name: str) -> None:
    (here / name).mkdir()
    (here / name / "project.yaml").write_text(GOOD)
    assert "cannot be written into a pipeline; rename its directory" in " ".join(
        cli("init", "--ci", "make").err.split()
    ).replace("pipeline rename", "pipeline; rename")
    assert not (here / "images.mk").exists()
