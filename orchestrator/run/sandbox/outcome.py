"""What a rehearsal is asked, and how the program's end is put."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.amounts import seconds
from orchestrator.guest.table import Guest
from orchestrator.run.outcome import End, Outcome

VsockHandler = Callable[[int, int], Path | None]
"""(CID, port) → the Unix stream socket that stands for it, already listening; None refuses the connection."""
OutputSink = Callable[[str, bytes], None]
"""Is told (stdout|stderr, bytes) as the program writes them."""


@dataclass(frozen=True, kw_only=True)
class SandboxLimits:
    """The guest's: memory in MiB, processors, seconds until it counts as hanging. And this machine's: MiB that the
    program may add to its workspace, and threads."""

    memory: int
    cpus: int
    timeout: float
    disk: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Program:
    """What runs: guest path, arguments (the program's name first), environment, working directory, as in the image."""

    path: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: str = "/"
    workspace: str = "/workspace"


@dataclass(frozen=True, kw_only=True)
class GuestMachine:
    """The guest as a program sees it: its kernel's table, the kernel's own version, and what the image says.

    `shares` are the image's `mounts` (%N → where), `uname` what its attribute of that name replaces.
    """

    guest: Guest
    version: str
    program: Program
    limits: SandboxLimits
    hostname: str = ""
    uname: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, str] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether the table is this version's own."""
        return self.guest.version == self.version

    @property
    def memory(self) -> int:
        """Bytes that the guest has for itself and the program."""
        return self.guest.memory(self.limits.memory)


@dataclass(frozen=True, kw_only=True)
class OpenedPath:
    """A path that the program opened for reading, with the number of times."""

    path: str
    count: int = 1


def outcome_of_status(status: int, end: End, took: float, limits: SandboxLimits) -> Outcome:
    """How a program ended, by its status as wait(2) gives it; what it did meanwhile is for the caller to add."""
    exit_code = None if status & 0x7F else status >> 8 & 0xFF
    name = _signal(status & 0x7F)
    return Outcome(
        ok=end == "exit" and exit_code == 0,
        end=end,
        exit_code=exit_code,
        reason=_words(end, exit_code, name, took, limits),
        seconds=took,
        status=status,
        signal=name,
    )


def _signal(number: int) -> str | None:
    if not number:
        return None
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _words(end: End, exit_code: int | None, name: str | None, took: float, limits: SandboxLimits) -> str:
    if end == "timeout":
        return f"the program did not end within {limits.timeout:g} s and was stopped"
    if end == "memory":
        return f"the program exceeded {limits.memory} MiB of memory and was stopped"
    if end == "disk":
        return f"the program added more than {limits.disk} MiB to its workspace and was stopped"
    if end == "threads":
        return f"the program had more than {limits.threads} threads and was stopped"
    if end == "signal":
        hint = {"SIGABRT": " (abort)", "SIGSEGV": " (a bad memory access)", "SIGSYS": " (a bad system call)"}
        return f"the program was ended by {name}{hint.get(name or '', '')}"
    return f"the program ended with exit code {exit_code} after {seconds(took)}"
