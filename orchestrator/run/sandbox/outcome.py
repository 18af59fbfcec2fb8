"""What a rehearsal is asked, and what it found."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator.amounts import seconds
from orchestrator.guest.model import Guest

Severity = Literal["error", "limit", "note"]
"""error: the guest would have stopped there; limit: the guest can't; note: most programs do without it."""
VsockHandler = Callable[[int, int], Path | None]
"""(CID, port) → the Unix stream socket that stands for it, already listening; None refuses the connection."""
OutputSink = Callable[[str, bytes], None]
"""Is told (stdout|stderr, bytes) as the program writes them."""


@dataclass(frozen=True, kw_only=True)
class Limits:
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
class Machine:
    """The guest as a program sees it: its kernel's table, the kernel's own version, and what the image says.

    `shares` are the image's `mounts` (%N → where), `uname` what its attribute of that name replaces.
    """

    guest: Guest
    version: str
    program: Program
    limits: Limits
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
class Violation:
    """Something the program did that the guest can't, or that fails there. `code` is stable, `count` how often."""

    code: str
    message: str
    count: int = 1
    severity: Severity = "limit"

    def __str__(self) -> str:
        return self.message + (f" ({self.count} times)" if self.count > 1 else "")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A path that the program opened for reading, with the number of times."""

    path: str
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a program ended. `status` as wait(2) gives it; `end` is exit|signal|timeout|memory|disk|threads.

    `peak` is bytes (None = could not be read); `counted` says where that figure is from: process (asked as it
    ended), cgroup, or polled while it ran.
    """

    status: int
    end: str
    seconds: float
    peak: int | None
    counted: str
    violations: tuple[Violation, ...]
    opened: tuple[Opened, ...] = ()
    output: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def exit_code(self) -> int | None:
        """What the program returned; None when a signal ended it."""
        return None if self.status & 0x7F else self.status >> 8 & 0xFF

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it."""
        number = self.status & 0x7F
        if not number:
            return None
        try:
            return signal.Signals(number).name
        except ValueError:
            return f"signal {number}"

    @property
    def errors(self) -> tuple[Violation, ...]:
        """What would have stopped the real guest. The rehearsal goes on, so that all of it is found at once."""
        return tuple(violation for violation in self.violations if violation.severity == "error")

    @property
    def ok(self) -> bool:
        """Ended by itself with 0, and did nothing that stops the real guest."""
        return self.end == "exit" and self.exit_code == 0 and not self.errors

    def words(self, limits: Limits) -> str:
        """How it ended, for a person."""
        if self.end == "timeout":
            return f"the program did not end within {limits.timeout:g} s and was stopped"
        if self.end == "memory":
            return f"the program exceeded {limits.memory} MiB of memory and was stopped"
        if self.end == "disk":
            return f"the program added more than {limits.disk} MiB to its workspace and was stopped"
        if self.end == "threads":
            return f"the program had more than {limits.threads} threads and was stopped"
        if self.end == "signal":
            hint = {"SIGABRT": " (abort)", "SIGSEGV": " (a bad memory access)", "SIGSYS": " (a bad system call)"}
            return f"the program was ended by {self.signal}{hint.get(self.signal or '', '')}"
        return f"the program ended with exit code {self.exit_code} after {seconds(self.seconds)}"

    def reason(self, limits: Limits) -> str:
        """Why it isn't ok, for a person."""
        return f"the real guest would have stopped: {self.errors[0].message}" if self.errors else self.words(limits)

    def to_dict(self) -> dict[str, Any]:
        """For --json; sizes in bytes, times in seconds."""
        return {
            "ok": self.ok,
            "end": self.end,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "seconds": round(self.seconds, 3),
            "peak_memory": self.peak,
            "peak_memory_from": self.counted,
            "violations": [
                {"code": v.code, "message": v.message, "count": v.count, "severity": v.severity}
                for v in self.violations
            ],
            "errors": [v.message for v in self.errors],
            "stdout": self.output.get("stdout", b"").decode(errors="replace"),
            "stderr": self.output.get("stderr", b"").decode(errors="replace"),
        }
