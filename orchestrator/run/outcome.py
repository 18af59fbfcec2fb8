"""How a program ended, wherever it ran: in the sandbox or in a machine. What workflow, CLI and --json speak of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.run.node.task import ProgramResult

Severity = Literal["error", "limit", "note"]
"""error: the guest would have stopped there; limit: the guest can't; note: most programs do without it."""
End = Literal["exit", "signal", "timeout", "memory", "disk", "threads", "powered-off", "guest", "stub", "emulator"]
"""exit: by itself; signal: by one; timeout, memory, disk, threads: stopped at that limit; powered-off: the machine did,
and its program's exit code isn't known; guest: its kernel gave up; stub: its kernel is none; emulator: QEMU failed."""


@dataclass(frozen=True, kw_only=True)
class Violation:
    """Something the program did that the guest can't, or that fails there. `code` is stable, `count` how often."""

    code: str
    message: str
    count: int = 1
    severity: Severity = "limit"

    def __str__(self) -> str:
        return self.message + (f" ({self.count} times)" if self.count > 1 else "")

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"code": self.code, "message": self.message, "count": self.count, "severity": self.severity}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a program ended, and what it left.

    `ok`: it ended well, and did nothing that stops the real guest; its answer to a task doesn't count. `exit_code`:
    what it returned, None where that isn't known. `reason`: how it ended, in words. `place`: none, an engine's kind,
    or the machine's accelerator. `status`: raw, as wait(2) or QEMU gave it. `output`: by stream (stdout and stderr, or
    serial). `result`: its answer, None without a task. `peak` is bytes (None: not known), `counted` where that figure
    is from: process (asked as it ended), cgroup, or polled while it ran.
    """

    ok: bool
    end: End
    exit_code: int | None
    reason: str
    seconds: float = 0.0
    ran_on: str = ""
    status: int | None = None
    signal: str | None = None
    output: Mapping[str, bytes] = field(default_factory=dict)
    result: ProgramResult | None = None
    peak: int | None = None
    counted: str = ""
    violations: tuple[Violation, ...] = ()

    @property
    def errors(self) -> tuple[Violation, ...]:
        """What would have stopped the real guest. A rehearsal goes on, so that all of it is found at once."""
        return tuple(violation for violation in self.violations if violation.severity == "error")

    @property
    def program_failure(self) -> str | None:
        """Why it isn't ok, for a person, whatever it answered to its task; None where it is."""
        if self.ok:
            return None
        return f"the real guest would have stopped: {self.errors[0].message}" if self.errors else self.reason

    @property
    def failure(self) -> str | None:
        """The same; and of a program that ended well, what it answered was wrong with its task."""
        if not self.ok or self.result is None:
            return self.program_failure
        return self.result.error

    @property
    def log(self) -> bytes:
        """All output, stream after stream."""
        return b"".join(self.output.values())

    def to_dict(self) -> dict[str, Any]:
        """What every --json says of a program; sizes in bytes, times in seconds. `result` only with a task."""
        document = {
            "ok": self.failure is None,
            "end": self.end,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "reason": self.failure or self.reason,
            "seconds": round(self.seconds, 3),
            "peak_memory": self.peak,
            "violations": [violation.to_dict() for violation in self.violations],
        }
        return document if self.result is None else {**document, "result": self.result.to_dict()}
