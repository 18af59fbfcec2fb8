"""`fleet worker`: Dask's worker with one task function, which takes and gives JSON."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

import dask
from distributed import Worker, get_worker
from distributed.comm.core import CommClosedError

from orchestrator.documents import DocumentError
from orchestrator.errors import EngineError, OrchestratorError, UsageError
from orchestrator.events import Emit, Notice
from orchestrator.fleet.credentials import Credentials
from orchestrator.fleet.guard import FleetSecurity, GuardedTLS, Rights, guard_this_process
from orchestrator.fleet.messages import LABEL, JobEnded, JobFailure, JobFile, JobOptions, JobOrder, from_text, to_text
from orchestrator.fleet.packed_project import unpack_project
from orchestrator.fleet.store import FleetStore
from orchestrator.fleet.wire import Exchanges, get_file, put_file
from orchestrator.inputs.trees import file_digest
from orchestrator.project.load import lock_path
from orchestrator.temporary import OwnDirectory, own_directory

T = TypeVar("T")
SLOT: Final = "slot"
LOCK: Final = "project.lock"
_RIGHTS: Final = Rights(
    operations=frozenset({"close", "get_data", "free_keys", "terminate", "ping", "identity"}), streams={}
)
_CONFIGURATION: Final = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.http.routes": [],  # Dask listens all the same
    "distributed.comm.timeouts.connect": "10s",
}
_PATIENCE: Final = 15.0
"""Seconds for which a scheduler is waited for before it is said that none answers."""
_BEAT: Final = 0.3
"""Seconds between two reports of what a run says."""


def label_resource(label: str) -> str:
    """The Dask resource that stands for a label."""
    return f"label-{label}"


@dataclass(frozen=True, kw_only=True)
class WantedRun:
    """One build for a JobRunner: `project` is relative to `root`; the results go to `output`.

    A process that is told to `adopt` ends with the worker, also where that is killed: see `temporary`.
    """

    root: Path
    project: Path
    output: Path
    options: JobOptions
    adopt: Callable[[int], None]


class JobRunner(Protocol):
    """What builds on a worker. It is told by `stopped` when nobody wants the result any more."""

    def run(self, wanted: WantedRun, line: Callable[[str], None], stopped: threading.Event) -> None:
        """Build, handing on the lines of `--progress json`. OrchestratorError as of the command."""

    def reap(self) -> None:
        """Remove what runs that were lost left behind in the engine. Nothing that is in use."""


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """`address` of the scheduler; `name` is shown, and the same after a restart."""

    credentials: Credentials
    address: str
    name: str
    store: Path
    slots: int = 1
    labels: tuple[str, ...] = ()
    host: str = ""


class FleetWorker(Worker):  # type: ignore[misc]  # Dask's classes are Any to us
    """Does jobs by its `runner`, in as many threads as it has slots."""

    def __init__(self, settings: WorkerSettings, runner: JobRunner, emit: Emit, work: Path) -> None:
        self._settings, self._runner, self._emit = settings, runner, emit
        self._security = FleetSecurity(settings.credentials, lambda text: emit(Notice(text=text, level="warning")))
        self._store = FleetStore(settings.store)
        self._exchanges = Exchanges((settings.address, self._security, "worker"))
        self._fetching = threading.Lock()
        self._ended = threading.Event()
        self._aio = asyncio.get_running_loop()
        super().__init__(
            settings.address, nthreads=settings.slots, name=settings.name, security=self._security, protocol="tls",
            host=settings.host or None, resources={label_resource(label): 1000 for label in settings.labels},
            memory_limit=0, dashboard=False, dashboard_address="127.0.0.1:0", local_directory=str(work), extensions={},
            death_timeout=_PATIENCE,
        )  # fmt: skip
        allowed = _RIGHTS.operations
        self.handlers: dict[str, Any] = {name: handler for name, handler in self.handlers.items() if name in allowed}

    def handle_comm(self, comm: GuardedTLS) -> Any:
        """Dask's, for the scheduler."""
        comm.rights = _RIGHTS
        return super().handle_comm(comm)

    async def close(
        self, timeout: float = 30, executor_wait: bool = True, nanny: bool = True, reason: str = "worker-close"
    ) -> Any:
        """End; builds that run are told to."""
        self._ended.set()
        self._exchanges.close()
        return await super().close(timeout=timeout, executor_wait=executor_wait, nanny=nanny, reason=reason)

    def perform(self, text: str) -> str:
        """Do a job, in a thread of its own."""
        token, name = 0, self._settings.name
        try:
            order = from_text(JobOrder, text)
            token = self._ask("fleet_begin", {"key": order.key, "worker": name}).get("token", 0)
            if not token:
                raise EngineError("nobody waits for it any more")
            self._emit(Notice(text=f"building {order.name}"))
            files = self._built(order, token)
            ended = to_text(JobEnded(worker=name, token=token, files=tuple(files)))
            if self._ask("fleet_end", {"key": order.key, "token": token, "ended": ended}).get("taken"):
                self._emit(Notice(text=f"{order.name} is built"))
            return ended
        except (OrchestratorError, DocumentError, OSError) as error:
            known = error if isinstance(error, OrchestratorError) else EngineError(f"the worker {name}: {error}")
            self._emit(Notice(text=f"a build failed: {known.message}", level="warning"))
            return to_text(JobEnded(worker=name, token=token, failure=JobFailure.of(known)))

    def _built(self, order: JobOrder, token: int) -> list[JobFile]:
        context = self._fetched(order.context)
        place = OwnDirectory("fleet-job")
        with place as folder, self._reporting(order, token) as (line, stopped):
            root = folder / "project"
            path = unpack_project(context, root, order.project)
            wanted = WantedRun(root=root, project=path.relative_to(root), output=folder / "output",
                               options=order.options, adopt=place.adopt)  # fmt: skip
            self._runner.run(wanted, line, stopped)
            if stopped.is_set():
                raise EngineError("the build was stopped")
            made = {file.name: file for file in sorted(wanted.output.iterdir()) if file.is_file()}
            made = {name: file for name, file in made.items() if not name.startswith(".")}
            if (lock := lock_path(path)).is_file():
                made[LOCK] = lock
            return [self._brought(name, file) for name, file in made.items()]

    def _brought(self, name: str, path: Path) -> JobFile:
        """Put a file into the scheduler's store."""
        sha256, size = file_digest(path)
        if self._ask("fleet_lacks", {"digests": [sha256]}).get("lacks"):
            self._in_loop(put_file(self._connection, path, sha256, size))
        return JobFile(name=name, sha256=sha256, size=size)

    def _fetched(self, digest: str) -> Path:
        """A packed project, from the scheduler where this machine has not got it yet."""
        with self._fetching:
            if not self._store.has(digest):
                self._in_loop(get_file(self._connection, digest, partial(self._store.receive, digest)))
        return self._store.path(digest)

    @contextmanager
    def _reporting(self, order: JobOrder, token: int) -> Iterator[tuple[Callable[[str], None], threading.Event]]:
        """Where lines go, and whether the run is to stop: because it is not the job's last one, or nobody is there."""
        lines, lock, stopped, over = list[str](), threading.Lock(), threading.Event(), threading.Event()

        def take(line: str) -> None:
            with lock:
                lines.append(line)

        def report() -> None:
            with lock:
                batch, lines[:] = lines[:1000], lines[1000:]
            try:
                answer = self._ask("fleet_events", {"key": order.key, "token": token, "lines": batch})
            except OrchestratorError:
                answer = {}
            if not answer.get("go_on"):
                stopped.set()

        def beat() -> None:
            while not over.wait(_BEAT) and not stopped.is_set():
                stopped.set() if self._ended.is_set() else report()

        reporter = threading.Thread(target=beat, name="fleet-report", daemon=True)
        reporter.start()
        try:
            yield take, stopped
        finally:
            over.set()
            reporter.join()
            while lines and not stopped.is_set():
                report()

    @property
    def _connection(self) -> tuple[str, FleetSecurity, str]:
        return self._settings.address, self._security, "worker"

    def _ask(self, operation: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return self._in_loop(self._exchanges.ask(operation, values))

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it in the worker's event loop. EngineError where the scheduler doesn't answer."""
        future = asyncio.run_coroutine_threadsafe(work, self._aio)
        while True:
            try:
                return future.result(timeout=1.0)
            except TimeoutError as error:
                if future.done() or self._ended.is_set():
                    future.cancel()
                    raise EngineError("the fleet's scheduler does not answer") from error
            except (CommClosedError, OSError) as error:
                raise EngineError(f"the fleet's scheduler is gone ({error})") from error


def run_job(text: str) -> str:
    """The one task of a fleet: an order as JSON to how it ended as JSON."""
    return cast(FleetWorker, get_worker()).perform(text)


async def working(settings: WorkerSettings, runner: JobRunner, emit: Emit, stop: asyncio.Event) -> None:
    """Work until `stop`, through restarts of the scheduler. Errors: InputError for a certificate that is refused."""
    guard_this_process()
    for label in settings.labels:
        if not LABEL.fullmatch(label):
            raise UsageError(f"--label {label}: is no label", remedy="use small letters, digits and hyphens")
    dask.config.set(_CONFIGURATION)
    with own_directory("fleet-worker") as work:
        await asyncio.to_thread(runner.reap)
        while not stop.is_set():
            began = time.monotonic()
            worker = FleetWorker(settings, runner, emit, work)
            try:
                await _unless(stop, worker)
                emit(Notice(text=f"works for {settings.address} as {settings.name}, {settings.slots} slots"))
                await _first(worker.finished(), stop.wait())
            except (OSError, TimeoutError, CommClosedError) as error:
                if not stop.is_set():
                    emit(Notice(text=f"{settings.address} does not answer ({error}); trying again", level="warning"))
            finally:
                await worker.close(timeout=5, nanny=False)
            if not stop.is_set():
                await asyncio.to_thread(runner.reap)
                await _first(asyncio.sleep(max(0.5, 2 - (time.monotonic() - began))), stop.wait())


async def _unless(stop: asyncio.Event, worker: FleetWorker) -> None:
    """Wait until it works. OSError where it is to stop before."""
    starting, stopping = asyncio.ensure_future(_started(worker)), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            raise InterruptedError("told to end")
        starting.result()
    finally:
        starting.cancel()
        stopping.cancel()


async def _started(worker: FleetWorker) -> None:
    await worker


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


__all__: Sequence[str] = (
    "LOCK", "SLOT", "FleetWorker", "JobRunner", "WantedRun", "WorkerSettings", "label_resource", "run_job", "working",
)  # fmt: skip
