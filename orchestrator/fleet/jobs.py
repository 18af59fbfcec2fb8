"""The jobs of a fleet, on its scheduler: equal work once, who waits for it, and what is tried again elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from orchestrator.documents import DocumentError
from orchestrator.errors import ExitCode
from orchestrator.events import Emit, Notice
from orchestrator.fleet.messages import ELSEWHERE, JobEnded, JobFailure, JobOrder, JobState, from_text, notice_line
from orchestrator.fleet.store import FleetStore
from orchestrator.fleet.watching import JobWatcher, Nobody

MOST_TRIES: Final = 3
"""Workers that try a job whose failures are theirs."""
_AFTERWARDS: Final = 2.0
"""Seconds that a task has to end once its answer is here."""
_HISTORY: Final = 2000
"""Lines of a job that a client which comes late still gets."""


class LostJobError(Exception):
    """The cluster gave a job up: too many workers were lost while they did it."""


@dataclass(frozen=True, kw_only=True)
class JobRun:
    """One task for the cluster: a job, which try this is, and the workers' names that are not to do it again."""

    job: Job
    attempt: int
    avoid: tuple[str, ...]


@dataclass(eq=False)
class Job:
    """A job that waits or runs. `token` is that of its last run: what an earlier one says is not heard any more."""

    order: JobOrder
    key: str
    token: int = 0
    worker: str = ""
    cancelled: bool = False
    followers: set[asyncio.Queue[str]] = field(default_factory=set)
    history: deque[str] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    ended: asyncio.Future[JobEnded] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    task: asyncio.Task[None] | None = None
    answer: asyncio.Future[str] | None = None
    """What the last run brought by itself: it must not be lost with the worker's memory."""
    kept: bool = False
    """Whether the store knows how it ended."""
    since: float = field(default_factory=time.time)
    """When it was asked for."""
    ran: float = 0.0
    """When its last run began."""

    @property
    def log(self) -> str:
        """By which who looks on knows it: a job of the same key that comes later is another one."""
        return f"{int(self.since * 1000):015}-{self.key[:12]}"

    def say(self, line: str) -> None:
        """Tell all who follow a line of `--progress json`."""
        self.history.append(line)
        for follower in self.followers:
            follower.put_nowait(line)

    def follow(self) -> asyncio.Queue[str]:
        """The lines so far, and those that come."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        for line in self.history:
            queue.put_nowait(line)
        self.followers.add(queue)
        return queue

    @property
    def state(self) -> JobState:
        """For `fleet status`."""
        return JobState(
            key=self.key, name=self.order.name, state="running" if self.worker else "waiting", worker=self.worker,
            asked_by=len(self.followers), labels=self.order.labels, since=self.ran if self.worker else self.since,
            runs=self.token,
        )  # fmt: skip


Others = Callable[[tuple[str, ...], tuple[str, ...]], Sequence[str]]
"""The workers that have these labels, without those of these names."""


class FleetJobs:
    """All in the scheduler's event loop. `run` gives a task to the cluster and returns what it answered; `watcher` is
    told of all."""

    def __init__(
        self,
        store: FleetStore,
        run: Callable[[JobRun], Awaitable[str]],
        others: Others,
        emit: Emit,
        watcher: JobWatcher | None = None,
    ) -> None:
        self._store, self._run, self._others, self._emit = store, run, others, emit
        self._watcher = watcher or Nobody()
        self.built: Callable[[str, JobEnded], Awaitable[None]] | None = None
        """Is told of each job that was built, by its key, once its files are in the store."""
        self._jobs: dict[str, Job] = {}
        self.done = self.earlier = self.failed = 0

    @property
    def states(self) -> Sequence[JobState]:
        """Of those that wait or run."""
        return [job.state for job in self._jobs.values()]

    def left(self, worker: str, why: str) -> Sequence[str]:
        """A worker has gone: the names of the jobs that it did. The cluster gives them to others."""
        jobs = [job for job in self._jobs.values() if job.worker == worker and not job.ended.done()]
        for job in jobs:
            self._watcher.waits(job.log, why)
        return [job.order.name for job in jobs]

    async def stop(self) -> None:
        """The scheduler ends. Who follows a job is not told that it ended, for it did not."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_AFTERWARDS)

    def find(self, key: str) -> Job | None:
        """A job that has not ended."""
        return self._jobs.get(key)

    def ask(self, order: JobOrder) -> Job | JobEnded:
        """The job of an order: a new one, one that runs already, or how it ended earlier."""
        key = order.key
        if (job := self._jobs.get(key)) is not None:
            return job
        if order.options.takes_earlier and (earlier := self._store.result(key)) is not None:
            self.earlier += 1
            return earlier.model_copy(update={"earlier": True})
        job = self._jobs[key] = Job(order=order, key=key)
        job.task = asyncio.get_running_loop().create_task(self._work(job))
        return job

    def leave(self, job: Job, follower: asyncio.Queue[str]) -> None:
        """A client waits no longer; a job for which none does is cancelled."""
        job.followers.discard(follower)
        if not job.followers and not job.ended.done():
            job.cancelled = True
            self._jobs.pop(job.key, None)
            self._watcher.ended(job.log, "stopped", "nobody waits for it any more")
            if job.task is not None:
                job.task.cancel()

    def begin(self, key: str, worker: str) -> int:
        """The token of a run that begins; 0 for a job that nobody waits for any more."""
        job = self._jobs.get(key)
        if job is None:
            return 0
        before = job.worker
        again = f"{job.order.name} goes on at {worker}" + (f"; {before} was lost" if before else "")
        job.token, job.worker, job.ran = job.token + 1, worker, time.time()
        self._watcher.began(job.log, project=job.order.name, worker=worker, labels=job.order.labels, number=job.token)
        if job.token > 1:
            self._say(job, again)
            self._emit(Notice(text=again))
        return job.token

    def hear(self, key: str, token: int, lines: Sequence[str]) -> bool:
        """Hand on what a run says; False when it is not the job's last run, and should stop."""
        job = self._jobs.get(key)
        if job is None or job.token != token:
            return False
        for line in lines:
            job.say(line)
        self._watcher.said(job.log, lines)
        return True

    def _say(self, job: Job, text: str) -> None:
        """A note of the scheduler's, to all."""
        line = notice_line(text)
        job.say(line)
        self._watcher.said(job.log, [line])

    def end(self, key: str, token: int, text: str) -> bool:
        """A run brings its answer; False when it is not the job's last one. What is taken is kept, also if we are
        killed now."""
        job = self._jobs.get(key)
        if job is None or job.token != token or job.answer is None or job.answer.done():
            return False
        with suppress(LostJobError):
            self._keep(job, self._checked(job, text))
        job.answer.set_result(text)
        return True

    async def _answered(self, run: JobRun) -> str:
        """What a run brought, or else what the cluster says of it."""
        answer = run.job.answer = asyncio.get_running_loop().create_future()
        running = asyncio.ensure_future(self._run(run))
        try:
            await asyncio.wait((running, answer), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                return running.result()
            await asyncio.wait((running,), timeout=_AFTERWARDS)  # the task ends too, unless its worker is lost now
            return str(answer.result())
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await running

    async def _work(self, job: Job) -> None:
        try:
            ended = await self._tried(job)
        except asyncio.CancelledError:
            job.ended.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, a client waits for an answer
            failure = JobFailure(error=f"the fleet could not build {job.order.name}: {error}",
                                 exit_code=ExitCode.ENGINE, remedy="see what its workers say")  # fmt: skip
            ended = JobEnded(worker=job.worker, token=job.token, failure=failure)
        finally:
            self._jobs.pop(job.key, None)
        if ended.failure is None:
            self._keep(job, ended)
            self.done += 1
        else:
            self.failed += 1
        with suppress(asyncio.InvalidStateError):
            job.ended.set_result(ended)
        if ended.failure is None and self.built is not None:
            await self.built(job.key, ended)
        why = "" if ended.failure is None else ended.failure.error
        self._watcher.ended(job.log, "built" if ended.failure is None else "failed", why)

    async def _tried(self, job: Job) -> JobEnded:
        """How it ended, on the last worker that tried."""
        avoid: tuple[str, ...] = ()
        for attempt in range(1, MOST_TRIES + 1):
            job.worker = ""
            text = await self._answered(JobRun(job=job, attempt=attempt, avoid=avoid))
            ended = self._checked(job, text)
            failure = ended.failure
            avoid = (*avoid, ended.worker)
            if failure is None or failure.exit_code not in ELSEWHERE or attempt == MOST_TRIES:
                break
            if not self._others(job.order.labels, avoid):
                break
            self._say(job, f"{job.order.name} failed on {ended.worker} ({failure.error}); trying another worker")
            self._watcher.waits(job.log, f"it failed on {ended.worker}")
        return ended

    def _keep(self, job: Job, ended: JobEnded) -> None:
        if ended.failure is None and not job.kept:
            self._store.remember(job.key, ended)
            job.kept = True

    def _checked(self, job: Job, text: str) -> JobEnded:
        try:
            ended = from_text(JobEnded, text)
        except DocumentError as error:
            raise LostJobError(f"a worker's answer makes no sense ({error})") from error
        if ended.failure is None and not (ended.files and all(self._store.has(file.sha256) for file in ended.files)):
            raise LostJobError(f"{ended.worker} said that it was done, and brought no files")
        if ended.token != job.token:
            raise LostJobError(f"{ended.worker} answered for an earlier run")
        return ended
