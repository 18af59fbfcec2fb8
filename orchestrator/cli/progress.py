"""Events -> what a person (tty, plain) or a program (json) reads on stderr while a build runs."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from threading import Event as Flag
from threading import Lock, Thread
from typing import TextIO

from orchestrator.amounts import seconds
from orchestrator.cli.runner_log import shown, shown_json
from orchestrator.cli.shown_steps import Progress, Tally, head_of, is_dull, shortened, title_of
from orchestrator.cli.transfers import Transfer
from orchestrator.events import ENDED_BY_OTHERS, Event, Notice, StepFinished, StepOutput, StepProgress, StepStarted
from orchestrator.text import coloured, lines_of, paragraph


class JsonProgress(Progress):
    """One JSON object a line, as docs/events.md says."""

    def __init__(self, stream: TextIO) -> None:
        from orchestrator.cli.event_lines import line_of  # late: the models take a while, and few read them

        self._line_of = line_of
        self._stream = stream
        self._lock = Lock()

    def emit(self, event: Event) -> None:
        with self._lock:
            print(shown_json(json.dumps(self._line_of(event).model_dump())), file=self._stream, flush=True)


@dataclass(kw_only=True)
class _PlainStep:
    started: StepStarted
    since: float
    number: int = 0
    """0 while its first line is held back."""
    told: float = 0.0
    transfer: Transfer = field(default_factory=Transfer)


class PlainProgress(Progress):
    """Lines for logs: a step's start, output and end, numbered; one line for a short step, none for a cached one."""

    HOLD = 0.5
    """Seconds for which a step's first line waits, in case the step ends at once."""
    AMOUNTS = 10.0
    """Seconds between two lines on how far a transfer is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()
        self._steps: dict[str, _PlainStep] = {}
        self._numbered = 0
        self._tally = Tally()
        self._over = Flag()
        self._clock = Thread(target=self._tick, daemon=True)

    def __enter__(self) -> PlainProgress:
        self._clock.start()
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        self._over.set()
        self._clock.join()
        if kind is None and not self.failed and self._tally.steps:
            self._print(str(self._tally))

    def emit(self, event: Event) -> None:
        with self._lock:
            match event:
                case StepStarted():
                    self._steps[event.id] = _PlainStep(started=event, since=time.monotonic())
                case StepOutput():
                    self._output(event)
                case StepProgress():
                    self._amount(event)
                case StepFinished():
                    self._finish(event)
                case Notice() if self._tally.news(event):
                    self._print(paragraph(f"{event.level}: {event.text}"))

    def _print(self, line: str) -> None:
        print(shown(line), file=self._stream, flush=True)

    def _tick(self) -> None:
        while not self._over.wait(self.HOLD / 2):
            with self._lock:
                late = time.monotonic() - self.HOLD
                for key in [key for key, step in self._steps.items() if not step.number and step.since < late]:
                    self._begin(key)

    def _begin(self, key: str) -> None:
        """A step takes a while and has not shown anything yet."""
        self._print(self._head(self._steps[key]))

    def _head(self, step: _PlainStep) -> str:
        self._numbered += 1
        step.number = self._numbered
        return f"#{step.number} {head_of(step.started.stage)}{title_of(step.started.title)}"

    def _output(self, event: StepOutput) -> None:
        if (step := self._steps.get(event.id)) is None:
            return
        if not step.number:
            self._print(self._head(step))
        for line in lines_of(event.text):
            self._print(f"#{step.number} {coloured(line)}")

    def _amount(self, event: StepProgress) -> None:
        step, now = self._steps.get(event.id), time.monotonic()
        if step is None:
            return
        step.transfer.take(event)
        if step.number and now - max(step.told, step.since) > self.AMOUNTS:
            step.told = now
            self._print(f"#{step.number} {step.transfer}")

    def _finish(self, event: StepFinished) -> None:
        step = self._steps.pop(event.id, None)
        self._tally.finished(event)
        if step is None or (not step.number and is_dull(step.started, event)):
            return
        ended = event.error or ("cached" if event.cached else "done")
        what = ended if ended in ("cached", "done", *ENDED_BY_OTHERS) else f"ERROR: {shortened(ended, 300)}"
        head = f"#{step.number}" if step.number else f"{self._head(step)}:"
        self._print(f"{head} {what} {seconds(event.seconds)}")


def make_progress(kind: str, stream: TextIO | None = None) -> Progress:
    """`kind` is auto|tty|plain|json; auto is tty on a terminal. Where no cursor can be moved, tty is plain."""
    stream = stream or sys.stderr
    if kind == "json":
        return JsonProgress(stream)
    if kind in ("auto", "tty") and stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb"):
        from orchestrator.cli.tty_progress import TtyProgress  # late: rich takes a while

        return TtyProgress(stream)
    return PlainProgress(stream)
