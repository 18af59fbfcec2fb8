"""A shell in a container, on the terminal that the command was started on."""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import socket
import ssl
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from orchestrator.engine.created import remove_container
from orchestrator.engine.docker_api import Api
from orchestrator.engine.upgrade import upgrade
from orchestrator.errors import EngineError
from orchestrator.label import LABEL

_TIMEOUT = 20.0
_CHUNK = 64 * 1024
_STDIN, _TERMINAL = 0, 2  # stdout carries the command's answer
_HEADERS = (("Connection", "Upgrade"), ("Upgrade", "tcp"))


def run_shell(api: Api, image: str, *, build_id: str, network: str) -> None:
    """Run `/bin/sh` in a container of `image` until it ends, and remove the container. `network` as in a build.

    EngineError where the image has no shell, or the engine gives no terminal.
    """
    name = f"orchestrator-{secrets.token_hex(8)}"
    body = {
        "Image": image, "Entrypoint": ["/bin/sh"], "Cmd": [], "Labels": {LABEL: build_id},
        "Tty": True, "OpenStdin": True, "StdinOnce": True,
        "AttachStdin": True, "AttachStdout": True, "AttachStderr": True,
        "HostConfig": {"NetworkMode": network} if network else {},
    }  # fmt: skip
    query = "?stream=1&stdin=1&stdout=1&stderr=1"

    def resize(*_: object) -> None:
        columns, lines = os.get_terminal_size(_TERMINAL)
        with suppress(EngineError):
            api.json("POST", f"/containers/{name}/resize", params={"w": columns, "h": lines})

    with ExitStack() as stack:
        stack.callback(_removed, api, name)
        api.json("POST", "/containers/create", params={"name": name}, body=body)
        path = api.path(f"/containers/{name}/attach") + query
        connection = stack.enter_context(upgrade(api.address, path, _HEADERS, timeout=_TIMEOUT, tls=api.tls))
        api.json("POST", f"/containers/{name}/start")
        resize()
        with _raw_terminal(), _on_resize(resize):
            _converse(connection)


def _removed(api: Api, name: str) -> None:
    with suppress(EngineError):
        remove_container(api, name)


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the shell, Ctrl-C too."""
    before = termios.tcgetattr(_STDIN)
    tty.setraw(_STDIN)
    try:
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)


@contextmanager
def _on_resize(resize: Callable[..., Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _converse(connection: socket.socket) -> None:
    """Keys to the shell and its output to the terminal, until it ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(_STDIN, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj == _STDIN:
                    data = os.read(_STDIN, _CHUNK)
                    if not data:
                        selector.unregister(_STDIN)
                    connection.sendall(data)
                elif not _show(connection):
                    return


def _show(connection: socket.socket) -> bool:
    """Write out what has come; False at the end."""
    while True:
        try:
            data = connection.recv(_CHUNK)
        except ConnectionError:
            return False
        if not data:
            return False
        while data:
            data = data[os.write(_TERMINAL, data) :]
        if not (isinstance(connection, ssl.SSLSocket) and connection.pending()):
            return True
