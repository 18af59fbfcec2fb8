"""Collecting what is wrong in one file, so that all of it is said at once and each with its line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.errors import Finding, OrchestratorError, Severity, UsageError


def nearest_line(lines: Mapping[str, int], name: str) -> int | None:
    """The line of the field `name` or of its nearest parent in `lines`."""
    while name:
        if name in lines:
            return lines[name]
        cut = max(name.rfind("."), name.rfind("["))
        name = name[:cut] if cut > 0 else ""
    return None


@dataclass(kw_only=True)
class Findings:
    """Findings about one file (or about none: a machine, an engine), in the order in which they were found.

    `lines`: dotted field -> 1-based line; a finding gets the line of its field or of the nearest one above it, else
    `otherwise`. `prefix` stands before every field in what is shown, and not in `lines`.
    """

    file: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    otherwise: int | None = None
    prefix: str = ""
    collected: list[Finding] = field(default_factory=list)

    def error(self, code: str, where: str, message: str, remedy: str = "", *, line: int | None = None) -> Finding:
        """Something that stops: `where` is the field ("" = the file), `line` one that is known better."""
        return self.add(Severity.ERROR, code, where, message, remedy, line=line)

    def warning(self, code: str, where: str, message: str, remedy: str = "") -> Finding:
        """Something that works, but probably not as meant."""
        return self.add(Severity.WARNING, code, where, message, remedy)

    def note(self, code: str, where: str, message: str, remedy: str = "") -> Finding:
        """Something worth knowing."""
        return self.add(Severity.NOTE, code, where, message, remedy)

    def add(
        self, severity: Severity, code: str, where: str, message: str, remedy: str, *, line: int | None = None
    ) -> Finding:
        """One more finding, which is also returned."""
        bare = Finding(severity=severity, code=code, message=message, remedy=remedy)
        return self.locate(bare, where, line=line)

    def locate(self, finding: Finding, where: str, *, line: int | None = None) -> Finding:
        """One more finding that does not know yet where in the file it belongs."""
        if line is None:
            line = nearest_line(self.lines, where) or self.otherwise
        placed = replace(finding, file=self.file, line=line, field=f"{self.prefix}{where}" or None)
        self.collected.append(placed)
        return placed

    def extend(self, findings: Iterable[Finding]) -> None:
        """Findings that know their place."""
        self.collected.extend(findings)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Those that stop."""
        return tuple(finding for finding in self.collected if finding.severity is Severity.ERROR)

    def failure(self) -> UsageError:
        """One UsageError for all the findings of the file, in the order of their lines."""
        ordered = tuple(
            sorted(self.collected, key=lambda finding: (finding.line or 0, finding.field or "", finding.message))
        )
        count = len(ordered)
        return UsageError(
            f"{self.file} has {count} error{'s' if count != 1 else ''}",
            remedy="correct what is listed and run again",
            findings=ordered,
        )

    def raise_if_errors(self, message: str, kind: type[OrchestratorError] = UsageError) -> None:
        """Raise a `kind` with everything that was found, when an error is among it."""
        if self.errors:
            raise kind(message, findings=tuple(self.collected))
