"""Temporary directories of ours: one that is in use stays, one of a killed command goes with what it started."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator.rpc import socket_directory
from orchestrator.temporary import OwnDirectory, own_directory, sweep

_KILLED = """
import os, signal, sys, pathlib
from orchestrator import process
from orchestrator.temporary import OwnDirectory
made = OwnDirectory("test", pathlib.Path(sys.argv[1]))
(made.path / "secret").write_text("canary")
started = process.start(["sleep", "1000"], log=made.path / "log")
made.adopt(started.pid)
print(started.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_what_a_killed_command_left_goes_with_the_next(place: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(place)], stdout=subprocess.PIPE, check=False)
    (left,) = place.iterdir()
    assert sweep(dry_run=True) == [left]
    assert (left / "secret").read_text() == "canary"
    with own_directory("test", place) as own:
        assert list(place.iterdir()) == [own]
    status = Path(f"/proc/{int(ended.stdout)}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] in "ZX"
    assert list(place.iterdir()) == []


def test_what_is_in_use_or_not_ours_stays(place: Path) -> None:
    used = OwnDirectory("test", place)
    (place / "orchestrator-x").mkdir()
    (place / "orchestrator-y").symlink_to(used.path)
    (place / "orchestrator-z").write_text("")
    assert sweep() == []
    assert len(list(place.iterdir())) == 4
    used.close()
    assert not used.path.exists()


def test_directories_that_nobody_may_write_to_go_as_well(place: Path) -> None:
    with own_directory("test", place) as own:
        (own / "a/b").mkdir(parents=True)
        (own / "a/b/file").touch()
        for folder in (own / "a/b", own / "a"):
            folder.chmod(0)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("letter", ["x", "é"])
@pytest.mark.parametrize("length", range(44, 70, 5))
def test_a_socket_of_a_rehearsal_has_room_whatever_tmpdir_is(
    length: int, letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's path may have 107 bytes. TMPDIRs of 54 to 59 ended in "AF_UNIX path too long"."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        place = Path(short) / (letter * (length - len(short) - 1))
        place.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        with socket_directory("rehearse") as folder, socket.socket(socket.AF_UNIX) as listening:
            (folder / "launcher/socket").mkdir(parents=True)
            listening.bind(str(folder / "launcher/socket/socket"))
