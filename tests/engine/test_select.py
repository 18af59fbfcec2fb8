"""Which engine is taken, and what is said when none is. Sockets are real; what serves them is not an engine."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.engine import endpoints, select
from orchestrator.engine.podman import SSH
from orchestrator.engine.select import candidates, connect
from orchestrator.errors import EngineError, ExitCode, Severity
from orchestrator.events import ignore
from orchestrator.network import SSH_AGENT, SSH_VOLUME
from tests.support.engines import request
from tests.support.servers import QuietServer

Replies = dict[str, tuple[int, dict[str, str], str]]


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without engines: no sockets where they would be, nothing on PATH."""
    monkeypatch.setattr(endpoints, "DOCKER_SOCKET", f"{tmp_path}/no-docker.sock")
    for name in list(os.environ):
        if name.startswith(("DOCKER_", "CONTAINER", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("orchestrator.process.which", lambda name: None)


@contextmanager
def serving(replies: Replies, *, at: Path | None = None) -> Iterator[str]:
    """An HTTP server with fixed replies by path; its URL. `at`: on a Unix socket there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = replies.get(self.path, (404, {}, "no"))
            self.send_response_only(status)  # without a `Server` of its own
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            """A build: the query is in its answer's image."""
            while not self.rfile.readline().startswith(b"0\r\n"):
                pass
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"aux": {"ID": self.path}}).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    class UnixServer(QuietServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind(self.server_address)
            self.server_name, self.server_port = "localhost", 0

        def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
            return self.socket.accept()[0], ("local", 0)

    server = QuietServer(("127.0.0.1", 0), Handler) if at is None else UnixServer(str(at), Handler)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.server_port}" if at is None else f"unix://{at}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_nothing_at_all_names_every_place() -> None:
    with pytest.raises(EngineError) as caught:
        connect("auto")
    error = caught.value
    assert error.exit_code is ExitCode.ENGINE
    assert "no-docker.sock does not exist" in error.message
    assert "podman is not installed" in error.message
    assert "systemctl start docker" in error.message
    assert "apt-get install podman" in error.message


def test_stale_socket(tmp_path: Path) -> None:
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(EngineError, match="no engine is listening") as caught:
        connect(f"unix://{path}")
    assert "start the engine" in caught.value.remedy


def test_forbidden_docker_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")  # tests run as root, whom no socket refuses

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(EngineError, match="cannot be opened") as caught:
        connect("docker")
    assert "group docker" in caught.value.remedy


@pytest.mark.parametrize(
    "replies",
    [
        {},
        {"/_ping": (200, {}, "OK"), "/version": (200, {}, "<html>")},
        {"/_ping": (200, {}, "OK"), "/version": (200, {}, '{"Version": "1"}')},
        {"/_ping": (200, {}, "OK"), "/version": (200, {}, '{"ApiVersion": "x"}')},
        {"/_ping": (200, {}, "OK"), "/version": (200, {}, "[" * 100_000)},
        {"/_ping": (200, {}, "OK"), "/version": (500, {}, "[" * 100_000)},
    ],
)
def test_something_else_answers(replies: dict[str, tuple[int, dict[str, str], str]]) -> None:
    with serving(replies) as url, pytest.raises(EngineError) as caught:
        connect(url)
    assert url in caught.value.message
    assert caught.value.remedy


def test_socket_that_never_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(select, "NAMED_TIMEOUT", 1.0)
    path = tmp_path / "mute.sock"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        with pytest.raises(EngineError, match="does not answer"):
            connect(f"unix://{path}")


def test_a_named_engine_may_start_when_it_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(select, "ANSWER_TIMEOUT", 0.1)
    said = b"HTTP/1.0 200 OK\r\nLibpod-Api-Version: 5.2.0\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK"

    def start(listening: socket.socket) -> None:
        time.sleep(0.5)  # as systemd has it: who connects meanwhile waits
        while True:
            with listening.accept()[0] as asking:
                if asking.recv(65536):
                    asking.sendall(said)
                    return

    path = tmp_path / "late.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        starting = threading.Thread(target=start, args=(listening,))
        starting.start()
        try:
            engine = connect(f"unix://{path}")
        finally:
            starting.join()
        assert engine.info.version == "5.2.0"
        engine.close()


