"""What must hold of every finding about a malformed file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestrator.errors import Finding, Severity

Case = tuple[str, int | None, str | None, str]
"""File, line, field, part of the text; None: no line, or no field."""


def check_findings(findings: Sequence[Finding], cases: Iterable[Case], file: Path) -> None:
    """Each case has its finding, and each finding is an error of one line with the file and a remedy."""
    for _, line, field, fragment in cases:
        matching = [finding for finding in findings if fragment in str(finding)]
        assert matching, f"nothing says {fragment!r}: {[str(finding) for finding in findings]}"
        assert line is None or line in {finding.line for finding in matching}
        assert field is None or field in {finding.field for finding in matching}
    for finding in findings:
        assert finding.severity is Severity.ERROR
        assert finding.file == str(file)
        assert finding.remedy, str(finding)
        assert "\n" not in str(finding)
