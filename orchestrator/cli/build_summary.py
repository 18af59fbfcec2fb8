"""A job's summary: what was built, as a Markdown table for a CI system's page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.amounts import seconds, size
from orchestrator.cli.console import as_user_error
from orchestrator.errors import OrchestratorError
from orchestrator.receipt.changes import list_changes
from orchestrator.receipt.receipt import Receipt
from orchestrator.text import one_line

_COLUMNS: Final = (
    "project",
    "result",
    "image",
    "size",
    "BLAKE3",
    "time",
    "cached steps",
    "changed since the last receipt",
)
_LONGEST: Final = 600
"""Characters of a cell."""
_MARKUP: Final = re.compile(r"[&<>|`*_\[\]~\\!#@$]")


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """How the build of one project ended. `seconds` is None where there was nothing to do; `before`: the receipt that
    was there.
    """

    name: str
    state: str
    seconds: float | None
    receipt: Receipt | None
    failure: Exception | None
    before: Receipt | None


def summarise(rows: Sequence[SummaryRow], failure: BaseException | None) -> str:
    """Markdown, with a final newline. `failure`: what ended the command."""
    lines = ["### Images", "", _row(_COLUMNS), _row(["---"] * len(_COLUMNS))]
    lines += [_row(_cells(row)) for row in rows]
    if not rows:
        lines = ["### Images", ""]
    listed = list(_listed(rows))
    if failure is not None and not any(row.failure for row in rows):
        listed += [f"- {cell(text)}" for text in _said_of(failure)]
    return "\n".join([*lines, *([""] if listed else []), *listed, "", ""])


def cell(text: str) -> str:
    """Text from anywhere as one cell, or one line: nothing in it is markup, or ends either."""
    line = one_line(" ".join(text.split()))
    line = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", line)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: SummaryRow) -> list[str]:
    took = seconds(row.seconds) if row.seconds is not None else ""
    receipt = row.receipt
    if receipt is None:
        return [cell(row.name), row.state, "", "", "", took, "", ""]
    cached = f"{sum(step.cached for step in receipt.stages)} of {len(receipt.stages)}"
    return [
        cell(row.name),
        row.state,
        f"<code>{cell(receipt.image.path)}</code>" + ("" if receipt.bootable else " (a stand-in: not bootable)"),
        size(receipt.image.size),
        f"<code>{receipt.image.blake3}</code>",
        took,
        cached if row.seconds is not None else "",
        _changed(row.before, receipt),
    ]


def _changed(before: Receipt | None, now: Receipt) -> str:
    if before is None:
        return "there was none"
    return "<br>".join(cell(change) for change in list_changes(before, now)) or "nothing"


def _listed(rows: Sequence[SummaryRow]) -> Iterator[str]:
    """Failures and warnings, which are longer than cells."""
    for row in rows:
        if row.failure is not None:
            yield from (f"- **{cell(row.name)}** failed: {cell(text)}" for text in _said_of(row.failure))
        elif row.receipt is not None:
            yield from (f"- {cell(row.name)}: warning: {cell(warning.text)}" for warning in row.receipt.warnings)


def _said_of(failure: BaseException) -> list[str]:
    known = as_user_error(failure) if isinstance(failure, OSError) else failure
    if not isinstance(known, OrchestratorError):
        return [f"{type(failure).__name__}: {failure}"]
    if known.findings:
        return [str(finding) for finding in known.findings]
    return [f"{known.message}{f'; {known.remedy}' if known.remedy else ''}"]
