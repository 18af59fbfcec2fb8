"""`fleet serve`: Dask's scheduler with a few operations of ours. Clients may ask for these alone, in plain data."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dask
from distributed import Client, Scheduler
from distributed.comm.core import CommClosedError
from distributed.core import Status
from distributed.scheduler import KilledWorker
from distributed.stealing import WorkStealing

from orchestrator import __version__
from orchestrator.documents import DocumentError
from orchestrator.errors import InputError, OrchestratorError
from orchestrator.events import Emit, Notice
from orchestrator.fleet.credentials import Credentials, Role
from orchestrator.fleet.guard import FleetSecurity, GuardedTLS, Rights, guard_this_process
from orchestrator.fleet.jobs import FleetJobs, Job, JobRun, LostJobError
from orchestrator.fleet.kept_receipts import KeptReceipts
from orchestrator.fleet.messages import (
    FleetState,
    JobEnded,
    JobOrder,
    LostWorker,
    WorkerState,
    from_text,
    notice_line,
    to_text,
)
from orchestrator.fleet.store import FleetStore
from orchestrator.fleet.watching import JobWatcher
from orchestrator.fleet.worker import SLOT, label_resource, run_job

CHUNK: Final = 1 << 20
_ANY: Final = frozenset({"close"})
_RIGHTS: Final = {
    Role.CLIENT: Rights(
        operations=_ANY | {"fleet_lacks", "fleet_put", "fleet_get", "fleet_build", "fleet_status"},
        streams={"fleet_put": frozenset({"data"}), "fleet_build": frozenset()},
    ),
    Role.WORKER: Rights(
        operations=_ANY
        | {"fleet_lacks", "fleet_put", "fleet_get", "fleet_begin", "fleet_events", "fleet_end"}
        | {"register-worker", "heartbeat_worker", "unregister"},
        streams={
            "fleet_put": frozenset({"data"}),
            "register-worker": frozenset(
                {"task-finished", "task-erred", "release-worker-data", "add-keys", "long-running", "keep-alive"}
                | {
                    "log-event",
                    "worker-status-change",
                    "reschedule",
                    "request-refresh-who-has",
                    "steal-response",
                    "close-stream",
                }
            ),
        },
    ),
    # Our own client: it has the scheduler's key.
    Role.SCHEDULER: Rights(
        operations=_ANY | {"register-client", "gather", "identity", "scheduler_info", "get_metadata"},
        streams={
            "register-client": frozenset(
                {"update-graph", "client-desires-keys", "client-releases-keys", "heartbeat-client", "close-client"}
                | {"cancel-keys", "close-stream", "report-key", "subscribe-topic", "unsubscribe-topic"}
            )
        },
    ),
}
_LEAVING: Final = (Status.closing, Status.closed, Status.closing_gracefully)
_WAITS: Final = {"state": "waiting", "worker": ""}
"""A job whose worker is not there: it waits for another one."""
_MOST_LOST, _MOST_NAMES = 20, 20
_CONFIGURATION: Final = {
    "distributed.scheduler.allowed-failures": 10,  # workers that are lost while they do a job, before it is given up
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.http.routes": [
        "distributed.http.scheduler.info", "distributed.http.scheduler.json", "distributed.http.health",
        "distributed.http.statics", "distributed.http.scheduler.missing_bokeh",
    ],
    "distributed.worker.profile.enabled": False,
    "distributed.admin.log-length": 100,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    """`host` may be "" for all addresses; `dashboard` is where Dask's own pages are, as HOST:PORT, or "" for none."""

    credentials: Credentials
    store: Path
    host: str = ""
    port: int = 8786
    dashboard: str = ""
    watcher: JobWatcher | None = None
    """Is told of all jobs."""
    receipts: Path | None = None
    """Where the receipts of what is built are kept, `KEPT` at most; None: nowhere but in the store."""


