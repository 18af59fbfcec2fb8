"""The server of the application: uvicorn, on one address."""

from __future__ import annotations

import secrets
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from orchestrator.errors import UsageError
from orchestrator.files import open_read_only
from orchestrator.web.access import SHORTEST

LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
EVERYWHERE: Final = ("0.0.0.0", "::", "")


def read_token(path: Path | None) -> str:
    """The token in a file; without one, a new one. UsageError for a short one."""
    if path is None:
        return secrets.token_urlsafe(24)
    with open_read_only(path) as stream:
        token = stream.read(4096).decode("utf-8", "replace").strip()
    if len(token) < SHORTEST or any(character.isspace() for character in token):
        raise UsageError(
            f"{path}: a token has {SHORTEST} characters at least, and no spaces",
            remedy="openssl rand -hex 24 writes one",
        )
    return token


def allowed_hosts(host: str, port: int, more: Iterable[str]) -> frozenset[str]:
    """What a Host header may say: this address; its loopback names; `more` as they are, and with the port."""
    shown = f"[{host}]" if ":" in host else host
    own = LOOPBACK if host in EVERYWHERE or is_loopback(host) else ()
    names = {name.lower() for name in (shown, *own, *more)}
    return frozenset({f"{name}:{port}" for name in names} | {name.lower() for name in more})


def is_loopback(host: str) -> bool:
    """Whether an address, or a name, is this machine's alone."""
    return host in ("127.0.0.1", "::1", "localhost")


def bind(host: str, port: int, remedy: str = "give another --host or --port") -> socket.socket:
    """A socket that listens there; 0 is any free port. UsageError, with `remedy`, where that cannot be."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with ExitStack() as stack:
            listening = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(64)
            stack.pop_all()
            return listening
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{host}:{port}: {reason}", remedy=remedy) from error


@dataclass(frozen=True, kw_only=True)
class WebCertificate:
    """Files in PEM: what a server says who it is by, and its key."""

    certificate: Path
    key: Path


class _Server(uvicorn.Server):
    """Says at the first signal that it stops."""

    def __init__(self, settings: uvicorn.Config, stopping: Flag) -> None:
        super().__init__(settings)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's own, and what it doesn't wait for."""
        self._stopping.set()
        super().handle_exit(sig, frame)


def serve(application: ASGIApp, listening: socket.socket, stopping: Flag) -> None:
    """Answer until interrupted; `stopping` is set then."""
    _Server(_configuration(application, None), stopping).run(sockets=[listening])


@contextmanager
def serving(
    application: ASGIApp, listening: socket.socket, stopping: Flag, certificate: WebCertificate | None
) -> Iterator[None]:
    """Answer in a thread, which has an event loop of its own, for as long as the context lasts. UsageError for a
    `certificate` that is none; without one there is no TLS."""
    settings = _configuration(application, certificate)
    try:
        settings.load()
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"{certificate and certificate.certificate}: cannot be used for TLS ({error})") from error
    settings.timeout_graceful_shutdown = 1  # one who looks on comes back by himself, and may be what it is ended for
    if settings.ssl is not None:
        settings.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    server = _Server(settings, stopping)
    thread = Thread(target=lambda: server.run(sockets=[listening]), name="web", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        server.should_exit = True
        thread.join(timeout=10)


def _configuration(application: ASGIApp, certificate: WebCertificate | None) -> uvicorn.Config:
    return uvicorn.Config(
        application, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none",
        timeout_graceful_shutdown=5, limit_concurrency=128,
        h11_max_incomplete_event_size=64 * 1024, proxy_headers=False,
        ssl_certfile=None if certificate is None else certificate.certificate,
        ssl_keyfile=None if certificate is None else certificate.key,
    )  # fmt: skip
