"""How outside inputs are reached: the cache, the mirrors, the limits, and where the progress goes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from orchestrator.errors import InputError, OrchestratorError
from orchestrator.events import Emit, Notice, StepFinished, StepProgress, StepStarted, ignore
from orchestrator.inputs.known import Known, known_files, other_than_known
from orchestrator.inputs.store import Store
from orchestrator.network import is_plain
from orchestrator.project.mirrors import redirect
from orchestrator.resolved import InputName, Pin

STAGE = "inputs"
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """Time in seconds, size in bytes. `attempts` counts tries in a row that brought nothing new.

    `stall` is the longest pause; `answer` the time for a connection, and then for the whole header of the answer.
    """

    connect: float = 20.0
    stall: float = 60.0
    answer: float = 90.0
    total: float = 3600.0
    attempts: int = 5
    backoff: float = 1.0
    backoff_max: float = 30.0
    redirects: int = 10
    size: int = 64 * 2**30


@dataclass(frozen=True, kw_only=True)
class Access:
    """What every fetch needs.

    `pins` say what an input must be (the lock), `known` what a vendor's file must be (by its address); `refresh` asks
    again for what has no pin; `offline` fetches nothing; `own_mirrors` are those of the user's own settings;
    `cancelled` stops running downloads; `before_making` is called before a base is made of packages, and raises where
    the build can't succeed; `pulled` are the images that this resolution pulled; `began` is when it did (seconds since
    1970).
    """

    store: Store
    emit: Emit = ignore
    mirrors: Mapping[str, str] = field(default_factory=dict)
    own_mirrors: Mapping[str, str] = field(default_factory=dict)
    limits: FetchLimits = FetchLimits()
    refresh: bool = False
    offline: bool = False
    pins: Mapping[str, Pin] = field(default_factory=dict)
    known: Mapping[str, Known] = field(default_factory=known_files)
    cancelled: threading.Event = field(default_factory=threading.Event)
    before_making: Callable[[], None] = lambda: None
    pulled: set[str] = field(default_factory=set)
    began: float = field(init=False, default_factory=time.time)

    def redirected(self, url: str) -> str:
        """Where `url` is really fetched from."""
        return redirect(url, self.mirrors)

    @property
    def newer_than(self) -> float:
        """What was fetched before this time has to be asked for again (0: nothing has)."""
        return self.began if self.refresh else 0.0

    def expected(self, name: InputName | None) -> str | None:
        """The SHA-256 that the lock asks of a downloaded input, or None."""
        pin = self.pins.get(name) if name is not None else None
        return None if pin is None else pin.values.get("sha256")

    @contextmanager
    def step(self, title: str) -> Iterator[FetchStep]:
        """Run the body as one step of the progress; the step fails with the body's error."""
        step = FetchStep(id=f"input-{next(_numbers)}", emit=self.emit, cancelled=self.cancelled)
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
class FetchStep:
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


def warn_of_plain(access: Access, url: str, shown: str, remedy: str) -> None:
    """Warn of an address without TLS, where nothing says what must come from there."""
    if is_plain(url) and not access.offline:
        text = f"{shown} is fetched over {url.partition(':')[0]}, and nothing pins its content; {remedy}"
        access.emit(Notice(text=text, level="warning"))


def against_known(access: Access, shown: str, known: Known, actual: str | None, wanted: str) -> None:
    """A pin that isn't what is known of a vendor's file: a warning if project.yaml gives it, else an InputError."""
    if actual != wanted:
        raise other_than_known(f"{shown}: the lock says its sha256 is", wanted, known)
    text = f"{shown}: project.yaml gives another sha256 than the one known to be good, {known.sha256} ({known.source})"
    access.emit(Notice(text=text, level="warning"))


def not_in_cache(what: str) -> InputError:
    """The error for an input that is not there and, with --offline, may not be fetched."""
    return InputError(
        f"{what} is not in the input cache, and --offline forbids fetching it",
        remedy="run `orchestrator lock PROJECT.YAML` with network access, or `orchestrator cache import` a bundle",
    )


def differs(what: str, name: str, expected: str, actual: str) -> InputError:
    """The error for an input that isn't what the lock says."""
    return InputError(
        f"{what}: {actual}, but the lock says {expected}",
        remedy=f"if you expected this change, run `orchestrator lock PROJECT.YAML --upgrade {name}`;"
        " otherwise do not use it",
    )
