"""What a peer's message can do: its role says which operations it may ask for, and what may be unpickled of it.

Dask's protocol is msgpack with pickles in it, and it unpickles before it looks at what is asked for. So its one
unpickler is replaced by one that knows four names, and none of those while a message of a client or of a worker is
read. What isn't allowed ends the connection.
"""

from __future__ import annotations

import io
import pickle
import ssl
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from distributed.comm import registry
from distributed.comm.core import CommClosedError, FatalCommClosedError
from distributed.comm.tcp import TLS, TLSBackend, TLSConnector, TLSListener
from distributed.protocol import pickle as dask_pickle
from distributed.security import Security

from orchestrator.fleet.credentials import ORGANIZATION, Credentials, Role

Names = frozenset[tuple[str, str]]
"""What a pickle may name."""
Readable = Names | None
"""The same; None: there may be no pickle at all."""
TASK: Final = ("orchestrator.fleet.worker", "run_job")
SCHEDULED: Final[Names] = frozenset(
    {("dask._expr", "Expr._reconstruct"), ("dask._expr", "LLGExpr"), ("dask._task_spec", "Task"), TASK}
)
"""What a scheduler's graph of our one task is made of: all that is ever unpickled."""
PLAIN: Final[Names] = frozenset()
"""Text, numbers, and lists of these: a worker's answer is a text, which Dask pickles."""
NOTHING: Final = None
_readable: ContextVar[Readable] = ContextVar("_readable", default=SCHEDULED)


class RefusedError(pickle.UnpicklingError):
    """A pickle that names something else."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in (_readable.get() or PLAIN):
            raise RefusedError(f"a pickle of {module}.{name}")
        return super().find_class(module, name)


def restricted_loads(data: Any, *, buffers: Any = ()) -> Any:
    """What stands for Dask's `pickle.loads`. RefusedError for all but plain data and the names that may be read now."""
    if _readable.get() is NOTHING:
        raise RefusedError("a pickle")
    return _Unpickler(io.BytesIO(data), buffers=buffers).load()


@dataclass(frozen=True, kw_only=True)
class Rights:
    """What a role may ask of a server. `streams`: what it may say after an operation that begins a stream of them."""

    operations: frozenset[str]
    streams: Mapping[str, frozenset[str]]


Refusal = Callable[[str], None]
"""Is told of each peer that was refused, in a sentence."""


class GuardedTLS(TLS):  # type: ignore[misc]  # Dask's classes are Any to us
    """A connection that knows its peer's role."""

    readable: Readable = NOTHING
    rights: Rights | None = None
    refusal: Refusal | None = None
    _stream: frozenset[str] | None = None

    @property
    def role(self) -> Role | None:
        """As its certificate says; None for one of another organisation."""
        subject = dict(pair for row in self._extra.get("peercert", {}).get("subject", ()) for pair in row)
        unit = subject.get("organizationalUnitName", "")
        return Role(unit) if subject.get("organizationName") == ORGANIZATION and unit in list(Role) else None

    async def read(self, deserializers: Any = None) -> Any:
        """The next message. CommClosedError, and no connection any more, for one that isn't allowed."""
        before = _readable.set(self.readable)
        try:
            message = await super().read(deserializers)
        except CommClosedError:
            raise
        except Exception as error:
            raise self._refused(f"sent what is not read ({error})") from error
        finally:
            _readable.reset(before)
        if self.rights is not None and (wrong := self._wrong(message, self.rights)):
            raise self._refused(wrong)
        return message

    def _wrong(self, message: Any, rights: Rights) -> str:
        if message == "OK":
            return ""
        if self._stream is not None:
            said = message if isinstance(message, tuple | list) else (message,)
            operations = [part.get("op") if isinstance(part, dict) else None for part in said]
            wrong = [operation for operation in operations if operation not in self._stream]
            return f"asked for {wrong[0]!r} in a stream" if wrong else ""
        operation = message.get("op") if isinstance(message, dict) else None
        if not isinstance(operation, str) or operation not in rights.operations:
            return f"asked for {operation!r}"
        self._stream = rights.streams.get(operation)
        return ""

    def _refused(self, why: str) -> CommClosedError:
        self.abort()
        if self.refusal is not None:
            self.refusal(f"refused {self.role or 'a peer of no role'} at {self.peer_address}: it {why}")
        return CommClosedError(f"refused: {why}")

    def end_stream(self) -> None:
        """What comes next is an operation again."""
        self._stream = None


