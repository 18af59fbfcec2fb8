"""Events -> what a person (tty, plain) or a program (json) reads on stderr while a build runs."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from threading import Event as Flag
from threading import Lock, Thread
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from orchestrator.amounts import seconds, size
from orchestrator.cli.runner_log import shown, shown_json
from orchestrator.events import ENDED_BY_OTHERS, Event, Notice, StepFinished, StepOutput, StepProgress, StepStarted
from orchestrator.text import coloured, lines_of, one_line, paragraph, plain

# Instructions that only set the scene. One that takes long (a FROM that pulls) or fails is shown all the same.
_SCENERY = re.compile(r"(?:FROM|LABEL|ENV|ARG|WORKDIR|USER)\b")
_SCENERY_SECONDS = 1.0


class Progress:
    """A context manager whose `emit` shows events. Safe to call from several threads."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to release by default."""

    def emit(self, event: Event) -> None:
        """Show one event."""


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
class _Tally:
    """What a run has seen so far, for its last line; and the notices, each of which is shown once."""

    began: float = field(default_factory=time.monotonic)
    steps: int = 0
    cached: int = 0
    notices: set[str] = field(default_factory=set)

    def finished(self, event: StepFinished) -> None:
        self.steps += 1
        self.cached += event.cached

    def news(self, notice: Notice) -> bool:
        """Whether this was not said before (two bases may lack the same registry)."""
        known = notice.text in self.notices
        self.notices.add(notice.text)
        return not known

    def __str__(self) -> str:
        cached = f", {self.cached} cached" if self.cached else ""
        return f"{self.steps} step{'s' if self.steps != 1 else ''}{cached}, {seconds(time.monotonic() - self.began)}"


def _dull(started: StepStarted, event: StepFinished) -> bool:
    """Whether the end of a step that showed nothing is worth no line: cached ones are counted instead."""
    if event.error:
        return False
    return event.cached or (event.seconds < _SCENERY_SECONDS and _SCENERY.match(started.title) is not None)


@dataclass(kw_only=True)
class _PlainStep:
    started: StepStarted
    since: float
    number: int = 0
    """0 while its first line is held back."""
    told: float = 0.0


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
        self._tally = _Tally()
        self._over = Flag()
        self._clock = Thread(target=self._tick, daemon=True)

    def __enter__(self) -> PlainProgress:
        self._clock.start()
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        self._over.set()
        self._clock.join()
        if kind is None and self._tally.steps:
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
        return f"#{step.number} [{step.started.stage}] {_title(step.started.title)}"

    def _output(self, event: StepOutput) -> None:
        if (step := self._steps.get(event.id)) is None:
            return
        if not step.number:
            self._print(self._head(step))
        for line in lines_of(event.text):
            self._print(f"#{step.number} {coloured(line)}")

    def _amount(self, event: StepProgress) -> None:
        step, now = self._steps.get(event.id), time.monotonic()
        if step is not None and step.number and now - max(step.told, step.since) > self.AMOUNTS:
            step.told = now
            self._print(f"#{step.number} {_amount(event)}")

    def _finish(self, event: StepFinished) -> None:
        step = self._steps.pop(event.id, None)
        self._tally.finished(event)
        if step is None or (not step.number and _dull(step.started, event)):
            return
        ended = event.error or ("cached" if event.cached else "done")
        what = ended if ended in ("cached", "done", *ENDED_BY_OTHERS) else f"ERROR: {_short(ended, 300)}"
        head = f"#{step.number}" if step.number else f"{self._head(step)}:"
        self._print(f"{head} {what} {seconds(event.seconds)}")


