"""How outside inputs are reached: the cache, the mirrors, the limits, and where the progress goes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from orchestrator.errors import InputError, OrchestratorError
from orchestrator.events import Emit, StepFinished, StepProgress, StepStarted, ignore
from orchestrator.inputs.model import redirect
from orchestrator.inputs.store import Store

STAGE = "inputs"
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Time in seconds, size in bytes. `attempts` counts tries in a row that brought nothing new."""

    connect: float = 20.0
    stall: float = 60.0
    total: float = 3600.0
    attempts: int = 5
    backoff: float = 1.0
    backoff_max: float = 30.0
    redirects: int = 10
    size: int = 64 * 2**30


@dataclass(frozen=True, kw_only=True)
class Access:
    """What every fetch needs. `refresh` asks again for what has no pin; `cancelled` stops running downloads."""

    store: Store
    emit: Emit = ignore
    mirrors: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    refresh: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)

    def redirected(self, url: str) -> str:
        """Where `url` is really fetched from."""
        return redirect(url, self.mirrors)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Run the body as one step of the progress; the step fails with the body's error."""
        step = Step(id=f"input-{next(_numbers)}", emit=self.emit, cancelled=self.cancelled)
        started = time.monotonic()
        self.emit(StepStarted(id=step.id, stage=STAGE, title=title))
        error = "stopped"
        try:
            yield step
            error = ""
        except OrchestratorError as failure:
            error = failure.message
            raise
        finally:
            seconds = time.monotonic() - started
            self.emit(StepFinished(id=step.id, seconds=seconds, cached=step.cached, error=error))


@dataclass(kw_only=True)
class Step:
    """A running step. Set `cached` when nothing had to be done."""

    id: str
    emit: Emit
    cancelled: threading.Event
    cached: bool = False
    _shown: float = 0.0

    def progress(self, done: int, total: int) -> None:
        """Show `done` of `total` bytes (0 = unknown), a few times a second; InputError when cancelled."""
        if self.cancelled.is_set():
            raise InputError("stopped")
        now = time.monotonic()
        if now - self._shown >= 0.2 or done == total:
            self._shown = now
            self.emit(StepProgress(id=self.id, done=done, total=total))
