"""What a program did that the guest can't, collected: one line for each kind, with how often and where first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from orchestrator.run.outcome import Severity, Violation
from orchestrator.run.sandbox.notify import Call, code_location

_SHOWN: Final = 4


@dataclass
class _Kind:
    where: str
    count: int = 0
    subjects: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Key:
    code: str
    severity: Severity
    done: str
    why: str


@dataclass
class ViolationCounter:
    """Collects. `done` says what the program did, with `{}` for the subject: a path, an address."""

    _kinds: dict[_Key, _Kind] = field(default_factory=dict)

    def add(
        self, call: Call, code: str, done: str, why: str, *, subject: str = "", severity: Severity = "limit"
    ) -> None:
        """Count one."""
        key = _Key(code, severity, done, why)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(code_location(call.pid, call.address))
        kind.count += 1
        if subject:
            kind.subjects.setdefault(subject)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """One for each kind, in the order of their first; what stops the guest comes first of all."""
        violations = [_violation(key, kind) for key, kind in self._kinds.items()]
        return tuple(sorted(violations, key=lambda violation: violation.severity != "error"))


def _violation(key: _Key, kind: _Kind) -> Violation:
    subjects = list(kind.subjects)
    done = key.done.replace("{}", subjects[0]) if subjects else key.done
    more = ""
    if len(subjects) > 1:
        shown = ", ".join(subjects[1 : 1 + _SHOWN])
        more = f"; and {len(subjects) - 1} more: {shown}{', …' if len(subjects) > 1 + _SHOWN else ''}"
    where = f" at {kind.where}" if kind.where else ""
    return Violation(
        code=key.code,
        message=f"the program {done}{where}; {key.why}{more}",
        count=kind.count,
        severity=key.severity,
    )
