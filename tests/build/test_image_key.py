"""The key of an image where a project brings its own Containerfile; else see tests/shared_cache/test_results.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.build.check import check_project
from orchestrator.build.image_key import image_key
from orchestrator.inputs.requests import requests_of
from orchestrator.lock.project_lock import LockedInput, ProjectLock, lock_text

PROJECT = """\
name: program
runtime: local
base: {image: registry.invalid/base:1}
build: {containerfile: Dockerfile, program: /program}
nanos: {kernel: stub}
"""
FILE = "FROM registry.invalid/base:1\nRUN make\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose context leaves its Containerfile out, as many do."""
    path = tmp_path / "project.yaml"
    path.write_text(PROJECT)
    (tmp_path / "Dockerfile").write_text(FILE)
    (tmp_path / ".dockerignore").write_text("Dockerfile\n")
    requested = requests_of(check_project(path).loaded)
    entries = {
        name: LockedInput(requested=dict(request), kind="image", resolved={"digest": f"sha256:{'5' * 64}"})
        for name, request in requested.items()
    }
    path.with_suffix(".lock").write_text(lock_text(ProjectLock(entries=entries)))
    return path


def key_of(project: Path) -> str | None:
    return image_key(check_project(project))


def test_a_containerfile_counts_even_where_its_context_leaves_it_out(project: Path) -> None:
    before = key_of(project)
    assert before is not None
    (project.parent / "Dockerfile").write_text(FILE.replace("make", "make all"))
    assert key_of(project) not in (before, None)
    (project.parent / "Dockerfile").write_text(FILE)
    assert key_of(project) == before


@pytest.mark.parametrize("line", ["COPY --from=registry.invalid/tools:1 /tool /tool", "ADD https://files.invalid/x /x"])
def test_what_nothing_pins_may_be_something_else_elsewhere(project: Path, line: str) -> None:
    (project.parent / "Dockerfile").write_text(f"{FILE}{line}\n")
    assert key_of(project) is None
