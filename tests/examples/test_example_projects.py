"""Every project.yaml of the examples: valid, without a warning, and agreeing with its sources."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from orchestrator.errors import Severity
from orchestrator.nanos.manifest.merge import merge_manifest
from orchestrator.project.load import load_project
from orchestrator.project.project import RUNTIME_REFS
from orchestrator.project.vendor import SHIM_BOOTSTRAP_PACKAGES
from tests.examples.conftest import EXAMPLES

PROJECTS = sorted(EXAMPLES.glob("*/project*.yaml"))
DEMO = [EXAMPLES / name / "project.yaml" for name in ("my-prover", "my-verifier")]


def shown(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


@pytest.mark.parametrize("path", PROJECTS, ids=shown)
def test_it_is_valid_and_clean(path: Path) -> None:
    loaded = load_project(path)
    findings = [*loaded.warnings, *merge_manifest(loaded).findings]
    assert [finding for finding in findings if finding.severity is not Severity.NOTE] == []
    assert (path.parent / loaded.project.build.context).is_dir()


def test_each_kind_of_project_is_there() -> None:
    names = {shown(path) for path in PROJECTS}
    assert names == {
        "device-query/project.yaml",
        "gpu-prover/project.yaml",
        "hello/project.yaml",
        "my-prover/project.devnet.yaml",
        "my-prover/project.ops.yaml",
        "my-prover/project.yaml",
        "my-verifier/project.devnet.yaml",
        "my-verifier/project.ops.yaml",
        "my-verifier/project.yaml",
        "py-prover/project.yaml",
        "snarkjs-prover/project.yaml",
    }


@pytest.mark.parametrize("path", DEMO, ids=shown)
def test_the_demo_needs_nothing_from_outside_but_packages_and_has_one_base(path: Path) -> None:
    project = load_project(path).project
    assert project.gevulot is not None
    assert project.base == project.gevulot.base
    assert project.base.bootstrap is not None
    assert project.base.bootstrap.packages == SHIM_BOOTSTRAP_PACKAGES
    assert (project.nanos.kernel, project.packer, project.runtime) == ("stub", "native", "local")
    assert project.gevulot.path == "../standin-gevulot"


@pytest.mark.parametrize("path", DEMO, ids=shown)
def test_the_guides_version_is_the_same_program_with_the_real_parts(path: Path) -> None:
    demo, guide = load_project(path).project, load_project(path.with_name("project.ops.yaml")).project
    assert (guide.name, guide.resources, guide.stage.files) == (demo.name, demo.resources, demo.stage.files)
    assert guide.build.program == demo.build.program
    assert (guide.packer, guide.runtime, guide.nanos.kernel) == ("ops", "devnet", None)
    assert guide.gevulot is not None and guide.gevulot.git is not None
    assert guide.gevulot.ref in (None, RUNTIME_REFS["devnet"])


def test_the_gpu_example_is_the_guides_gpu_flow() -> None:
    loaded = load_project(EXAMPLES / "device-query/project.yaml")
    manifest = json.loads((EXAMPLES / "device-query/manifest.json").read_text())
    assert loaded.project.gpu and loaded.project.cuda == "12.3.0" and loaded.project.packer == "ops"
    assert manifest["Program"] == loaded.project.build.program
    assert manifest["Klibs"] == ["gpu_nvidia"] and manifest["RunConfig"]["GPUs"] == loaded.project.resources.gpus


@pytest.mark.parametrize("name", ["groth16", "standin-gevulot"])
def test_rust_programs_are_pinned_and_build_with_debians_oldest_rust(name: str) -> None:
    workspace = tomllib.loads((EXAMPLES / name / "Cargo.toml").read_text())["workspace"]
    oldest = tuple(int(part) for part in workspace["package"]["rust-version"].split("."))
    assert oldest <= (1, 85)  # rustc-web of Debian 12 without its security updates
    locked = tomllib.loads((EXAMPLES / name / "Cargo.lock").read_text())["package"]
    assert all("checksum" in package for package in locked if "source" in package)
