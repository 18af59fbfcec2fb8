"""How far transfers are: amounts, rates, the time that is left, and a bar."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.amounts import seconds, size
from orchestrator.events import StepProgress

if TYPE_CHECKING:
    from rich.text import Text

_WINDOW = 5.0
"""Seconds over which a rate is taken: shorter, it jumps; longer, it hides that a mirror has become slow."""
_SETTLED = 0.5
"""Seconds after which a rate says something."""
_BAR = (8, 30)
"""Columns: below the first a bar says nothing, above the second it says no more."""


class Transfer:
    """One transfer, as its events come. Of what is not counted in bytes there is no rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = StepProgress(id="", done=0, total=0)
        self._samples: deque[tuple[float, int]] = deque()

    def take(self, event: StepProgress) -> None:
        """Note how far it is. Where less is done than before, it has begun anew."""
        now = self._clock()
        if event.done < self._last.done:
            self._samples.clear()
        self._last = event
        self._samples.append((now, event.done))
        while len(self._samples) > 2 and self._samples[1][0] < now - _WINDOW:
            self._samples.popleft()

    @property
    def rate(self) -> float | None:
        """Bytes a second, lately; None while it can't be said. One that stands still becomes slower."""
        if self._last.unit != "B" or not self._samples:
            return None
        since, before = self._samples[0]
        took = self._clock() - since
        return (self._last.done - before) / took if took >= _SETTLED and self._last.done > before else None

    @property
    def remaining(self) -> float | None:
        """Seconds until it is done at this rate; None where that is not known."""
        left, rate = self._last.total - self._last.done, self.rate
        return left / rate if rate and left > 0 else None

    def __str__(self) -> str:
        """`120.3 MiB of 318.0 MiB  24.1 MiB/s  8s left`."""
        return "  ".join([_amount(self._last), *self._pace(" left")])

    def line(self, width: int, glyphs: str = "━╸─") -> Text:
        """The same in `width` columns, with a bar where there is room. `glyphs`: done, half done, to do."""
        from rich.text import Text  # late: it takes a while

        share = min(self._last.done / self._last.total, 1.0) if self._last.total > 0 else None
        said = str(self)
        if share is not None and len(said) + 2 + _BAR[0] > width:
            said = "  ".join([f"{share * 100:.0f}%", *self._pace("")])
        room = min(width - len(said) - 2, _BAR[1])
        if share is None or room < _BAR[0]:
            return Text(said, style="dim")
        return Text.assemble(*_bar(share, room, glyphs), (f"  {said}", "dim"))

    def _pace(self, left: str) -> list[str]:
        rate, remaining = self.rate, self.remaining
        said = [f"{size(rate)}/s"] if rate is not None else []
        return [*said, f"{_rounded(remaining)}{left}"] if remaining is not None else said


def _rounded(duration: float) -> str:
    """A guess has no tenths."""
    return seconds(duration) if duration >= 60 else f"{max(duration, 1):.0f}s"


def _bar(share: float, room: int, glyphs: str) -> list[tuple[str, str]]:
    halves = int(share * room * 2)
    full, half = divmod(halves, 2)
    return [
        (glyphs[0] * full + glyphs[1] * half, "blue" if share < 1 else "green"),
        (glyphs[2] * (room - full - half), "dim"),
    ]


def _amount(progress: StepProgress) -> str:
    if progress.unit != "B":
        return f"{progress.done} of {progress.total} {progress.unit}" if progress.total else str(progress.done)
    return f"{size(progress.done)} of {size(progress.total)}" if progress.total else size(progress.done)