def test_kind_comes_from_what_answers() -> None:
    docker = (
        '{"Version":"27.1","ApiVersion":"1.46","MinAPIVersion":"1.24","Os":"linux","Components":[{"Name":"Engine"}]}'
    )
    networks = '[{"Name":"bridge"}]'
    with serving(
        {"/_ping": (200, {}, "OK"), "/version": (200, {}, docker), "/v1.44/networks": (200, {}, networks)}
    ) as url:
        engine = connect(url)
        assert (engine.info.kind, engine.info.version, engine.info.api_version) == ("docker", "27.1", "1.44")
        assert engine.info.builder == "buildkit"
        engine.close()
    headers = {"Libpod-Api-Version": "5.2.0", "Api-Version": "1.41"}
    with serving({"/_ping": (200, headers, "OK")}) as url:
        engine = connect(url)
        assert (engine.info.kind, engine.info.version, engine.info.private) == ("podman", "5.2.0", False)
        engine.close()


def test_old_daemon_gets_the_classic_builder() -> None:
    old = '{"Version":"17.05","ApiVersion":"1.29","Os":"linux"}'
    with serving({"/_ping": (200, {}, "OK"), "/version": (200, {}, old), "/v1.29/networks": (200, {}, "[]")}) as url:
        engine = connect(url)
        assert (engine.info.builder, engine.capabilities.mounts) == ("classic", False)
        engine.close()


@pytest.mark.parametrize("spec", ["dokcer", "", "fd://", "npipe://x"])
def test_unknown_engine(spec: str) -> None:
    with pytest.raises(EngineError, match="unknown engine") as caught:
        connect(spec)
    assert "unix://" in caught.value.remedy


def test_candidates_of_an_empty_machine() -> None:
    findings = {finding.code: finding for finding in candidates().findings}
    assert findings["engine-none"].severity is Severity.ERROR
    assert "apt-get install podman" in findings["engine-none"].remedy
    assert findings["engine-podman-private"].severity is Severity.WARNING
    assert findings["engine-docker"].remedy


@pytest.mark.parametrize(
    ("version", "jobs", "ssh"),
    [("4.3.1", "0", SSH), ("4.9.3", "0", SSH_VOLUME), ("5.4.2", "1", SSH_VOLUME), ("5.8.6-dev", "1", SSH_VOLUME)],
)
def test_what_a_version_of_podman_is_asked_for(version: str, jobs: str, ssh: str) -> None:
    """Stages side by side where an interrupt doesn't end the service; the ssh agent in the way that it takes."""
    headers = {"Libpod-Api-Version": version, "Api-Version": "1.41"}
    asked = replace(request("FROM scratch\n", "test-x"), ssh="/agent.sock")
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        serving({"/_ping": (200, headers, "OK")}, at=Path(folder) / "podman.sock") as url,
        closing(connect(url)) as engine,
    ):
        query = parse_qs(urlsplit(engine.build(asked, ignore)).query)
    assert engine.capabilities.ssh == ssh
    assert query["jobs"] == [jobs]
    assert query.get("volume") == ([f"/agent.sock:{SSH_AGENT}"] if ssh == SSH_VOLUME else None)
    assert ("additionalbuildcontexts" in query) == (ssh == SSH)


def test_podman_elsewhere_has_no_agent_of_ours() -> None:
    headers = {"Libpod-Api-Version": "5.4.2", "Api-Version": "1.41"}
    asked = replace(request("FROM scratch\n", "test-x"), ssh="/agent.sock")
    with (
        serving({"/_ping": (200, headers, "OK")}) as url,
        closing(connect(url)) as engine,
        pytest.raises(EngineError, match="on another machine"),
    ):
        engine.build(asked, ignore)
