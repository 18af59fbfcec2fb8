"""What a fleet's jobs say as they run, for who looks on: the last of each, in this process's memory and bounded."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

from orchestrator.web.follow import LINES, PIECE, SAID, handed_on

ENDED: Final = 40
"""Jobs that have ended and are still told of."""
_OUTPUT: Final = 64 << 10
"""Characters of a job's output that are kept, the last ones; and of all else that it says."""
_MOST_MARKS, _MOST_PROGRESS = 500, 50
_NEWCOMER: Final = 4000
"""Lines of output that one who comes anew is told, of all jobs together: of each the same."""
_LEAST: Final = 10
_KIND: Final = re.compile(r'"event":\s*"(step-output|step-progress)"')
"""Only says which of three lists a line is kept in: that a worker can make it another one is no matter."""
_KIND_WITHIN: Final = 200


@dataclass(eq=False)
class _Entry:
    number: int
    text: str
    event: dict[str, Any] | None = None
    read: bool = False

    @property
    def line(self) -> dict[str, Any] | None:
        """What is handed on of it: read when the first one who looks on asks, and not in the scheduler's loop."""
        if not self.read:
            event = handed_on(self.text.encode(errors="replace"))
            # How a job begins and ends is not the worker's to say.
            self.event = event if event is not None and event["event"] in SAID else None
            self.read, self.text = True, ""
        return self.event


class _Tail:
    """The last entries, so many and of so many characters."""

    def __init__(self, most: int, characters: int = _OUTPUT) -> None:
        self.entries: deque[tuple[_Entry, int]] = deque()
        self.dropped = 0
        """The number of the last one that is not here any more."""
        self._most, self._left = most, characters

    def add(self, entry: _Entry) -> None:
        size = len(entry.text)
        self.entries.append((entry, size))
        self._left -= size
        while len(self.entries) > 1 and (self._left < 0 or len(self.entries) > self._most):
            gone, freed = self.entries.popleft()
            self._left += freed
            self.dropped = gone.number

    def after(self, number: int) -> list[_Entry]:
        fresh = []
        for entry, _ in reversed(self.entries):
            if entry.number <= number:
                break
            fresh.append(entry)
        return fresh[::-1]


@dataclass(eq=False)
class _WatchedJob:
    last: int = 0
    """The number of its newest entry."""
    ended: bool = False
    output: _Tail = field(default_factory=lambda: _Tail(LINES))
    progress: _Tail = field(default_factory=lambda: _Tail(_MOST_PROGRESS))
    marks: _Tail = field(default_factory=lambda: _Tail(_MOST_MARKS))
    heads: list[_Entry] = field(default_factory=list)
    """How it began, and where its last run did."""


class JobBoard:
    """Is a fleet's `JobWatcher`. Told in one thread, asked in others."""

    def __init__(self) -> None:
        self._jobs: dict[str, _WatchedJob] = {}
        self._lock = Lock()
        self._number = 0

    def began(self, log: str, *, project: str, worker: str, labels: Sequence[str], number: int) -> None:
        """A run of a job begins: its first one, or all that an earlier one had begun is begun again."""
        at = time.time()
        started = {"event": "build-started", "time": at, "project": project, "file": ""}
        run = {"event": "run-started", "time": at, "worker": worker, "labels": list(labels), "number": number}
        with self._lock:
            job = self._jobs.setdefault(log, _WatchedJob())
            job.marks, job.progress = _Tail(_MOST_MARKS), _Tail(_MOST_PROGRESS)
            first = job.heads[0] if job.heads else self._own(job, started)
            job.heads = [first, self._own(job, run)]

    def said(self, log: str, lines: Sequence[str]) -> None:
        """Lines of a job's run."""
        with self._lock:
            job = self._jobs.get(log)
            for line in lines if job is not None else ():
                assert job is not None
                kind = _KIND.search(line, 0, _KIND_WITHIN)
                tail = job.marks if kind is None else job.output if kind[1] == "step-output" else job.progress
                if len(line) > PIECE:
                    text = f"{len(line)} characters of output are left out here"
                    tail.add(self._own(job, {"event": "notice", "level": "note", "text": text}))
                    continue
                tail.add(_Entry(self._next(job), line))

    def waits(self, log: str, why: str) -> None:
        """A job waits for another worker."""
        with self._lock:
            if (job := self._jobs.get(log)) is not None:
                job.marks.add(self._own(job, {"event": "run-over", "time": time.time(), "why": why}))

    def ended(self, log: str, status: str, error: str) -> None:
        """A job has ended."""
        with self._lock:
            job = self._jobs.get(log)
            if job is None:
                return
            job.ended = True
            last = {"event": "build-finished", "time": time.time(), "status": status, "error": error}
            job.marks.add(self._own(job, last))
            self._jobs[log] = self._jobs.pop(log)  # by when they ended
            ended = [name for name, other in self._jobs.items() if other.ended]
            for name in ended[:-ENDED]:
                del self._jobs[name]

    def follow(self) -> JobFollower:
        """What is said from now on, after the last of what was."""
        return JobFollower(self)

    def fresh(self, known: dict[str, int]) -> list[tuple[str, list[_Entry], bool]]:
        """Of each job with something new after the numbers `known`: its log, its entries by their number, and whether
        others were lost between these and the known ones. `known` is brought up to date."""
        with self._lock:
            most = max(_LEAST, _NEWCOMER // max(1, len(self._jobs)))
            fresh = []
            for log, job in self._jobs.items():
                number = known.get(log, 0)
                if job.last > number:
                    output = job.output.after(number)
                    heads = [entry for entry in job.heads if entry.number > number]
                    entries = [*heads, *(output if number else output[-most:]), *job.progress.after(number),
                               *job.marks.after(number)]  # fmt: skip
                    fresh.append(
                        (log, sorted(entries, key=lambda entry: entry.number), 0 < number < job.output.dropped)
                    )
            gone = [log for log in known if log not in self._jobs]
            known.update({log: self._jobs[log].last for log, _, _ in fresh})
        for log in gone:
            del known[log]
        return fresh

    def _next(self, job: _WatchedJob) -> int:
        self._number += 1
        job.last = self._number
        return self._number

    def _own(self, job: _WatchedJob, line: dict[str, Any]) -> _Entry:
        return _Entry(self._next(job), "", handed_on(line), read=True)


class JobFollower:
    """One who looks on at a board. What comes while it does not ask is not kept for it: the board's last is."""

    def __init__(self, board: JobBoard) -> None:
        self._board = board
        self._known: dict[str, int] = {}

    def poll(self) -> list[dict[str, Any]]:
        """What has been said since it last asked, with each line's `log`."""
        return list(self._lines())

    def _lines(self) -> Iterator[dict[str, Any]]:
        for log, entries, gap in self._board.fresh(self._known):
            if gap:
                yield {"log": log, "event": "notice", "level": "note", "text": "… lines are left out here"}
            for entry in entries:
                if (line := entry.line) is not None:
                    yield {"log": log, **line}