class FleetScheduler(Scheduler):  # type: ignore[misc]  # Dask's classes are Any to us
    """With `fleet_…` operations, and without what would run code of a peer's."""

    def __init__(self, settings: SchedulerSettings, emit: Emit) -> None:
        self._emit = emit
        self._store = FleetStore(settings.store)
        self._security = FleetSecurity(settings.credentials, lambda text: emit(Notice(text=text, level="warning")))
        self._own_client: Any = None
        self._opened = asyncio.Event()
        self._jobs = FleetJobs(self._store, self._run, self.workers_with, emit, settings.watcher)
        self._lost: dict[str, LostWorker] = {}
        if settings.receipts is not None:
            self._receipts = KeptReceipts(settings.receipts, self._store, emit)
            self._jobs.built = self._keep
        self._keeping = asyncio.Lock()
        self._pages = f"http://{settings.dashboard}/status" if settings.dashboard else ""
        super().__init__(
            host=settings.host or None, port=settings.port, protocol="tls", security=self._security,
            dashboard=bool(settings.dashboard), dashboard_address=settings.dashboard or "127.0.0.1:0",
            extensions={"stealing": WorkStealing}, jupyter=False,
        )  # fmt: skip
        allowed = frozenset().union(*(rights.operations for rights in _RIGHTS.values()))
        own: dict[str, Any] = {
            "fleet_lacks": self.fleet_lacks, "fleet_put": self.fleet_put, "fleet_get": self.fleet_get,
            "fleet_build": self.fleet_build, "fleet_status": self.fleet_status,
            "fleet_begin": self.fleet_begin, "fleet_events": self.fleet_events, "fleet_end": self.fleet_end,
        }  # fmt: skip
        dasks: dict[str, Any] = vars(self)["handlers"]
        self.handlers = {name: handler for name, handler in dasks.items() if name in allowed} | own

    def handle_comm(self, comm: GuardedTLS) -> Any:
        """Dask's, for a peer with the rights of its role."""
        if comm.role is None:
            comm.abort()
        else:
            comm.rights = _RIGHTS[comm.role]
        return super().handle_comm(comm)

    async def open(self) -> None:
        """Listen, and have a client of our own, by which the tasks get to the workers."""
        await self
        self._own_client = await Client(self.address, asynchronous=True, security=self._security, set_as_default=False,
                                        direct_to_workers=False)  # fmt: skip
        self._opened.set()

    async def shut(self) -> None:
        """End. Clients that wait lose their connection, and may order again."""
        await self._jobs.stop()
        if self._own_client is not None:
            with suppress(Exception):
                await self._own_client.close(timeout=2)
        await self.close()

    async def fleet_lacks(self, digests: Any) -> dict[str, Any]:
        """Which of these files the store has not."""
        wanted = [digest for digest in digests if isinstance(digest, str)][:10_000]
        return {"lacks": [digest for digest in wanted if not self._store.has(digest)]}

    async def fleet_put(self, comm: GuardedTLS, digest: Any, size: Any) -> Any:
        """Take a file that follows in pieces."""
        try:
            if not (isinstance(digest, str) and isinstance(size, int) and size >= 0):
                raise InputError("a peer's message makes no sense")
            with self._store.receive(digest, size) as incoming:
                while incoming.missing:
                    message = await comm.read()
                    data = message.get("data")
                    if not isinstance(data, bytes) or not data:
                        raise InputError("a peer's message makes no sense")
                    await asyncio.to_thread(incoming.write, data)
            comm.end_stream()
            await comm.write({"ok": True})
        except (OrchestratorError, OSError, ValueError) as error:
            await _fail(comm, error)
        return Status.dont_reply

    async def fleet_get(self, comm: GuardedTLS, digest: Any) -> Any:
        """Send a file in pieces, after its size."""
        try:
            path = self._store.path(digest if isinstance(digest, str) else "")
            with path.open("rb") as stream:
                size = path.stat().st_size
                await comm.write({"size": size})
                while data := await asyncio.to_thread(stream.read, CHUNK):
                    await comm.write({"data": data})
        except (OSError, ValueError) as error:
            await _fail(comm, error)
        return Status.dont_reply

    async def fleet_build(self, comm: GuardedTLS, order: Any) -> Any:
        """Have an order done: lines of progress, then how it ended. A client that leaves does not want it any more."""
        try:
            asked = from_text(JobOrder, order)
        except DocumentError as error:
            await comm.write({"error": f"the order makes no sense: {error}"})
            return Status.dont_reply
        job = self._jobs.ask(asked)
        if isinstance(job, JobEnded):
            await comm.write({"ended": to_text(job)})
        else:
            await self._follow(comm, job)
        comm.end_stream()
        return Status.dont_reply

    async def _follow(self, comm: GuardedTLS, job: Job) -> None:
        lines = job.follow()
        if not self.workers_with(job.order.labels, ()):
            labels = f" with {' and '.join(job.order.labels)}" if job.order.labels else ""
            lines.put_nowait(notice_line(f"{job.order.name} waits for a worker{labels}"))
        # Nothing may come from there but the end of the connection.
        gone = asyncio.ensure_future(comm.read())
        try:
            while not job.ended.done() or not lines.empty():
                line = asyncio.ensure_future(lines.get())
                await asyncio.wait((line, gone, job.ended), return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    line.cancel()
                    return
                if not line.done():
                    line.cancel()
                    continue
                batch = [line.result()]
                while not lines.empty() and len(batch) < 500:
                    batch.append(lines.get_nowait())
                await comm.write({"lines": batch})
            if job.ended.cancelled():  # we end
                comm.abort()
                return
            await comm.write({"ended": to_text(job.ended.result())})
        except CommClosedError:
            return
        finally:
            self._jobs.leave(job, lines)
            gone.cancel()
            with suppress(asyncio.CancelledError, CommClosedError, OSError):
                await gone

    async def fleet_status(self) -> dict[str, Any]:
        """A FleetState, as JSON."""
        return {"state": to_text(self.fleet_state())}

    def fleet_state(self) -> FleetState:
        """What `fleet status` shows."""
        workers = [
            WorkerState(name=str(worker.name), address=worker.address, slots=worker.nthreads, labels=_labels(worker),
                        running=len(worker.processing))
            for worker in self.workers.values()
        ]  # fmt: skip
        there = {worker.name for worker in workers}
        for name in there & self._lost.keys():  # it is back
            del self._lost[name]
        return FleetState(
            version=__version__, dashboard=self.pages, workers=tuple(workers),
            jobs=tuple(job if job.worker in there else job.model_copy(update=_WAITS) for job in self._jobs.states),
            done=self._jobs.done, earlier=self._jobs.earlier, failed=self._jobs.failed, lost=tuple(self._lost.values()),
        )  # fmt: skip

    async def remove_worker(self, address: str, *, stimulus_id: str, expected: bool = False, close: bool = True) -> Any:
        """Dask's. A worker that says that it ends is not lost."""
        worker = self.workers.get(address)
        if worker is not None and self.status == Status.running:
            name, leaves = str(worker.name), worker.status in _LEAVING
            jobs = tuple(self._jobs.left(name, f"{name} {'has ended' if leaves else 'was lost'}"))
            self._lost.pop(name, None)
        if worker is not None and self.status == Status.running and not leaves:
            self._lost[name] = LostWorker(name=name, slots=worker.nthreads, labels=_labels(worker), at=time.time(),
                                          jobs=jobs[:_MOST_NAMES])  # fmt: skip
            while len(self._lost) > _MOST_LOST:
                del self._lost[next(iter(self._lost))]
            did = f" while it did {', '.join(jobs[:_MOST_NAMES])}" if jobs else ""
            self._emit(Notice(text=f"{name} was lost{did}", level="warning"))
        return await super().remove_worker(address, stimulus_id=stimulus_id, expected=expected, close=close)

    async def _keep(self, key: str, ended: JobEnded) -> None:
        async with self._keeping:
            await asyncio.to_thread(self._receipts.keep, key, ended, self.address)

    @property
    def pages(self) -> str:
        """Where Dask's own pages are; "" for nowhere."""
        return self._pages

    async def fleet_begin(self, key: Any, worker: Any) -> dict[str, Any]:
        """A worker begins a run of a job: its token."""
        return {"token": self._jobs.begin(str(key), str(worker))}

    async def fleet_events(self, key: Any, token: Any, lines: Any) -> dict[str, Any]:
        """What a run says; whether it is to go on."""
        said = [line for line in lines if isinstance(line, str)] if isinstance(lines, tuple | list) else []
        return {"go_on": self._jobs.hear(str(key), token if isinstance(token, int) else -1, said)}

    async def fleet_end(self, key: Any, token: Any, ended: Any) -> dict[str, Any]:
        """What a run has come to."""
        known = isinstance(token, int) and isinstance(ended, str)
        return {"taken": known and self._jobs.end(str(key), token, ended)}

    def workers_with(self, labels: tuple[str, ...], avoid: tuple[str, ...]) -> list[str]:
        """Addresses of the workers that have all these labels, without those of these names."""
        wanted = {label_resource(label) for label in labels}
        return [
            worker.address
            for worker in self.workers.values()
            if wanted <= worker.resources.keys() and str(worker.name) not in avoid
        ]

    async def _run(self, run: JobRun) -> str:
        """One task. LostJobError where the cluster gave it up."""
        await self._opened.wait()  # clients may be here first, after a restart
        order, others = run.job.order, None
        if run.avoid:
            others = self.workers_with(order.labels, run.avoid) or None
        name = hashlib.sha256(f"{run.job.key} {id(run.job)} {run.attempt}".encode()).hexdigest()[:24]
        future = self._own_client.submit(
            run_job, to_text(order), key=f"build-{name}", pure=False, workers=others, allow_other_workers=False,
            resources={label_resource(label): 1 for label in order.labels} or None,
        )  # fmt: skip
        try:
            answer = await future
        except asyncio.CancelledError:
            await future.cancel(force=True)
            raise
        except KilledWorker as error:
            raise LostJobError(f"{error.allowed_failures + 1} workers were lost while they did it") from error
        return str(answer)


def _labels(worker: Any) -> tuple[str, ...]:
    return tuple(sorted(name.removeprefix("label-") for name in worker.resources if name != SLOT))


async def _fail(comm: GuardedTLS, error: Exception) -> None:
    """Say it and end the connection: nobody knows what would come next on it."""
    message = error.message if isinstance(error, OrchestratorError) else "there is no such file, or it cannot be read"
    with suppress(CommClosedError, OSError):
        await comm.write({"error": message})
    await comm.close()


async def serving(settings: SchedulerSettings, emit: Emit, ready: Callable[[FleetScheduler], None]) -> FleetScheduler:
    """A scheduler that listens; `ready` is called with it."""
    guard_this_process()
    dask.config.set(_CONFIGURATION)
    if not settings.dashboard:  # Dask listens all the same
        dask.config.set({"distributed.scheduler.http.routes": []})
    scheduler = FleetScheduler(settings, emit)
    await scheduler.open()
    ready(scheduler)
    return scheduler
