"""The wheel holds all that a checkout does: installed elsewhere, it checks and renders."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support.cli import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it; the dependencies are those of this one, so no network is asked."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    install = ["-m", "pip", "--python", str(folder / "venv/bin/python"), "install", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, *install, str(wheel)], check=True, capture_output=True)
    # After the wheel on the path: what both have is taken from the wheel. No editable install: .pth files of a
    # directory that a .pth file names are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv/bin"


def run(command: Path, *arguments: str, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([command, *arguments], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_from_another_directory(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import orchestrator; print(orchestrator.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert run(installed / "orchestrator", "--version", cwd=tmp_path).startswith("orchestrator, version ")
    for flavour in (["--language", "rust"], ["--language", "c"], ["--gpu"]):
        name = flavour[-1].strip("-")
        run(installed / "orchestrator", "init", name, *flavour, cwd=tmp_path)
        assert run(installed / "orchestrator", "check", name, cwd=tmp_path) == f"{name}/project.yaml: ok\n"
        rendered = run(installed / "orchestrator", "render", name, cwd=tmp_path)
        own = subprocess.run(
            [sys.executable, "-m", "orchestrator", "render", name],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        assert rendered == own.stdout


def test_a_whole_context_can_be_rendered(installed: Path, tmp_path: Path) -> None:
    run(installed / "orchestrator", "render", str(ROOT / "examples/hello"), "-o", "context", cwd=tmp_path)
    command = [sys.executable, "-m", "orchestrator", "render", str(ROOT / "examples/hello"), "-o", "own"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    scripts, own = (
        {path.name: path.read_bytes() for path in (tmp_path / folder / "scripts").rglob("*") if path.is_file()}
        for folder in ("context", "own")
    )
    assert "stage-tree.sh" in scripts
    assert scripts == own


def test_every_data_file_is_in_it(installed: Path) -> None:
    package = next(installed.parent.glob("lib/python*/site-packages/orchestrator"))
    for folder, inside in (("containerfiles", "_data/containerfiles"), ("manifests", "_data/manifests"),
                           ("orchestrator/scaffold", "scaffold"), ("orchestrator/report", "report")):  # fmt: skip
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                there = package / inside / path.relative_to(ROOT / folder)
                assert there.read_bytes() == path.read_bytes(), there
