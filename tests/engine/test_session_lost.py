"""A real BuildKit that loses the session in the middle of a build: an engine's failure, said in time."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.engine.base import BuildSecret
from orchestrator.engine.select import connect
from orchestrator.errors import EngineError
from orchestrator.events import Event, StepOutput
from tests.support.engines import docker_engine, ensure_base, request

pytestmark = pytest.mark.engine


class Between:
    """A socket before the daemon's, which can drop the session's connection."""

    def __init__(self, daemon: str, path: Path) -> None:
        self._daemon = daemon.removeprefix("unix://")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._sessions: list[socket.socket] = []
        self.endpoint = f"unix://{path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        for connection in self._sessions:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as daemon, contextlib.suppress(OSError):
            daemon.connect(self._daemon)
            first = client.recv(65536)
            if b"/session HTTP" in first:
                self._sessions += [client, daemon]
            daemon.sendall(first)
            back = threading.Thread(target=_pipe, args=(daemon, client), daemon=True)
            back.start()
            _pipe(client, daemon)
            back.join()


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def between(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Between]:
    import tempfile

    with docker_engine() as docker, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        ensure_base(docker)
        proxy = Between(docker.info.endpoint, Path(folder) / "between.sock")
        yield proxy
        proxy.close()


def test_a_session_lost_during_a_build_is_the_engines_failure(between: Between) -> None:
    engine = connect(between.endpoint)
    token = secrets.token_hex(8)
    mount = "--mount=type=secret,id=token,required=true"
    # The second step asks for the secret when the session has gone.
    text = f"FROM {ensure_base(engine)}\nRUN echo begun {token}; sleep 3\nRUN {mount} cat /run/secrets/token\n"
    asked = replace(request(text, f"test-lost-{token}"), secrets=(BuildSecret(id="token", data=token.encode()),))

    def emit(event: Event) -> None:
        if isinstance(event, StepOutput) and "begun" in event.text:
            between.drop()

    began = time.monotonic()
    with contextlib.closing(engine), pytest.raises(EngineError) as caught:
        engine.build(asked, emit)
    assert "session" in caught.value.message
    assert caught.value.remedy
    assert time.monotonic() - began < 60
