"""A fleet within this process: a scheduler and workers on this machine, by the same ways as a real one."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress

from orchestrator.errors import EngineError
from orchestrator.events import Emit, Notice, ignore
from orchestrator.fleet.client import FleetClient
from orchestrator.fleet.credentials import Role, load_credentials, make_credentials
from orchestrator.fleet.scheduler import SchedulerSettings, serving
from orchestrator.fleet.worker import JobRunner, WorkerSettings, working
from orchestrator.temporary import own_directory

_HOST = "127.0.0.1"


@contextmanager
def local_fleet(runners: Sequence[JobRunner], *, slots: int, emit: Emit) -> Iterator[FleetClient]:
    """Its client; a worker for each of `runners`, with so many slots.

    Certificates are made for it alone, and end with it, as its store does."""
    with own_directory("fleet-local") as folder:
        make_credentials(folder / "tls", [_HOST])
        scheduler = SchedulerSettings(credentials=load_credentials(Role.SCHEDULER, folder / "tls"),
                                      store=folder / "store", host=_HOST, port=0)  # fmt: skip
        loop = asyncio.new_event_loop()
        address: Future[str] = Future()
        stop = asyncio.Event()

        async def serve() -> None:
            server = await serving(scheduler, _warnings(emit), lambda started: address.set_result(started.address))
            credentials = load_credentials(Role.WORKER, folder / "tls")
            host = socket.gethostname()
            try:
                async with asyncio.TaskGroup() as group:
                    for number, runner in enumerate(runners, start=1):
                        settings = WorkerSettings(
                            credentials=credentials, address=server.address, slots=slots, host=_HOST,
                            name=host if len(runners) == 1 else f"{host}-{number}", store=folder / f"work-{number}",
                        )  # fmt: skip
                        group.create_task(working(settings, runner, ignore, stop))
            finally:
                await server.shut()

        def run() -> None:
            asyncio.set_event_loop(loop)
            try:
                loop.run_until_complete(serve())
            except Exception as error:  # noqa: BLE001 - who waits for the address is told
                if not address.done():
                    address.set_exception(error)
            finally:
                loop.close()

        thread = threading.Thread(target=run, name="fleet-local")
        thread.start()
        try:
            client = FleetClient(_answered(address), load_credentials(Role.CLIENT, folder / "tls"))
            try:
                yield client
            finally:
                client.close()
        finally:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
            thread.join()


def _answered(address: Future[str]) -> str:
    try:
        return address.result(timeout=60)
    except (OSError, TimeoutError) as error:
        raise EngineError(f"a fleet on this machine could not begin: {error}") from error


def _warnings(emit: Emit) -> Emit:
    """Only what is a warning: a user of `build` wants no diary of a scheduler's."""
    return lambda event: emit(event) if isinstance(event, Notice) and event.level == "warning" else None
