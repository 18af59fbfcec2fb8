"""Builds of single projects in processes of their own: what they say comes back as events, results and errors."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Event as Flag
from threading import Lock
from typing import TYPE_CHECKING

from orchestrator import process
from orchestrator.cli.console import debugging, say
from orchestrator.documents import Document, DocumentError, parse_document
from orchestrator.errors import ExitCode, Finding, OrchestratorError
from orchestrator.events import Emit, Event, Notice, StepStarted
from orchestrator.resources import PACKAGE

if TYPE_CHECKING:
    from orchestrator.build.last_build import Asked
    from orchestrator.build.result import Result

_LONGEST = 64 << 20
"""Bytes of a process's answer."""
_TAIL = 20
"""Last lines of a process that are shown where it ends without an answer."""


class StoppedError(Exception):
    """A build that was stopped, or not begun, because we end."""


class BuildProcesses:
    """Runs `build PROJECT` with the `options` of the command, one process a project. Used by several threads.

    Their events go to `emit`, with the project's name before the stage's.
    """

    def __init__(self, options: Sequence[str], emit: Emit) -> None:
        self._options = options
        self._emit = emit
        self._debug = debugging()  # of the main thread
        self._lock = Lock()
        self._running: set[process.Background] = set()
        self._stopped = Flag()

    def stop(self) -> None:
        """Interrupt those that run, as Ctrl-C would; none begins any more."""
        with self._lock:
            self._stopped.set()
            for running in self._running:
                running.terminate()

    def build(self, asked: Asked) -> Result:
        """Build one project; the error is as in this process. StoppedError after `stop`."""
        if self._stopped.is_set():
            raise StoppedError
        loaded = asked.checked.loaded
        path = str(loaded.path)
        options = [*self._options, *(["--debug"] if self._debug else [])]
        said = Said(loaded.project.name, self._emit, others=self._debug)
        ended = process.follow(
            build_command(options, path), env=build_environment(), line=said.take, running=self._while_running
        )
        if self._stopped.is_set() and ended.status:
            raise StoppedError
        if ended.status:
            raise failure_of(ended, said.tail, path)
        return _result(asked)

    @contextmanager
    def _while_running(self, running: process.Background) -> Iterator[None]:
        with self._lock:
            self._running.add(running)
            if self._stopped.is_set():
                running.terminate()
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(running)


def build_command(options: Sequence[str], path: str) -> list[str]:
    """The command that builds one project as a process of its own."""
    # Not from the current directory, which is a project's: what lies there is nobody's module.
    command = [sys.executable, "-P", "-m", "orchestrator", "build", *options, "--progress", "json", "--json"]
    return [*command, "--annotations", "none", "--", path]  # who starts it tells the CI system


def build_environment() -> dict[str, str]:
    """What it needs of variables besides ours: where this program is."""
    return {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])}


class Said:
    """What a process says: its events are handed on; of anything else the end is kept, or with `others` it is said."""

    def __init__(self, name: str, emit: Emit, *, others: bool) -> None:
        from orchestrator.cli.event_lines import event_of  # late: the models take a while

        self._event_of = event_of
        self._name = name
        self._emit = emit
        self._others = others
        self.tail: deque[str] = deque(maxlen=_TAIL)

    def take(self, line: str) -> None:
        """One line of its stderr."""
        event = self._event_of(line) if line.startswith("{") else None
        if event is not None:
            self.emit(event)
            return
        self.tail.append(line)
        if self._others:
            say(line)

    def emit(self, event: Event) -> None:
        """Hand on an event, with the project's name."""
        if isinstance(event, Notice):
            self._emit(event)
        elif isinstance(event, StepStarted):
            stage = f"{self._name}/{event.stage}" if event.stage else self._name
            self._emit(replace(event, id=f"{self._name}/{event.id}", stage=stage))
        else:
            self._emit(replace(event, id=f"{self._name}/{event.id}"))


class _Failure(Document):
    """What a process answers as JSON when its build failed."""

    error: str
    exit_code: ExitCode
    remedy: str = ""
    detail: str = ""
    findings: tuple[Finding, ...] = ()


def failure_of(ended: process.CompletedProcess, tail: Iterable[str], path: str) -> OrchestratorError:
    """The failure that a process answered; where it could not answer, how it ended."""
    try:
        failure = parse_document(_Failure, ended.output, newer=True, limit=_LONGEST)
    except DocumentError:
        how = f"was killed by signal {-ended.status}" if ended.status < 0 else f"ended with status {ended.status}"
        return OrchestratorError(
            f"the process that built {path} {how}",
            remedy="if memory ran out, use a smaller --jobs; else build this project alone and read what it says",
            detail="\n".join(tail),
        )
    error = OrchestratorError(failure.error, remedy=failure.remedy, findings=failure.findings, detail=failure.detail)
    error.exit_code = failure.exit_code
    return error


def _result(asked: Asked) -> Result:
    """What the process wrote."""
    from orchestrator.build.result import Result
    from orchestrator.receipt.read import load_receipt, receipt_path

    receipt = receipt_path(asked.image)
    return Result(image=asked.image, receipt=receipt, document=load_receipt(receipt))
