"""The steps of one running build: their state, their last lines, and the events that tell of them."""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import dataclass, field

from orchestrator.engine.mask import Mask
from orchestrator.events import Emit, StepFinished, StepOutput, StepStarted

TAIL_LINES = 200
"""How many last lines of a step are kept. Ours, because engines clip: BuildKit drops a step's log past 1 MiB."""
MAX_LINE = 16 * 1024
"""A longer line is cut into lines of this many characters: a progress bar without newlines must not grow."""
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass(kw_only=True)
class Step:
    """One step: `title` is the instruction as the engine prints it, `stage` its stage's name or number."""

    id: str
    stage: str
    title: str
    began: float
    mask: Mask = field(default_factory=Mask, repr=False)
    ended: bool = False
    error: str = ""
    partial: dict[int, str] = field(default_factory=dict)
    """Unfinished lines, by output stream where the engine tells them apart."""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    shared: set[str] = field(default_factory=set)
    """Stages whose lines may be among `tail`, because the engine did not say whose they are."""

    def text(self) -> str:
        """The last lines, an unfinished one included."""
        return "\n".join([*self.tail, *self.unfinished()])

    def unfinished(self) -> list[str]:
        """What stands in lines that have no end yet."""
        return [line for line in (_shown(rest, self.mask) for rest in self.partial.values()) if line]


class Steps:
    """Turns what an engine's stream says into events; keeps the tails. Secrets are hidden by `mask` in all of them."""

    def __init__(self, emit: Emit, mask: Mask | None = None) -> None:
        self._emit = emit
        self.mask = mask or Mask()
        self._steps: dict[str, Step] = {}

    def __getitem__(self, key: str) -> Step:
        return self._steps[key]

    def __contains__(self, key: str) -> bool:
        return key in self._steps

    def running(self) -> list[Step]:
        """Steps that have started and not ended, in the order in which they started."""
        return [step for step in self._steps.values() if not step.ended]

    def start(self, key: str, *, stage: str, title: str) -> Step:
        """A step begins; one that is known already goes on."""
        if key not in self._steps:
            self._steps[key] = Step(id=key, stage=stage, title=title, began=time.monotonic(), mask=self.mask)
            self._emit(StepStarted(id=key, stage=stage, title=title))
        return self._steps[key]

    def output(self, key: str, text: str, also: tuple[Step, ...] = (), *, stream: int = 0) -> None:
        """`text` was written by step `key`, any number of lines and parts of lines, to output `stream`.

        `also` are steps that may have written it as well: it goes into their tails, but is shown once.
        """
        step = self._steps[key]
        lines, step.partial[stream] = self._split(step.partial.get(stream, "") + text.replace("\r\n", "\n"))
        if lines:
            self._emit(StepOutput(id=key, text="\n".join(lines)))
        step.tail.extend(lines)
        for other in also:
            other.tail.extend(lines)
            other.shared.add(step.stage)
            step.shared.add(other.stage)

    def finish(self, key: str, *, cached: bool = False, error: str = "", seconds: float | None = None) -> None:
        """A step ends, once; `seconds` is the engine's own measure where it has one."""
        step = self._steps[key]
        if step.ended:
            return
        error = self.mask(error)
        for rest in step.unfinished():
            self._emit(StepOutput(id=key, text=rest))
            step.tail.append(rest)
        step.partial.clear()
        step.ended, step.error = True, error
        took = time.monotonic() - step.began if seconds is None else seconds
        self._emit(StepFinished(id=key, seconds=max(took, 0.0), cached=cached, error=error))

    def close(self, error: str = "") -> None:
        """The build is over: whatever runs has ended."""
        for step in self.running():
            self.finish(step.id, error=error)

    def _split(self, text: str) -> tuple[list[str], str]:
        """Whole lines without ANSI codes, and the unfinished rest. A carriage return rewrites its line."""
        *lines, rest = text.split("\n")
        # What ends the rest may be half of a secret: a cut never goes through that.
        while len(rest) > MAX_LINE + self.mask.reach:
            rest = self.mask(rest)
            lines.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        return [_shown(line, self.mask) for line in lines], rest


def _shown(line: str, mask: Mask) -> str:
    """Masked before it is cut, and again without the codes that may have stood inside of a secret."""
    return mask(_clean(mask(line)))


def _clean(line: str) -> str:
    return ANSI.sub("", line[:MAX_LINE]).rstrip("\r").rsplit("\r", 1)[-1]
