"""Real engines that are reached over TLS and over ssh: a build with a secret, which BuildKit asks for by a session."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.engine.base import BuildSecret, Engine
from orchestrator.engine.select import connect
from orchestrator.engine.session import _copy
from orchestrator.errors import EngineError
from tests.engine.test_endpoints import FAKE_SSH, write
from tests.support.engines import Events, request


def certificates(folder: Path, address: str = "127.0.0.1") -> None:
    """ca.pem, what it signed for a server at `address` and for a client, and another authority that signed nothing."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        openssl("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    for name, keyfile in (("server", "server.key"), ("cert", "key.pem")):
        names = ("-addext", f"subjectAltName=IP:{address}", "-subj", f"/CN={name}")
        authority = ("-CA", "ca.pem", "-CAkey", "ca.key")
        openssl("req", "-x509", *key, *authority, "-keyout", keyfile, "-out", f"{name}.pem", *names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As DOCKER_CERT_PATH."""
    path = tmp_path_factory.mktemp("certificates")
    certificates(path)
    return path


@contextmanager
def behind_tls(address: str, folder: Path) -> Iterator[str]:
    """A TCP port that wants a client's certificate, and hands on to the engine's socket; its URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listening.accept()
                threading.Thread(target=carry, args=(plain,), daemon=True).start()

    def carry(plain: socket.socket) -> None:
        with (
            plain,
            suppress(OSError),
            context.wrap_socket(plain, server_side=True) as secured,
            socket.socket(socket.AF_UNIX) as engine,
        ):
            engine.connect(address.removeprefix("unix://"))
            _copy(secured, engine)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)  # wakes the thread
        listening.close()


@pytest.fixture(params=["tls", "ssh"])
def remote(
    request: pytest.FixtureRequest, engine: Engine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The engine's URL from somewhere else, in an environment with a company's CA bundle and proxy."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(folder / "other.pem"))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    if request.param == "tls":
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(folder))
        with behind_tls(engine.info.endpoint, folder) as url:
            yield url
        return
    socket_there = engine.info.endpoint.removeprefix("unix://")
    ssh = tmp_path / "ssh"
    write(ssh, FAKE_SSH.format(python=sys.executable, log=os.devnull, sock=socket_there))
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    yield "ssh://me@far"


def test_build_with_a_secret(engine: Engine, base_image: str, remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", remote)
    build_id = f"test-{secrets.token_hex(6)}"
    value = secrets.token_hex(8)
    step = f"RUN --mount=type=secret,id=s echo $(cat /run/secrets/s | sha256sum | head -c 8) {build_id}"
    events = Events()
    with closing(connect("auto")) as connected:
        assert (connected.info.kind, connected.info.endpoint) == (engine.info.kind, remote)
        build = request(f"FROM {base_image}\n{step}\n", build_id)
        connected.build(replace(build, secrets=(BuildSecret(id="s", data=value.encode()),)), events)
        for leftover in connected.leftovers():
            if leftover.build_id == build_id:
                connected.remove(leftover)
    assert hashlib.sha256(value.encode()).hexdigest()[:8] in events.output()


def test_why_tls_fails(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with behind_tls("unix:///nowhere", folder) as url:
        monkeypatch.setenv("DOCKER_HOST", url)
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
        with pytest.raises(EngineError, match=r"ca\.pem cannot be read") as caught:
            connect("auto")
        assert "DOCKER_CERT_PATH" in caught.value.remedy
        (tmp_path / "ca.pem").write_bytes((folder / "other.pem").read_bytes())
        with pytest.raises(EngineError, match=r"over TLS.*certificate verify failed") as caught:
            connect("auto")
        assert "DOCKER_CERT_PATH" in caught.value.remedy
        (tmp_path / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
        with pytest.raises(EngineError, match="cannot be reached over TLS") as caught:  # none of ours
            connect("auto")
        assert "DOCKER_CERT_PATH" in caught.value.remedy