class _Connector(TLSConnector):  # type: ignore[misc]
    comm_class = GuardedTLS

    async def connect(self, address: str, deserialize: bool = True, **arguments: Any) -> Any:
        comm = await super().connect(address, deserialize=deserialize, **arguments)
        peers: Mapping[Role, Readable] = arguments.get("peers", {})
        if comm.role not in peers:
            comm.abort()
            raise FatalCommClosedError(f"{address} is no peer to connect to: its certificate is of {comm.role}")
        comm.allow_offload = False  # to read in this context
        comm.readable = peers[comm.role]
        return comm


class _Listener(TLSListener):  # type: ignore[misc]
    comm_class = GuardedTLS

    def __init__(self, address: str, handler: Any, **arguments: Any) -> None:
        self._peers: Mapping[Role, Readable] = arguments.get("peers", {})
        self._refusal: Refusal | None = arguments.get("refusal")
        super().__init__(address, handler, **arguments)

    async def on_connection(self, comm: Any, *arguments: Any, **named: Any) -> Any:
        comm.refusal = self._refusal
        if comm.role not in self._peers:
            raise comm._refused("has no business here")
        comm.allow_offload = False
        comm.readable = self._peers[comm.role]
        return await super().on_connection(comm, *arguments, **named)


class _Backend(TLSBackend):  # type: ignore[misc]
    _connector_class = _Connector
    _listener_class = _Listener

    def get_listener(self, loc: str, handle_comm: Any, deserialize: bool, **arguments: Any) -> Any:
        return _Listener(loc, handle_comm, deserialize=deserialize, **arguments)


_OUTGOING: Final[Mapping[Role, Mapping[Role, Readable]]] = {
    Role.SCHEDULER: {Role.WORKER: PLAIN, Role.SCHEDULER: PLAIN},
    Role.WORKER: {Role.SCHEDULER: SCHEDULED},
    Role.CLIENT: {Role.SCHEDULER: NOTHING},
}
_INCOMING: Final[Mapping[Role, Mapping[Role, Readable]]] = {
    Role.SCHEDULER: {Role.WORKER: NOTHING, Role.CLIENT: NOTHING, Role.SCHEDULER: SCHEDULED},
    Role.WORKER: {Role.SCHEDULER: SCHEDULED},
    Role.CLIENT: {},
}


class FleetSecurity(Security):  # type: ignore[misc]
    """TLS 1.3 both ways, with whom, and what is unpickled of whom."""

    def __init__(self, credentials: Credentials, refusal: Refusal | None = None) -> None:
        own = {f"tls_{credentials.role}_cert": str(credentials.certificate),
               f"tls_{credentials.role}_key": str(credentials.key)}  # fmt: skip
        if credentials.role is Role.SCHEDULER:  # its own client, which gives tasks to the workers
            own |= {"tls_client_cert": str(credentials.certificate), "tls_client_key": str(credentials.key)}
        super().__init__(
            require_encryption=True,
            tls_min_version=ssl.TLSVersion.TLSv1_3,
            tls_ca_file=str(credentials.authority),
            **own,
        )
        self._own_role, self._refusal = credentials.role, refusal

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """Dask's, and who the peer may be."""
        return {**super().get_connection_args(role), "peers": _OUTGOING[self._own_role]}

    def get_listen_args(self, role: str) -> dict[str, Any]:
        """The same for who connects."""
        peers = _INCOMING[self._own_role]
        return {**super().get_listen_args(role), "peers": peers, "refusal": self._refusal}


def guard_this_process() -> None:
    """From here on, Dask unpickles in this process what `restricted_loads` does, and speaks TLS as above only."""
    dask_pickle.loads = restricted_loads
    registry.backends["tls"] = _Backend()
    for scheme in ("tcp", "ws", "wss", "inproc"):
        registry.backends.pop(scheme, None)
