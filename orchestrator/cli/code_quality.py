"""GitLab's report of code quality, which a merge request shows beside its lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from orchestrator.documents import Document, DocumentError, plain, read_document
from orchestrator.errors import Finding, Severity
from orchestrator.files import write_text


class _Lines(Document):
    begin: int


class _Location(Document):
    path: str
    lines: _Lines


class _QualityRow(Document):
    """A row of GitLab's report."""

    description: str
    check_name: str
    fingerprint: str
    severity: Literal["info", "minor", "major", "critical", "blocker"]
    location: _Location


def write_report(path: Path, rows: Iterable[tuple[Finding, str]], files: Iterable[str]) -> None:
    """Write findings with their paths in the sources. What an earlier command found in other files than these, and
    than `files`, which were looked at, stays. OSError.
    """
    new = [_quality_row(finding, at) for finding, at in rows]
    ours = {row.location.path for row in new} | set(files)
    kept = [row for row in _read_rows(path) if row.location.path not in ours]
    write_text(path, json.dumps([plain(row) for row in (*kept, *new)], indent=2) + "\n")


def _quality_row(finding: Finding, path: str) -> _QualityRow:
    message = str(replace(finding, file=None))
    identity = "\0".join((path, finding.code, finding.field or "", message))
    return _QualityRow(
        description=message,
        check_name=f"orchestrator/{finding.code}",
        fingerprint=hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest(),
        severity="major" if finding.severity is Severity.ERROR else "minor",
        location=_Location(path=path, lines=_Lines(begin=finding.line or 1)),
    )


def _read_rows(path: Path) -> Sequence[_QualityRow]:
    """The rows of an earlier command of the job; none where there is no report, or not one of this form."""
    try:
        return read_document(path, tuple[_QualityRow, ...])
    except (OSError, DocumentError):
        return ()
