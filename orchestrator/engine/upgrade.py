"""A connection of its own to the engine, taken over from HTTP: what BuildKit's session is spoken over.

Not by way of docker-py, whose HTTP reader may have read ahead: the engine speaks first after the switch.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from orchestrator.engine.docker_api import ApiError, connection_error
from orchestrator.engine.tls import Tls

MAX_HEAD = 64 * 1024
"""A longer head of a reply is refused."""


def upgrade(
    endpoint: str, path: str, headers: Iterable[tuple[str, str]], *, timeout: float, tls: Tls | None = None
) -> socket.socket:
    """POST `path` with `headers` (Connection and Upgrade among them); the socket once the engine has switched.

    Errors: GoneError when the engine can't be reached within `timeout` seconds, ApiError when it won't switch.
    """
    opened: socket.socket | None = None
    try:
        opened = _connect(endpoint, timeout, tls)
        head = [f"POST {path} HTTP/1.1", "Host: docker", *(f"{name}: {value}" for name, value in headers)]
        opened.sendall("\r\n".join([*head, "Content-Length: 0", "", ""]).encode("ascii"))
        status, rest = _read_head(opened)
        if status != 101:
            raise ApiError(f"HTTP status {status} instead of switching protocols: {rest}", status=status)
        opened.settimeout(None)
    except BaseException as error:
        if opened is not None:
            opened.close()
        if isinstance(error, OSError):
            raise connection_error(error, endpoint) from error
        raise
    return opened


def _connect(endpoint: str, timeout: float, tls: Tls | None) -> socket.socket:
    if endpoint.startswith("unix://"):
        local = socket.socket(socket.AF_UNIX)
        try:
            local.settimeout(timeout)
            local.connect(endpoint.removeprefix("unix://"))
        except BaseException:
            local.close()
            raise
        return local
    url = urlsplit(endpoint)
    remote = socket.create_connection((url.hostname or "", url.port or (2376 if tls else 2375)), timeout=timeout)
    if tls is None:
        return remote
    try:
        return tls.context().wrap_socket(remote, server_hostname=url.hostname)
    except BaseException:
        remote.close()
        raise


def _read_head(opened: socket.socket) -> tuple[int, str]:
    """Status, and the start of an error's body. Byte by byte: what follows the head is not ours to read."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = opened.recv(1)
        if not byte or len(head) > MAX_HEAD:
            raise ConnectionError("the reply to the protocol switch is truncated")
        head += byte
    try:
        status = int(head.split(b" ", 2)[1])
    except (IndexError, ValueError) as error:
        raise ConnectionError("the server does not speak HTTP") from error
    return status, "" if status == 101 else opened.recv(500).decode(errors="replace").strip()
