"""`build --fleet`: a project goes to the scheduler by its content, and comes back as an image."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import dask
from distributed.comm.core import CommClosedError

from orchestrator.build.brought_image import NotBroughtError, write_brought
from orchestrator.build.check import CheckedProject
from orchestrator.build.image_key import program_digest
from orchestrator.build.last_build import Asked
from orchestrator.build.result import Result
from orchestrator.documents import DocumentError
from orchestrator.errors import EngineError, InputError, OrchestratorError, UsageError
from orchestrator.events import Emit
from orchestrator.files import write_bytes
from orchestrator.fleet.credentials import Credentials
from orchestrator.fleet.guard import FleetSecurity, guard_this_process
from orchestrator.fleet.messages import LABEL, FleetState, JobEnded, JobFile, JobOptions, JobOrder, from_text, to_text
from orchestrator.fleet.packed_project import pack_project
from orchestrator.fleet.store import receiving
from orchestrator.fleet.wire import answered, connected, exchange, get_file, put_file
from orchestrator.project.load import lock_path
from orchestrator.receipt.receipt import FleetBuild, Receipt
from orchestrator.temporary import own_directory

T = TypeVar("T")
_LOCK: Final = "project.lock"
_PATIENCE: Final = 60.0
"""Seconds for which the scheduler is asked again when it went away."""


class StoppedOrderError(Exception):
    """We stop, and want nothing any more."""


class FleetClient:
    """A connection's settings, and an event loop in a thread. Used by several threads; `close` it."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        guard_this_process()
        dask.config.set({"distributed.comm.timeouts.connect": "10s"})
        self.address = address
        self._connection = (address, FleetSecurity(credentials), "client")
        self._loop = asyncio.new_event_loop()
        self._stopping: asyncio.Event | None = None
        self._met = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="fleet-client", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stop(self) -> None:
        """Orders that run are given up."""
        self._stopped.set()
        self._loop.call_soon_threadsafe(self._stop_waiting)

    def state(self) -> FleetState:
        """What `fleet status` shows. EngineError where no fleet answers."""
        answer = self._do(exchange(self._connection, "fleet_status", {}))
        try:
            return from_text(FleetState, answer.get("state"))
        except DocumentError as error:
            raise EngineError(f"{self.address}: it answered what makes no sense ({error})") from error

    def lend(self, path: Path, digest: str, size: int) -> bool:
        """Put a file into the fleet's store, unless it is there: whether it had to travel."""
        return self._do(self._patiently(lambda: self._lent(path, digest, size)))

    async def _lent(self, path: Path, digest: str, size: int) -> bool:
        if not (await exchange(self._connection, "fleet_lacks", {"digests": [digest]})).get("lacks"):
            return False
        await put_file(self._connection, path, digest, size)
        return True

    def fetch(self, file: JobFile, target: Path) -> None:
        """Write a file of the fleet's store to `target`, a temporary one. InputError where it is not as it was said to
        be."""
        receive = partial(receiving, target, file.sha256, below=target.parent)
        self._do(self._patiently(lambda: get_file(self._connection, file.sha256, receive)))
        if target.stat().st_size != file.size:
            raise InputError(f"{file.name} came with another size than the fleet said", remedy="try again")

    def order(self, order: JobOrder, line: Callable[[str], None]) -> JobEnded:
        """Have a job done, handing on its lines of progress; how it ended. StoppedOrderError after `stop`."""
        return self._do(self._patiently(lambda: self._once(order, line)))

    async def _patiently(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Ask again when the scheduler goes away that has been there: it may be starting again."""
        patience = 0.0
        while True:
            began = time.monotonic()
            try:
                answer = await self._unless_stopped(ask())
            except (OSError, CommClosedError) as error:
                if not self._met:
                    raise
                now = time.monotonic()
                if not patience or now - began > _PATIENCE / 2:  # it had been there
                    patience = now + _PATIENCE
                if now > patience:
                    raise EngineError(f"{self.address}: the fleet went away ({error})") from error
                await self._unless_stopped(asyncio.sleep(1))
            else:
                self._met = True
                return answer

    async def _once(self, order: JobOrder, line: Callable[[str], None]) -> JobEnded:
        async with connected(self._connection) as comm:
            await comm.write({"op": "fleet_build", "order": to_text(order)})
            while True:
                message = answered(await comm.read())
                for text in message.get("lines", ()):
                    line(str(text))
                if "ended" in message:
                    return from_text(JobEnded, message["ended"])

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._stopping is not None
        reading, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise StoppedOrderError
            return reading.result()
        finally:
            reading.cancel()
            stopping.cancel()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._stopping = asyncio.Event()
        self._loop.run_forever()

    def _stop_waiting(self) -> None:
        if self._stopping is not None:
            self._stopping.set()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        if self._stopped.is_set():
            work.close()
            raise StoppedOrderError
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (OSError, CommClosedError) as error:
            raise EngineError(f"{self.address}: no fleet answers there ({error})",
                              remedy="start `fleet serve`; --tls names its certificates") from error  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FleetOrder:
    """What `build --fleet` asks for, whatever the project."""

    options: JobOptions
    labels: tuple[str, ...] = ()


def build_in_fleet(
    client: FleetClient, asked: Asked, wanted: FleetOrder, emit: Emit, line: Callable[[str], None]
) -> Result:
    """Have a project built, and write what came like a build of this machine's. Errors: as of a build here.

    The lock that the build made comes too.
    """
    for label in wanted.labels:
        if not LABEL.fullmatch(label):
            raise UsageError(f"--label {label}: is no label", remedy="use small letters, digits and hyphens")
    with own_directory("fleet-send") as folder:
        packed = pack_project(asked.checked, folder / "project.tar", emit)
        client.lend(packed.path, packed.sha256, packed.size)
        order = JobOrder(name=asked.checked.loaded.project.name, context=packed.sha256, project=packed.project,
                         options=wanted.options, labels=wanted.labels, program=program_digest())  # fmt: skip
        ended = client.order(order, line)
    if ended.failure is not None:
        raise _as_here(ended.failure.as_error(), asked.checked, packed.project)
    files = _FleetFiles(client=client, ended=ended, key=order.key)
    try:
        result = write_brought(asked, files, emit)
    except NotBroughtError as error:
        raise InputError(f"what the fleet built is refused: {'; '.join(files.refused) or 'it is not there'}",
                         remedy=f"{ended.worker} built it; look at that machine") from error  # fmt: skip
    _write_lock(client, asked, ended)
    return result


@dataclass(frozen=True, kw_only=True)
class _FleetFiles:
    """The files of a job, as `brought_image` wants them."""

    client: FleetClient
    ended: JobEnded
    key: str
    refused: list[str] = field(default_factory=list)

    @property
    def shown(self) -> str:
        return "the fleet"

    @property
    def digests(self) -> dict[str, str]:
        return {file.name: file.sha256 for file in self.ended.files if file.name != _LOCK}

    def fetch(self, name: str, target: Path) -> bool:
        file = next(file for file in self.ended.files if file.name == name)
        try:
            self.client.fetch(file, target)
        except InputError as error:
            self.refused.append(error.message)
            return False
        return True

    def refuse(self, why: str) -> None:
        self.refused.append(why)

    def marked(self, receipt: Receipt, at: str) -> Receipt:
        built = FleetBuild(scheduler=self.client.address, worker=self.ended.worker, key=self.key, at=at)
        return receipt.model_copy(update={"fleet": built})


def _write_lock(client: FleetClient, asked: Asked, ended: JobEnded) -> None:
    """The lock that the build used, where it is another one than ours."""
    path = lock_path(asked.checked.loaded.path)
    for file in ended.files:
        if file.name == _LOCK:
            with own_directory("fleet-lock") as folder:
                client.fetch(file, folder / _LOCK)
                data = (folder / _LOCK).read_bytes()
            if not path.is_file() or path.read_bytes() != data:
                write_bytes(path, data)


def _as_here(error: OrchestratorError, checked: CheckedProject, project: str) -> OrchestratorError:
    """An error of a worker's build, with the places that it names as this machine has them."""
    own = str(checked.loaded.path)
    findings = [replace(finding, file=own) if finding.file == project else finding for finding in error.findings]
    same = OrchestratorError(error.message.replace(project, own), remedy=error.remedy, findings=findings,
                             detail=error.detail)  # fmt: skip
    same.exit_code = error.exit_code
    return same


__all__ = ["FleetClient", "FleetOrder", "StoppedOrderError", "build_in_fleet"]
