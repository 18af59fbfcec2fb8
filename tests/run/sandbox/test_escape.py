"""A program that tries to get out of its rehearsal, as root's and as a user's: all of it is refused, everywhere."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.run.sandbox.rehearsal import RehearseOptions, rehearse
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


WITHOUT_EFFECT = {
    *("chmod to set-uid", "fchmod to set-uid", "fchmodat to set-uid", "chown to another", "capset"),
    *("a higher limit of files' sizes", "a core", "settimeofday", "clock_settime", "new privileges"),
    "socket of family 40",
}
"""What the guest answers with success and doesn't do; a vsock is a pair of ours. What came of it is looked at."""


def check(output: str, workspace: Path) -> None:
    """Every line says refused, or nothing came of it, and nothing is left behind."""
    lines = output.splitlines()
    assert lines[-1:] == ["the end"], output
    done = {line.removeprefix("DONE ").rpartition(" (")[0] for line in lines[:-1] if not line.startswith("refused ")}
    assert done == WITHOUT_EFFECT, output
    assert len(lines) > 120, output
    assert sorted(path.name for path in workspace.iterdir()) == ["f", "targets"]
    status = (workspace / "f").stat()
    assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID)


@dataclass
class Look:
    """What this machine's kernel says of the program, once it has begun to write. Told of its output."""

    workspace: Path
    rows: dict[str, str] = field(default_factory=dict)

    def __call__(self, _stream: str, _data: bytes) -> None:
        if self.rows:
            return
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str(self.workspace) in (process / "mountinfo").read_text():
                    status = (process / "status").read_text().splitlines()
                    rows = dict(line.split(":", 1) for line in status)
                    if rows["Seccomp"].strip() == "2" and rows["Name"].strip() == "prog":
                        self.rows = {name: value.strip() for name, value in rows.items()}
                        self.rows["limits"] = (process / "limits").read_text()

    def check(self) -> None:
        """No capability, no way to new ones, and the limits are where they were."""
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(self.rows[name], 16) == 0, self.rows
        assert self.rows["NoNewPrivs"] == "1"
        limits = {line[:26].strip(): line[26:].split() for line in self.rows["limits"].splitlines()}
        assert limits["Max core file size"][:2] == ["0", "0"]
        assert limits["Max file size"][1] != "unlimited"


def test_no_way_leads_out(image: Path, rehearsal_engine: str, tmp_path: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    workspace = tmp_path / "workspace"
    with targets(workspace):
        owner = workspace.stat().st_uid
        look, now = Look(workspace), time.time() - time.monotonic()
        done = rehearse(image, RehearseOptions(engine=rehearsal_engine, workspace=workspace, timeout=120, sink=look))
    assert abs(time.time() - time.monotonic() - now) < 1  # the clock was not set
    look.check()
    assert done.ok, (done.run, done.run.output)
    check(done.run.output["stdout"].decode(), workspace)
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern
    assert {path.stat().st_uid for path in (workspace, *workspace.iterdir())} == {owner}


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests are a user's own already")
@pytest.mark.parametrize("rehearsal_engine", ["none", pytest.param("podman", marks=pytest.mark.engine)])
def test_no_way_leads_out_for_a_user(image: Path, rehearsal_engine: str) -> None:
    with users_ground() as ground:
        workspace = ground / "workspace"
        shutil.copy(image, ground / "x.img")
        with targets(workspace):
            os.chown(workspace, NOBODY, NOBODY)
            done = as_user(ground, "rehearse", ground / "x.img", "--engine", rehearsal_engine, "--workspace", workspace)
        assert done.code == 0, done
        check(done.stdout, workspace)
