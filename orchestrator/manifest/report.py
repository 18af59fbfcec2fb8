"""Collecting findings about a manifest: each with its file, line, field and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.errors import Finding, Severity
from orchestrator.project.load import nearest_line


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a manifest comes from: its file, and the field in front of its keys (`manifest.` when inline)."""

    file: str | None = None
    prefix: str = ""


@dataclass(kw_only=True)
class Report:
    """Findings about one manifest. `lines`: dotted field (without the prefix) -> 1-based line.

    `raw`: dotted field -> a value that isn't text as it is written, before a parser made `1.1` of `1.10`.
    """

    source: Source
    lines: Mapping[str, int]
    raw: Mapping[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def written(self, where: str, value: object) -> str:
        """A simple value as the user wrote it."""
        return self.raw.get(where, str(value).lower() if isinstance(value, bool) else str(value))

    def error(self, code: str, where: str, message: str, remedy: str) -> None:
        """The build would fail, or the image would not do what the manifest says."""
        self._add(Severity.ERROR, code, where, message, remedy)

    def warning(self, code: str, where: str, message: str, remedy: str) -> None:
        """It builds, but probably not as meant."""
        self._add(Severity.WARNING, code, where, message, remedy)

    def note(self, code: str, where: str, message: str, remedy: str = "") -> None:
        """Worth knowing."""
        self._add(Severity.NOTE, code, where, message, remedy)

    def _add(self, severity: Severity, code: str, where: str, message: str, remedy: str) -> None:
        line = nearest_line(self.lines, where)
        self.findings.append(
            Finding(
                severity=severity,
                code=code,
                message=message,
                remedy=remedy,
                file=self.source.file,
                line=line,
                field=f"{self.source.prefix}{where}" or None,
            )
        )
