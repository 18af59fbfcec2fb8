"""Plain progress for a CI system's log that can fold lines: a step is a section of its own, closed by default."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TextIO

from orchestrator.cli.progress import PlainProgress, make_progress
from orchestrator.cli.runner_log import command_text
from orchestrator.cli.shown_steps import Progress
from orchestrator.events import StepFinished, StepOutput, StepProgress


@dataclass(frozen=True, kw_only=True)
class GithubFolds:
    """GitHub's groups, which cannot lie in one another."""

    def start(self, _number: int, title: str) -> str:
        """The line that opens one."""
        return f"::group::{command_text(title)}"

    def end(self, _number: int) -> str:
        """The line that closes it."""
        return "::endgroup::"


@dataclass(frozen=True, kw_only=True)
class GitlabFolds:
    """GitLab's sections, named in the log alone."""

    def start(self, number: int, title: str) -> str:
        """The line that opens one."""
        return f"\x1b[0Ksection_start:{int(time.time())}:orchestrator_{number}[collapsed=true]\r\x1b[0K{title}"

    def end(self, number: int) -> str:
        """The line that closes it."""
        return f"\x1b[0Ksection_end:{int(time.time())}:orchestrator_{number}\r\x1b[0K"


FOLDS: Final[Mapping[str, GithubFolds | GitlabFolds]] = {"github": GithubFolds(), "gitlab": GitlabFolds()}


@dataclass(kw_only=True)
class _Section:
    """The lines of a step, of which the first is its title. Those that were printed are gone."""

    lines: list[str] = field(default_factory=list)
    number: int = 0
    """0 until it is open."""
    ended: bool = False
    failed: bool = False


class FoldedProgress(PlainProgress):
    """The lines of plain progress. One section at a time is open and grows; the lines of steps that run beside it wait
    until it ends. A step that failed ends with a line outside of its section, and one of a single line has none.
    """

    def __init__(self, stream: TextIO, folds: GithubFolds | GitlabFolds) -> None:
        super().__init__(stream)
        self._folds = folds
        self._sections: dict[str, _Section] = {}  # in the order in which they had something to show
        self._opened = 0
        self._of = ""  # whose line is printed: "" for what belongs to no step

    def __exit__(self, kind: object = None, *rest: object) -> None:
        with self._lock:
            for section in self._sections.values():  # of steps that never ended
                section.ended = True
            self._print_sections()
        super().__exit__(kind, *rest)

    def _print(self, line: str) -> None:
        if self._of:
            self._sections.setdefault(self._of, _Section()).lines.append(line)
        else:
            super()._print(line)

    def _begin(self, key: str) -> None:
        with self._lines_of(key):
            super()._begin(key)

    def _output(self, event: StepOutput) -> None:
        with self._lines_of(event.id):
            super()._output(event)

    def _amount(self, event: StepProgress) -> None:
        with self._lines_of(event.id):
            super()._amount(event)

    def _finish(self, event: StepFinished) -> None:
        with self._lines_of(event.id):
            super()._finish(event)
            if (section := self._sections.get(event.id)) is not None:
                section.ended, section.failed = True, bool(event.error)

    @contextmanager
    def _lines_of(self, key: str) -> Iterator[None]:
        self._of = key
        try:
            yield
        finally:
            self._of = ""
        self._print_sections()

    def _print_sections(self) -> None:
        """The sections that have ended, and what there is of the first one that has not."""
        for key in list(self._sections):
            section = self._sections[key]
            if not section.number and section.ended and len(section.lines) == 1:
                super()._print(section.lines.pop())
            else:
                self._print_section(section)
            if not section.ended:
                return
            del self._sections[key]

    def _print_section(self, section: _Section) -> None:
        if not section.number:
            self._opened += 1
            section.number = self._opened
            self._act(self._folds.start(section.number, section.lines.pop(0)))
        last = section.lines.pop() if section.failed and section.lines else ""
        for line in section.lines:
            super()._print(line)
        section.lines.clear()
        if section.ended:
            self._act(self._folds.end(section.number))
        if last:
            super()._print(last)

    def _act(self, line: str) -> None:
        """Print what whoever reads the log acts on."""
        print(line, file=self._stream, flush=True)


def make_build_progress(kind: str, folds: str, stream: TextIO | None = None) -> Progress:
    """As `make_progress`; plain lines are folded as the CI system `folds`, a key of FOLDS, reads them."""
    progress = make_progress(kind, stream)
    if folds in FOLDS and isinstance(progress, PlainProgress):
        return FoldedProgress(stream or sys.stderr, FOLDS[folds])
    return progress
