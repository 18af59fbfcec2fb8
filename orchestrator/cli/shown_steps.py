"""What all ways of showing a build have in common: which steps are worth a line, their titles, and the count."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from orchestrator.amounts import seconds
from orchestrator.events import Event, Notice, StepFinished, StepStarted
from orchestrator.text import one_line

# Instructions that only set the scene; so does what the builder does of its own accord. One that takes long (a FROM
# that pulls) or fails is shown all the same.
_SCENERY = re.compile(r"(?:FROM|LABEL|ENV|ARG|WORKDIR|USER)\b")
_SCENERY_SECONDS = 1.0


class Progress:
    """A context manager whose `emit` shows events. Safe to call from several threads.

    `failed`: what is shown did not succeed, though no exception says so (of several builds, one failed).
    """

    failed: bool = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to release by default."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While the context lasts, the terminal is somebody else's."""
        yield

    def emit(self, event: Event) -> None:
        """Show one event."""


@dataclass(kw_only=True)
class Tally:
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


def is_dull(started: StepStarted, event: StepFinished) -> bool:
    """Whether the end of a step that showed nothing is worth no line: cached ones are counted instead."""
    if event.error:
        return False
    scenery = not started.stage or _SCENERY.match(started.title) is not None
    return event.cached or (event.seconds < _SCENERY_SECONDS and scenery)


def head_of(stage: str) -> str:
    """A step's stage, as it stands before its title; what the builder does of its own accord has none."""
    return f"[{stage}] " if stage else ""


def title_of(text: str) -> str:
    """A step's instruction without the mounts that every RUN has, and on one line."""
    return shortened(re.sub(r"--mount=\S+\s+", "", text), 160)


def shortened(text: str, width: int) -> str:
    line = one_line(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"