class TtyProgress(Progress):
    """Finished steps scroll by as lines; running ones stay at the bottom with their time and last output."""

    TAIL = 3

    def __init__(self, stream: TextIO) -> None:
        self._lock = Lock()
        self._running: dict[str, tuple[StepStarted, float]] = {}
        self._tails: dict[str, deque[str]] = {}
        self._done: dict[str, StepProgress] = {}
        self._tally = _Tally()
        self._console = Console(file=stream, highlight=False)
        # Live asks for the view at once.
        self._live = Live(
            console=self._console,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,  # answers stay on stdout
            get_renderable=self._view,
        )

    def __enter__(self) -> TtyProgress:
        self._live.start()
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        self._live.stop()
        if kind is None and self._tally.steps:
            self._console.print(Text.assemble(("✓", "green"), f" {self._tally}"))

    def emit(self, event: Event) -> None:
        with self._lock:
            line = self._take(event)
        # Not under our lock: printing takes rich's, and whoever draws holds that one when it asks for ours in `_view`.
        if line is not None:
            self._console.print(line)

    def _take(self, event: Event) -> Text | None:
        """Take note of an event; the line to print, if it gives one."""
        match event:
            case StepStarted():
                self._running[event.id] = (event, time.monotonic())
            case StepOutput():
                tail = self._tails.setdefault(event.id, deque(maxlen=self.TAIL))
                tail.extend(shown for line in lines_of(event.text) if (shown := plain(line)).strip())
            case StepProgress():
                self._done[event.id] = event
            case StepFinished():
                return self._finish(event)
            case Notice() if self._tally.news(event):
                style = "yellow" if event.level == "warning" else "cyan"
                return Text(paragraph(f"{event.level}: {event.text}"), style=style)
        return None

    def _finish(self, event: StepFinished) -> Text | None:
        self._tally.finished(event)
        started, _ = self._running.pop(event.id, (None, 0.0))
        self._tails.pop(event.id, None)
        self._done.pop(event.id, None)
        if started is None or _dull(started, event):
            return None
        failed = event.error and event.error not in ENDED_BY_OTHERS
        mark = ("✗", "red") if failed else ("-", "dim") if event.error else ("✓", "green")
        return self._row(mark, started, event.seconds)

    def _row(self, mark: tuple[str, str], started: StepStarted, took: float) -> Text:
        """One line, cut to the width of the terminal with the time kept."""
        end = f"  {seconds(took)}"
        room = self._console.width - len(started.stage) - len(end) - 5
        title = _short(_title(started.title), max(room, 12))
        return Text.assemble(mark, f" [{started.stage}] ", title, (end, "dim"), no_wrap=True, overflow="ellipsis")

    def _view(self) -> Group:
        # rich calls this from its own thread
        with self._lock:
            rows: list[Text] = []
            for key, (started, since) in self._running.items():
                rows.append(self._row(("•", "blue"), started, time.monotonic() - since))
                told = [_amount(self._done[key])] if key in self._done else []
                for line in [*told, *self._tails.get(key, ())]:
                    rows.append(Text(f"    {' '.join(line.split())}", style="dim", no_wrap=True, overflow="ellipsis"))
            if self._tally.steps:
                rows.append(Text(f"  {self._tally}", style="dim", no_wrap=True, overflow="ellipsis"))
            return Group(*rows)


def _amount(progress: StepProgress) -> str:
    show = size if progress.unit == "B" else lambda n: f"{n:.0f} {progress.unit}"
    return f"{show(progress.done)} of {show(progress.total)}" if progress.total else show(progress.done)


def _title(text: str) -> str:
    """A step's instruction without the mounts that every RUN has, and on one line."""
    return _short(re.sub(r"--mount=\S+\s+", "", text), 160)


def _short(text: str, width: int) -> str:
    line = one_line(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def make_progress(kind: str, stream: TextIO | None = None) -> Progress:
    """`kind` is auto|tty|plain|json; auto is tty on a terminal that can move its cursor and plain elsewhere."""
    stream = stream or sys.stderr
    if kind == "auto":
        kind = "tty" if stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb") else "plain"
    match kind:
        case "json":
            return JsonProgress(stream)
        case "tty":
            return TtyProgress(stream)
        case _:
            return PlainProgress(stream)
