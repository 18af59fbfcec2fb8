"""Steps that a Docker daemon's death kept from starting, and that nothing will ever start or end.

BuildKit starts a step by `runc run`. Where that dies with its daemon just before it says "go", the step's process waits
for the word for good, with the mounts of its root file system (seen with Docker 20.10 and runc 1.1, by `make
kill-test`). No daemon knows it when it starts again; of ours are those that have something of ours mounted.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

_OURS = "/orchestrator/"
"""Below it lies, in a step, what we mount."""
_STARTERS = ("runc", "dockerd", "buildkitd", "containerd-shim", "conmon")
"""Whoever may yet start such a process is its parent: as the kernel calls them."""


def end_stuck_steps() -> int:
    """SIGKILL those of this machine that we may; how many there were."""
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                if _waits(process) and not _may_start(process) and _is_ours(process):
                    os.kill(int(process.name), signal.SIGKILL)
                    count += 1
    return count


def _waits(process: Path) -> bool:
    words = (process / "cmdline").read_bytes().split(b"\0")
    return words[0].rpartition(b"/")[2] == b"runc" and words[1:] == [b"init", b""]


def _may_start(process: Path) -> bool:
    status = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    name = (process.parent / status[1] / "comm").read_text(errors="replace")
    return name.startswith(_STARTERS)


def _is_ours(process: Path) -> bool:
    lines = (process / "mountinfo").read_text(errors="replace").splitlines()
    return any(line.split(" ")[4].startswith(_OURS) for line in lines)
