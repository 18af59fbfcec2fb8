"""A program that tries to get out of its rehearsal, as root's and as a user's: all of it is refused, everywhere."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.rehearse.run import Options, rehearse
from tests.support.packed import Packed
from tests.support.user import NOBODY, as_user, users_ground


@pytest.fixture(scope="module")
def image(packed: Packed) -> Path:
    """The program, packed."""
    return packed.image((Path(__file__).parent / "escape.c").read_text(), "-w")


@contextmanager
def targets(workspace: Path) -> Iterator[Path]:
    """What the program looks for on this machine; gives the file that all may read, and the program must not."""
    workspace.mkdir()
    file = workspace.parent / "secret"
    file.write_text("a file of the host")
    name = f"orchestrator-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        (workspace / "targets").write_text(f"{file} {os.getpid()} {server.getsockname()[1]} {name}\n")
        yield file


def check(output: str, workspace: Path) -> None:
    """Every line says refused, and nothing is left behind."""
    lines = output.splitlines()
    assert lines[-1:] == ["the end"], output
    assert not [line for line in lines[:-1] if not line.startswith("refused ")], output
    assert len(lines) > 120, output
    assert sorted(each.name for each in workspace.iterdir()) == ["f", "targets"]
    found = (workspace / "f").stat()
    assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID)


def test_no_way_leads_out(image: Path, place: str, tmp_path: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    workspace = tmp_path / "workspace"
    with targets(workspace):
        owner = workspace.stat().st_uid
        done = rehearse(image, Options(engine=place, workspace=workspace, timeout=120))
    assert done.ok, (done.run, done.run.output)
    check(done.run.output["stdout"].decode(), workspace)
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern
    assert {each.stat().st_uid for each in (workspace, *workspace.iterdir())} == {owner}


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests are a user's own already")
@pytest.mark.parametrize("place", ["none", pytest.param("podman", marks=pytest.mark.engine)])
def test_no_way_leads_out_for_a_user(image: Path, place: str) -> None:
    with users_ground() as ground:
        workspace = ground / "workspace"
        shutil.copy(image, ground / "x.img")
        with targets(workspace):
            os.chown(workspace, NOBODY, NOBODY)
            done = as_user(ground, "rehearse", ground / "x.img", "--engine", place, "--workspace", workspace)
        assert done.code == 0, done
        check(done.stdout, workspace)
