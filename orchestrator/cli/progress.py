"""Events -> what a person (tty, plain) or a program (json) reads on stderr while a build runs."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import deque
from dataclasses import asdict
from threading import Lock
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from orchestrator.events import Event, Notice, StepFinished, StepOutput, StepProgress, StepStarted

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(number: float) -> str:
    """A byte count for people: `13.2 MiB`."""
    unit = 0
    while number >= 1024 and unit < len(UNITS) - 1:
        number /= 1024
        unit += 1
    return f"{number:.0f} B" if unit == 0 else f"{number:.1f} {UNITS[unit]}"


def seconds(number: float) -> str:
    """A duration for people: `0.4s`, `12.0s`, `3m07s`."""
    return f"{number:.1f}s" if number < 60 else f"{int(number) // 60}m{int(number) % 60:02d}s"


class Progress:
    """A context manager whose `emit` shows events. Safe to call from several threads."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to release by default."""

    def emit(self, event: Event) -> None:
        """Show one event."""


class JsonProgress(Progress):
    """One JSON object a line: `{"event": "StepStarted", …fields}`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()

    def emit(self, event: Event) -> None:
        with self._lock:
            print(json.dumps({"event": type(event).__name__, **asdict(event)}), file=self._stream, flush=True)


class PlainProgress(Progress):
    """A line for everything, for logs: starts, output, ends with their times."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()
        self._numbers: dict[str, int] = {}

    def _number(self, step: str) -> int:
        return self._numbers.setdefault(step, len(self._numbers) + 1)

    def emit(self, event: Event) -> None:
        with self._lock:
            for line in self._lines(event):
                print(line, file=self._stream, flush=True)

    def _lines(self, event: Event) -> list[str]:
        match event:
            case StepStarted():
                return [f"#{self._number(event.id)} [{event.stage}] {_title(event.title)}"]
            case StepOutput():
                return [f"#{self._number(event.id)} {line}" for line in event.text.splitlines()]
            case StepFinished():
                what = "CACHED" if event.cached else f"ERROR: {event.error}" if event.error else "done"
                return [f"#{self._number(event.id)} {what} {seconds(event.seconds)}"]
            case Notice():
                return [f"{event.level}: {event.text}"]
            case StepProgress():
                return []


class TtyProgress(Progress):
    """Finished steps scroll by as lines; running ones stay at the bottom with their time and last output."""

    TAIL = 3

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=8, transient=True, get_renderable=self._view)
        self._lock = Lock()
        self._running: dict[str, tuple[StepStarted, float]] = {}
        self._tails: dict[str, deque[str]] = {}
        self._done: dict[str, StepProgress] = {}

    def __enter__(self) -> TtyProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def emit(self, event: Event) -> None:
        with self._lock:
            match event:
                case StepStarted():
                    self._running[event.id] = (event, time.monotonic())
                case StepOutput():
                    tail = self._tails.setdefault(event.id, deque(maxlen=self.TAIL))
                    tail.extend(line for line in event.text.splitlines() if line.strip())
                case StepProgress():
                    self._done[event.id] = event
                case StepFinished():
                    self._finish(event)
                case Notice():
                    style = "yellow" if event.level == "warning" else "cyan"
                    self._console.print(Text(f"{event.level}: {event.text}", style=style))

    def _finish(self, event: StepFinished) -> None:
        started = self._running.pop(event.id, None)
        self._tails.pop(event.id, None)
        self._done.pop(event.id, None)
        if started is None:
            return
        mark, style = ("✗", "red") if event.error else ("✓", "green")
        took = "cached" if event.cached else seconds(event.seconds)
        line = Text.assemble(
            (mark, style), f" [{started[0].stage}] ", _short(_title(started[0].title), 90), (f"  {took}", "dim")
        )
        self._console.print(line, soft_wrap=True)

    def _view(self) -> Group:
        # rich calls this from its own thread
        with self._lock:
            rows: list[Text] = []
            for key, (started, since) in self._running.items():
                took = seconds(time.monotonic() - since)
                rows.append(
                    Text.assemble(
                        ("•", "blue"), f" [{started.stage}] ", _short(_title(started.title), 80), (f"  {took}", "dim")
                    )
                )
                if progress := self._done.get(key):
                    rows.append(Text(f"    {_amount(progress)}", style="dim"))
                rows.extend(Text(f"    {_short(line, 110)}", style="dim") for line in self._tails.get(key, ()))
            return Group(*rows)


def _amount(progress: StepProgress) -> str:
    show = size if progress.unit == "B" else lambda n: f"{n:.0f} {progress.unit}"
    return f"{show(progress.done)} of {show(progress.total)}" if progress.total else show(progress.done)


def _title(text: str) -> str:
    """A step's instruction without the mounts that every RUN has, and on one line."""
    return _short(re.sub(r"--mount=\S+\s+", "", text), 160)


def _short(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def make_progress(kind: str, stream: TextIO | None = None) -> Progress:
    """`kind` is auto|tty|plain|json|quiet; auto is tty on a terminal and plain elsewhere."""
    stream = stream or sys.stderr
    if kind == "auto":
        kind = "tty" if stream.isatty() else "plain"
    match kind:
        case "json":
            return JsonProgress(stream)
        case "tty":
            return TtyProgress(stream)
        case "quiet":
            return Progress()
        case _:
            return PlainProgress(stream)
