"""The builds of a command as who looks on sees them (`build_logs`), beside what the command itself shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.build_logs import BuildLog, open_build_log
from orchestrator.events import Emit, Event


class LoggedBuilds:
    """Hands events on, and writes those of the build that runs into its log."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._log: BuildLog | None = None

    def emit(self, event: Event) -> None:
        """Take one event."""
        self._emit(event)
        if self._log is not None and self._log.wanted:
            from orchestrator.cli.event_lines import line_of  # late: the models take a while, and few read them

            self._log.write(line_of(event).model_dump())

    @contextmanager
    def build(self, project: str, file: str) -> Iterator[BuildLog]:
        """While one build runs. `file` is its project.yaml. One that ends without a word was stopped."""
        with open_build_log(project, file) as log:
            self._log = log
            try:
                yield log
            finally:
                self._log = None
                log.finish("stopped")
