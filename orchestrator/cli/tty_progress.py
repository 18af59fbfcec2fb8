"""A build on a terminal: finished steps scroll by, those that run are drawn at the bottom, side by side."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event as Flag
from threading import Lock, Thread
from typing import TextIO

from rich.text import Text

from orchestrator.amounts import seconds
from orchestrator.cli.live_area import LiveArea
from orchestrator.cli.shown_steps import Progress, Tally, head_of, is_dull, shortened, title_of
from orchestrator.cli.transfers import Transfer
from orchestrator.events import ENDED_BY_OTHERS, Event, Notice, StepFinished, StepOutput, StepProgress, StepStarted
from orchestrator.text import lines_of, paragraph, plain

_TAIL = 6
"""Last lines of a step's output that are shown, where there is room."""
_SIDE_BY_SIDE = 110
"""Columns from which on two steps stand beside each other: half of that still shows a compiler's line."""
_GAP = "   "
_UNICODE = {"done": "✓", "failed": "✗", "stopped": "-", "running": "•", "bar": "━╸─"}
_ASCII = {"done": "+", "failed": "x", "stopped": "-", "running": "*", "bar": "=>-"}


@dataclass(kw_only=True)
class _Running:
    started: StepStarted
    since: float
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))
    transfer: Transfer | None = None


class TtyProgress(Progress):
    """Finished steps are lines that stay; a running one is drawn with its time, how far it is, and its last lines."""

    INTERVAL = 0.125
    """Seconds between two drawings."""

    def __init__(self, stream: TextIO) -> None:
        self._lock = Lock()
        self._running: dict[str, _Running] = {}
        self._tally = Tally()
        self._area = LiveArea(stream)
        self._glyphs = _ASCII if self._area.plain_glyphs else _UNICODE
        self._over = Flag()
        self._clock = Thread(target=self._tick, daemon=True)

    def __enter__(self) -> TtyProgress:
        self._area.start()
        self._clock.start()
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        self._over.set()
        self._clock.join()
        mark = ("failed", "red") if self.failed else ("done", "green")
        counted = Text.assemble((self._glyphs[mark[0]], mark[1]), f" {self._tally}")
        self._area.stop(counted if kind is None and self._tally.steps else None)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._area.stop()
        try:
            yield
        finally:
            self._area.start()

    def emit(self, event: Event) -> None:
        with self._lock:
            line = self._take(event)
        # Not under our lock: who draws holds the area's and asks for ours in `_view`.
        if line is not None:
            self._area.above(line)

    def _tick(self) -> None:
        while not self._over.wait(self.INTERVAL):
            self._area.draw(self._view)

    def _take(self, event: Event) -> Text | None:
        """Take note of an event; the line to print, if it gives one."""
        match event:
            case StepStarted():
                self._running[event.id] = _Running(started=event, since=time.monotonic())
            case StepOutput() if event.id in self._running:
                tail = self._running[event.id].tail
                tail.extend(shown for line in lines_of(event.text) if (shown := plain(line)).strip())
            case StepProgress() if event.id in self._running:
                step = self._running[event.id]
                step.transfer = step.transfer or Transfer()
                step.transfer.take(event)
            case StepFinished():
                return self._finish(event)
            case Notice() if self._tally.news(event):
                style = "yellow" if event.level == "warning" else "cyan"
                return Text(paragraph(f"{event.level}: {event.text}"), style=style)
        return None

    def _finish(self, event: StepFinished) -> Text | None:
        self._tally.finished(event)
        step = self._running.pop(event.id, None)
        if step is None or is_dull(step.started, event):
            return None
        failed = event.error and event.error not in ENDED_BY_OTHERS
        mark = ("failed", "red") if failed else ("stopped", "dim") if event.error else ("done", "green")
        return self._head(mark, step.started, event.seconds, self._area.size().columns)

    def _head(self, mark: tuple[str, str], started: StepStarted, took: float, width: int) -> Text:
        """One line, cut to `width` with the time kept."""
        end = f"  {seconds(took)}"
        stage = head_of(shortened(started.stage, max(width // 3, 8)))
        room = width - len(stage) - len(end) - 3
        title = shortened(title_of(started.title), max(room, 4))
        return Text.assemble((self._glyphs[mark[0]], mark[1]), f" {stage}", title, (end, "dim"))

    def _view(self, size: os.terminal_size) -> list[Text]:
        """What is drawn. Called from the clock's thread."""
        with self._lock:
            across = 2 if size.columns >= _SIDE_BY_SIDE and len(self._running) > 1 else 1
            width = (size.columns - 1 - len(_GAP) * (across - 1)) // across
            lines = size.lines - 2  # the count, and where the cursor stands after a line that stays
            fitting = max(lines // 2, 1) * across
            steps, more = list(self._running.values())[:fitting], len(self._running) - fitting
            ranks = -(-len(steps) // across)
            tail = min(_TAIL, max(lines // ranks - 2, 0)) if ranks else 0
            blocks = [self._block(step, width, tail) for step in steps]
            rows = [row for at in range(0, len(blocks), across) for row in _beside(blocks[at : at + across], width)]
            counts = [f"and {more} more"] if more > 0 else []
            counts += [str(self._tally)] if self._tally.steps else []
            return [*rows, Text(f"  {', '.join(counts)}", style="dim")] if counts else rows

    def _block(self, step: _Running, width: int, tail: int) -> list[Text]:
        """A running step's lines: what it does, how far it is, what it said last."""
        rows = [self._head(("running", "blue"), step.started, time.monotonic() - step.since, width)]
        if step.transfer is not None:
            rows.append(Text("    ") + step.transfer.line(width - 4, self._glyphs["bar"]))
        last = list(step.tail)[-tail:] if tail else []
        return [*rows, *(Text(f"    {' '.join(line.split())}", style="dim") for line in last)]


def _beside(blocks: Sequence[list[Text]], width: int) -> list[Text]:
    """Blocks of lines as columns of `width`."""
    rows = []
    for number in range(max(map(len, blocks))):
        row = Text()
        for column, block in enumerate(blocks):
            cell = block[number] if number < len(block) else Text()
            cell.truncate(width, overflow="ellipsis", pad=column < len(blocks) - 1)
            row.append_text(cell if column == 0 else Text(_GAP) + cell)
        rows.append(row)
    return rows
