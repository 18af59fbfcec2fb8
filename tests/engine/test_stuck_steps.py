"""Processes that wait, as a step does whose Docker daemon died just before it started it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.engine.base import Engine

WAITS = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
MADE = """\
mount -t tmpfs none "$1" && mkdir -p "$1$3" && mount -t tmpfs none "$1$3" && cp "$2" "$1/runc"
chroot "$1" /runc $4 >/dev/null 2>&1 &
echo $!
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "waits.c").write_text(WAITS)
    subprocess.run(["gcc", "-static", "-o", "waits", "waits.c"], cwd=tmp_path, check=True)
    return tmp_path / "waits"


@pytest.fixture
def waiting(tmp_path: Path, program: Path) -> Iterator[dict[str, int]]:
    """Such processes: one of ours, one with nothing of ours, and one that has been started."""
    pids = {}
    unshare = ["unshare", "--mount" if os.getuid() == 0 else "--map-root-user", "--mount"]
    for name, point, words in (
        ("ours", "/orchestrator/staging", "init"),
        ("of others", "/other/staging", "init"),
        ("started", "/orchestrator/staging", "list"),
    ):
        root = tmp_path / name
        root.mkdir()
        done = subprocess.run([*unshare, "sh", "-c", MADE, "sh", root, program, point, words], check=True,
                              capture_output=True, text=True)  # fmt: skip
        pids[name] = int(done.stdout)
    deadline = time.monotonic() + 10
    while any(b"runc" not in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids.values()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield pids
    for pid in pids.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.engine
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_a_step_that_nobody_will_start_ends(engine: Engine, waiting: dict[str, int]) -> None:
    engine.end_killed()
    deadline = time.monotonic() + 5
    while lives(waiting["ours"]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert {name: lives(pid) for name, pid in waiting.items()} == {"ours": False, "of others": True, "started": True}
