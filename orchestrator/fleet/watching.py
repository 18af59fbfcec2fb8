"""Who looks on at a fleet: what its scheduler tells them of jobs, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class JobWatcher(Protocol):
    """Is told in the scheduler's event loop, which waits for it: it returns at once, and raises nothing.

    `log` names a job, and no other one, also where its key comes again.
    """

    def began(self, log: str, *, project: str, worker: str, labels: Sequence[str], number: int) -> None:
        """A worker begins a run of a job, its `number`th from 1; an earlier one is heard no more."""

    def said(self, log: str, lines: Sequence[str]) -> None:
        """Lines of `--progress json` of a job's run, as they came from the worker."""

    def waits(self, log: str, why: str) -> None:
        """A job's run is over without a result, and it waits for another worker."""

    def ended(self, log: str, status: str, error: str) -> None:
        """A job has ended: built, failed or stopped; why it failed. It may never have begun."""


class Nobody:
    """Looks on where nobody does."""

    def began(self, log: str, *, project: str, worker: str, labels: Sequence[str], number: int) -> None:
        """Forget it."""

    def said(self, log: str, lines: Sequence[str]) -> None:
        """Forget it."""

    def waits(self, log: str, why: str) -> None:
        """Forget it."""

    def ended(self, log: str, status: str, error: str) -> None:
        """Forget it."""
