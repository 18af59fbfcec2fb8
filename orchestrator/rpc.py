"""A gRPC server of bytes on a Unix socket, a short enough place for such sockets, and two sockets joined."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.temporary import own_directory

if TYPE_CHECKING:
    import grpc

Reply = Callable[[bytes, "grpc.ServicerContext"], bytes]
Exchange = Callable[[Iterator[bytes], "grpc.ServicerContext"], Iterator[bytes]]
_CHUNK: Final = 64 * 1024
LONGEST_PLACE: Final = 50
"""Bytes of a temporary directory's name that leave room for ours: a socket's path may have 107. The longest, of a
rehearsal in a container, adds `/orchestrator-rehearse-XXXXXXXX/launcher/socket/socket`."""


@contextmanager
def socket_directory(purpose: str) -> Iterator[Path]:
    """A directory of our own (see `temporary`) for sockets, also where TMPDIR is too long a name for them."""
    short = None if len(os.fsencode(tempfile.gettempdir())) < LONGEST_PLACE else Path("/tmp")
    with own_directory(purpose, short) as folder:
        yield folder


@contextmanager
def serving(
    path: Path, answers: Mapping[str, Reply], exchanges: Mapping[str, Exchange] | None = None, *, workers: int
) -> Iterator[None]:
    """Serve `/service/method` → unary answers, and streams both ways, on a Unix socket at `path`."""
    # gRPC writes to stderr on its own; and it need not prepare for a fork, because none goes on without an exec.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    import grpc  # late: it takes a quarter of a second, which `check` and Podman need not pay

    handlers: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
    for name, reply in answers.items():
        service, method = _split(name)
        handlers.setdefault(service, {})[method] = grpc.unary_unary_rpc_method_handler(reply)
    for name, exchange in (exchanges or {}).items():
        service, method = _split(name)
        handlers.setdefault(service, {})[method] = grpc.stream_stream_rpc_method_handler(exchange)
    server = grpc.server(ThreadPoolExecutor(workers, thread_name_prefix="rpc"))
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(service, methods) for service, methods in handlers.items())
    )
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


def join_sockets(one: socket.socket, other: socket.socket) -> None:
    """Hand on what comes from each to the other, in threads, until both have ended. The caller closes them."""
    for pair in ((one, other), (other, one)):
        threading.Thread(target=_copy, args=pair, daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _split(name: str) -> tuple[str, str]:
    service, _slash, method = name.strip("/").partition("/")
    return service, method
