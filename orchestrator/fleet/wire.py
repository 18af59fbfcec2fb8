"""Asking the scheduler, over Dask's connections: one operation, or a file in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from distributed.comm import connect
from distributed.comm.core import CommClosedError

from orchestrator.errors import EngineError, InputError
from orchestrator.fleet.guard import FleetSecurity
from orchestrator.fleet.store import Incoming

Connection = tuple[str, FleetSecurity, str]
"""The scheduler's address, who we are, and Dask's word for that."""
CHUNK: Final = 1 << 20


@asynccontextmanager
async def connected(connection: Connection) -> AsyncIterator[Any]:
    """A connection to the scheduler. OSError where there is none to be had."""
    comm = await _connect(connection)
    try:
        yield comm
    finally:
        comm.abort()


async def _connect(connection: Connection) -> Any:
    address, security, role = connection
    return await connect(address, timeout=5, deserialize=False, **security.get_connection_args(role))


async def exchange(connection: Connection, operation: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the scheduler answers. EngineError for what it refuses."""
    async with connected(connection) as comm:
        await comm.write({"op": operation, "reply": True, **values})
        return answered(await comm.read())


class Exchanges:
    """`exchange` over connections that are kept: a handshake takes longer than most answers. In one event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._idle: list[Any] = []

    async def ask(self, operation: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """As `exchange`. What is asked may be asked twice, where the scheduler has ended a connection meanwhile."""
        message = {"op": operation, "reply": True, **values}
        while self._idle:
            comm = self._idle.pop()
            try:
                return await self._said(comm, message)
            except CommClosedError:
                continue
        return await self._said(await _connect(self._connection), message)

    def close(self) -> None:
        """End them."""
        while self._idle:
            self._idle.pop().abort()

    async def _said(self, comm: Any, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            await comm.write(dict(message))
            answer = await comm.read()
        except BaseException:
            comm.abort()
            raise
        self._idle.append(comm)
        return answered(answer)


def answered(message: Any) -> dict[str, Any]:
    """An answer of the scheduler's. EngineError where it is an error."""
    if not isinstance(message, dict):
        raise EngineError("the fleet's scheduler answered what makes no sense")
    if message.get("status") in ("error", "uncaught-error"):
        raise EngineError(f"the fleet's scheduler failed: {message.get('exception_text', '')}")
    if "error" in message:
        raise InputError(f"the fleet's scheduler says: {message['error']}")
    return message


async def put_file(connection: Connection, path: Path, digest: str, size: int) -> None:
    """Put a file into the scheduler's store. InputError where it doesn't take it."""
    async with connected(connection) as comm:
        await comm.write({"op": "fleet_put", "digest": digest, "size": size})
        with path.open("rb") as stream:
            while data := await asyncio.to_thread(stream.read, CHUNK):
                await comm.write({"op": "data", "data": data})
        answered(await comm.read())


async def get_file(
    connection: Connection, digest: str, receive: Callable[[int], AbstractContextManager[Incoming]]
) -> None:
    """Take a file of the scheduler's store into what `receive` opens for so many bytes. InputError for one that is not
    what it should be."""
    async with connected(connection) as comm:
        await comm.write({"op": "fleet_get", "digest": digest})
        size = answered(await comm.read()).get("size")
        if not isinstance(size, int) or size < 0:
            raise EngineError("the fleet's scheduler answered what makes no sense")
        with receive(size) as incoming:
            while incoming.missing:
                data = answered(await comm.read()).get("data")
                if not isinstance(data, bytes) or not data:
                    raise InputError("a file of the fleet ended early", remedy="try again")
                await asyncio.to_thread(incoming.write, data)
