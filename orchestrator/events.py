"""What a build says while it runs, as typed events. Producers yield or emit them; the CLI shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StepStarted:
    """A step began. `id` is unique in one build; `stage` is the Containerfile stage or a phase of ours."""

    id: str
    stage: str
    title: str


@dataclass(frozen=True, kw_only=True)
class StepOutput:
    """Text that a step wrote: whole lines, no trailing newline, may be several. `id` of a started step."""

    id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """How far a step is: `done` of `total` `unit` (total 0 = unknown)."""

    id: str
    done: int
    total: int
    unit: str = "B"


@dataclass(frozen=True, kw_only=True)
class StepFinished:
    """A step ended. `seconds` is wall time; `error` is "" when it succeeded."""

    id: str
    seconds: float
    cached: bool = False
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something the user should read: never for progress. `level` is "note" or "warning"."""

    text: str
    level: str = "note"


ENDED_BY_OTHERS = ("stopped", "interrupted")
"""`StepFinished.error` of a step that another's failure, or the user, ended."""
Event = StepStarted | StepOutput | StepProgress | StepFinished | Notice
Emit = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """An `Emit` for callers that show nothing."""
