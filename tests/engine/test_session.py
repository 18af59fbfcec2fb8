"""BuildKit's session against a daemon made here: an HTTP upgrade, then gRPC calls from the daemon's side."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from orchestrator.engine.buildkit_pb2 import BytesMessage
from orchestrator.engine.logins import Login
from orchestrator.engine.session import Attachables, Session, open_session
from orchestrator.errors import EngineError
from tests.support.wire import data, number

GET_SECRET = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
CREDENTIALS = "/moby.filesync.v1.Auth/Credentials"
FETCH_TOKEN = "/moby.filesync.v1.Auth/FetchToken"
FORWARD = "/moby.sshforward.v1.SSH/ForwardAgent"
HEALTH = "/grpc.health.v1.Health/Check"


class Daemon:
    """Takes one session; `call` speaks over it as BuildKit would."""

    def __init__(self, folder: Path, reply: bytes = b"HTTP/1.1 101 UPGRADED\r\nUpgrade: h2c\r\n\r\n") -> None:
        self.endpoint = f"unix://{folder}/docker.sock"
        self._bridge = f"{folder}/bridge.sock"
        self._reply = reply
        self._listening = _listen(f"{folder}/docker.sock")
        self.head = b""
        self.upgraded: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection = self._listening.accept()[0]
        while not self.head.endswith(b"\r\n\r\n"):
            self.head += connection.recv(4096)
        connection.sendall(self._reply)
        if b" 101 " not in self._reply:
            connection.close()
            return
        self.upgraded = connection
        # gRPC's client wants an address: a socket whose one connection is joined to the session's.
        with _listen(self._bridge) as bridge:
            client = bridge.accept()[0]
        with client, contextlib.suppress(OSError):
            back = threading.Thread(target=_pipe, args=(connection, client), daemon=True)
            back.start()
            _pipe(client, connection)

    def channel(self) -> grpc.Channel:
        while not Path(self._bridge).exists():
            assert self._thread.is_alive()
        return grpc.insecure_channel(f"unix:{self._bridge}")

    def close(self) -> None:
        for end in (self._listening, self.upgraded):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._thread.join(timeout=5)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a socket's may have 107 bytes, and pytest's are long."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@contextlib.contextmanager
def session(folder: Path, attachables: Attachables) -> Iterator[tuple[Session, Daemon, grpc.Channel]]:
    daemon = Daemon(folder)
    try:
        with open_session(daemon.endpoint, "/v1.41/session", attachables) as opened, daemon.channel() as channel:
            yield opened, daemon, channel
    finally:
        daemon.close()


def call(channel: grpc.Channel, name: str, request: bytes = b"") -> bytes:
    method: Callable[..., bytes] = channel.unary_unary(name)
    return method(request, timeout=20)


def stream(channel: grpc.Channel, requests: list[bytes]) -> Iterator[bytes]:
    method: Callable[..., Iterator[bytes]] = channel.stream_stream(FORWARD)
    return method(iter(requests), timeout=20)


def test_secrets_logins_and_nothing_else(folder: Path) -> None:
    large = bytes(range(256)) * 1500  # more than a window of HTTP/2
    login = Login(registry="docker.io", source="f", username="me", password="päss")
    token = Login(registry="r.example", source="f", token="t0ken")
    attachables = Attachables(secrets={"a": b"value", "large": large}, logins={"docker.io": login, "r.example": token})
    with session(folder, attachables) as (opened, daemon, channel):
        assert call(channel, HEALTH) == number(1, 1)
        assert call(channel, GET_SECRET, data(1, b"a")) == data(1, b"value")
        assert call(channel, GET_SECRET, data(1, b"large")) == data(1, large)
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, GET_SECRET, data(1, b"other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        hub = call(channel, CREDENTIALS, data(1, b"registry-1.docker.io"))
        assert hub == data(1, b"me") + data(2, "päss".encode())
        assert call(channel, CREDENTIALS, data(1, b"r.example")) == data(2, b"t0ken")
        assert call(channel, CREDENTIALS, data(1, b"else.example")) == b""
        for name in (FETCH_TOKEN, FORWARD):
            with pytest.raises(grpc.RpcError) as caught:
                call(channel, name)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert not opened.broken  # in here: the channel, closed first, may end the connection before the session does
    head = daemon.head.decode()
    assert head.startswith("POST /v1.41/session HTTP/1.1\r\n")
    assert f"X-Docker-Expose-Session-Uuid: {opened.id}\r\n" in head
    assert f"Grpc-Method: {GET_SECRET}\r\n" in head
    assert FORWARD not in head


def test_the_agent_is_spoken_to_both_ways(folder: Path) -> None:
    def echo() -> None:
        connection = listening.accept()[0]
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data.upper())

    with _listen(f"{folder}/agent.sock") as listening:
        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        with session(folder, Attachables(ssh=f"{folder}/agent.sock")) as (_opened, _daemon, channel):
            assert call(channel, "/moby.sshforward.v1.SSH/CheckAgent", data(1, b"default")) == b""
            said = [b"hello ", b"x" * 200_000, b" end"]
            heard = b"".join(_data(answer) for answer in stream(channel, [data(1, part) for part in said]))
        thread.join(timeout=5)
    assert heard == b"".join(said).upper()


def test_an_agent_that_has_gone(folder: Path) -> None:
    with session(folder, Attachables(ssh=f"{folder}/gone.sock")) as (_opened, _daemon, channel):
        with pytest.raises(grpc.RpcError) as caught:
            list(stream(channel, [b""]))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_daemon_that_drops_the_session_is_noticed(folder: Path) -> None:
    with session(folder, Attachables(secrets={"a": b"b"})) as (opened, daemon, channel):
        call(channel, HEALTH)
        assert daemon.upgraded is not None
        daemon.upgraded.shutdown(socket.SHUT_RDWR)
        for _ in range(200):
            if opened.broken:
                break
            threading.Event().wait(0.02)
        assert opened.broken


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nforbidden",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"",
    ],
)
def test_a_daemon_that_will_not(folder: Path, reply: bytes) -> None:
    daemon = Daemon(folder, reply)
    try:
        with pytest.raises(EngineError), open_session(daemon.endpoint, "/session", Attachables(secrets={"a": b"b"})):
            pass
    finally:
        daemon.close()


def _data(message: bytes) -> bytes:
    return BytesMessage.FromString(message).data


def _listen(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    return listening


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
