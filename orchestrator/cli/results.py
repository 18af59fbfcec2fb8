"""A program's result on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.console import answer

if TYPE_CHECKING:
    from orchestrator.run.node.task import ProgramResult

_SHOWN = 200
"""Bytes of a result that are shown as text."""


def answer_result(result: ProgramResult, *, kept: bool) -> None:
    """Data and files; `kept` when the workspace stays."""
    text = result.data.decode(errors="replace")
    short = len(result.data) <= _SHOWN and text.isprintable() and text
    answer(f"result: {text if short else f'{len(result.data)} bytes of data'}")
    if result.files:
        answer(f"files: {', '.join(result.files)}{'' if kept else ' (removed; use --workspace DIR to keep them)'}")
