"""The engine that a person has named is taken, or none is; and every way to name one, and usual place, is known."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.engine.docker_contexts import current_context
from orchestrator.engine.select import candidates, connect
from orchestrator.errors import EngineError, ExitCode, Severity
from orchestrator.events import Notice
from tests.engine.test_select import Replies, nothing_here, serving
from tests.support.engines import Events

__all__ = ["nothing_here"]  # the fixture: a machine without engines

PODMAN: Replies = {"/_ping": (200, {"Libpod-Api-Version": "5.4.2", "Api-Version": "1.41"}, "OK")}
DOCKER: Replies = {
    "/_ping": (200, {}, "OK"),
    "/version": (200, {}, '{"Version":"28.5","ApiVersion":"1.44","Os":"linux","Components":[{"Name":"Engine"}]}'),
    "/v1.44/networks": (200, {}, '[{"Name":"bridge"}]'),
}


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home directory with a short path: a socket's may have 107 bytes, and pytest's are long."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


def named_by(spec: str = "auto") -> tuple[str, str]:
    """The version of the engine that is taken, and what is said of it."""
    events = Events()
    engine = connect(spec, emit=events)
    engine.close()
    (notice,) = [event for event in events.seen if isinstance(event, Notice)]
    return engine.info.version, notice.text


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def dead() -> str:
    """A TCP port that nobody serves."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("DOCKER_HOST", "ssh://nobody@127.0.0.1:1", "ssh"),
        ("DOCKER_HOST", "ssh://-oProxyCommand=x", "names no host"),
        ("DOCKER_HOST", "fd://", "unsupported scheme"),
        ("DOCKER_HOST", "npipe:////./pipe/docker_engine", "unsupported scheme"),
        ("DOCKER_HOST", "", "refuses connections"),
        ("DOCKER_HOST", "unix:///nowhere/docker.sock", "does not exist"),
        ("DOCKER_CONTEXT", "gone", "there is no docker context gone"),
        ("CONTAINER_HOST", "ssh://nobody@127.0.0.1:1/run/podman.sock", "ssh"),
        ("CONTAINER_HOST", "unix:///nowhere/podman.sock", "does not exist"),
        ("CONTAINER_CONNECTION", "gone", "there is no podman connection gone"),
    ],
)
def test_what_is_named_is_used_or_nothing_is(
    monkeypatch: pytest.MonkeyPatch, short: Path, variable: str, value: str, said: str
) -> None:
    """Beside a Docker and a Podman that answer at their usual places."""
    (short / "podman").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    monkeypatch.setattr("orchestrator.process.which", lambda name: "/usr/bin/ssh" if name == "ssh" else None)
    with serving(DOCKER, at=short / "docker.sock"), serving(PODMAN, at=short / "podman/podman.sock"):
        assert "at unix://" in named_by()[1]
        monkeypatch.setenv(variable, value or dead())
        for spec in ("auto", "docker" if variable.startswith("DOCKER") else "podman"):
            with pytest.raises(EngineError, match=said) as caught:
                connect(spec)
            assert caught.value.exit_code is ExitCode.ENGINE
            assert variable in caught.value.message
            assert caught.value.remedy
        code = "engine-docker" if variable.startswith("DOCKER") else "engine-podman-socket"
        assert [item.severity for item in candidates().findings if item.code == code] == [Severity.ERROR]


def test_a_ping_says_enough_of_a_docker_that_is_no_newer_than_we_are(short: Path) -> None:
    """/version asks containerd and runc. Whether a newer one has dropped our version of the API, only /version says."""
    ping = {"Server": "Docker/20.10.24+dfsg1 (linux)", "Api-Version": "1.41", "Ostype": "linux"}
    networks = DOCKER["/v1.44/networks"]
    with serving({"/_ping": (200, ping, "OK"), "/v1.41/networks": networks}, at=short / "d.sock") as url:
        assert named_by(url)[0] == "20.10.24+dfsg1"
    newer = {**DOCKER, "/_ping": (200, {**ping, "Api-Version": "1.99"}, "OK")}
    with serving(newer, at=short / "newer.sock") as url:
        assert named_by(url)[0] == "28.5"


def test_the_docker_commands_order(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    """DOCKER_HOST, DOCKER_CONTEXT, the context in use, the usual socket; `default` is no context."""
    folder = short / "config"
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    with ExitStack() as stack:
        for name in ("host", "asked", "used"):
            version = {**DOCKER, "/version": (200, {}, DOCKER["/version"][2].replace("28.5", name))}
            url = stack.enter_context(serving(version, at=short / f"{name}.sock"))
            document = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": url, "SkipTLSVerify": False}}}
            write(folder / f"contexts/meta/{name}-hash/meta.json", document)
        write(folder / "contexts/meta/broken/meta.json", "[" * 10_000)
        write(folder / "config.json", {"auths": {}, "currentContext": "used"})
        assert named_by()[0] == named_by("docker")[0] == "used"
        assert "named by `docker context use used`" in named_by()[1]
        monkeypatch.setenv("DOCKER_CONTEXT", "asked")
        assert named_by()[0] == "asked"
        assert "named by DOCKER_CONTEXT=asked" in named_by()[1]
        monkeypatch.setenv("DOCKER_HOST", f"unix://{short}/host.sock")
        assert named_by()[0] == "host"
        assert named_by()[1].endswith("named by DOCKER_HOST")
        monkeypatch.delenv("DOCKER_HOST")
        monkeypatch.setenv("DOCKER_CONTEXT", "default")
        with pytest.raises(EngineError, match=r"no-docker\.sock"):
            connect("docker")


def test_a_contexts_certificates(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(short))
    for name, skip in (("far", False), ("trusting", True)):
        endpoint = {"Host": "tcp://far.example:2376", "SkipTLSVerify": skip}
        write(short / f"contexts/meta/{name}1/meta.json", {"Name": name, "Endpoints": {"docker": endpoint}})
    for file in ("ca.pem", "cert.pem", "key.pem"):
        write(short / "contexts/tls/far1/docker" / file, "PEM")
    far, trusting = current_context("far"), current_context("trusting")
    assert far is not None and far.tls is not None
    assert trusting is not None and trusting.tls is not None
    assert far.tls.verify and far.tls.ca.endswith("far1/docker/ca.pem") and far.tls.key.endswith("key.pem")
    assert (trusting.tls.verify, trusting.tls.cert) == (False, "")


@pytest.mark.parametrize("config", ["", "[]", '{"currentContext": null}', '{"currentContext": 7}', "{broken"])
def test_a_configuration_that_names_nothing(monkeypatch: pytest.MonkeyPatch, short: Path, config: str) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(short))
    write(short / "config.json", config)
    assert current_context("") is None


@pytest.mark.parametrize(
    ("place", "variables"),
    [
        ("run/docker.sock", {"XDG_RUNTIME_DIR": "run"}),
        (".docker/desktop/docker.sock", {}),
        (".docker/run/docker.sock", {}),
        (".colima/default/docker.sock", {}),
        ("c/default/docker.sock", {"COLIMA_HOME": "c"}),
        (".config/colima/default/docker.sock", {}),
        (".orbstack/run/docker.sock", {}),
        (".rd/docker.sock", {}),
    ],
)
def test_dockers_usual_places(
    monkeypatch: pytest.MonkeyPatch, short: Path, place: str, variables: dict[str, str]
) -> None:
    monkeypatch.setenv("HOME", str(short))
    for name, value in variables.items():
        monkeypatch.setenv(name, str(short / value))
    path = short / place
    path.parent.mkdir(parents=True)
    with serving(DOCKER, at=path):
        for spec in ("auto", "docker"):
            assert f"at unix://{path}" in named_by(spec)[1]


CONF = """
[engine]
active_service = "far"
remote = {remote}
[engine.service_destinations.far]
uri = "{far}"
[engine.service_destinations.near]
uri = "{near}"
identity = "/keys/near"
"""


def test_podmans_connections(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    """Of both files; the default one only where podman, too, would be a client of it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(short))
    monkeypatch.setattr("orchestrator.process.which", lambda name: None if name == "ssh" else f"/usr/bin/{name}")
    with ExitStack() as stack:
        urls = {}
        for name in ("far", "near", "newer"):
            headers = {**PODMAN["/_ping"][1], "Libpod-Api-Version": name}
            urls[name] = stack.enter_context(serving({"/_ping": (200, headers, "OK")}, at=short / f"{name}.sock"))
        write(short / "containers/containers.conf", CONF.format(remote="true", **urls))
        assert named_by("podman")[0] == named_by()[0] == "far"
        assert "named by `podman system connection default far`" in named_by()[1]
        monkeypatch.setenv("CONTAINER_CONNECTION", "near")
        assert named_by()[0] == "near"
        rows = {"Default": "newer", "Connections": {"newer": {"URI": urls["newer"], "Identity": ""}}}
        write(short / "containers/podman-connections.json", {"Connection": rows})
        assert named_by()[0] == "near"
        monkeypatch.delenv("CONTAINER_CONNECTION")
        assert named_by()[0] == "newer"
        write(short / "containers/containers.conf", CONF.format(remote="false", **urls))
        monkeypatch.setattr("sys.platform", "linux")
        monkeypatch.setattr("orchestrator.engine.select.start_private", _refuse)
        with pytest.raises(EngineError, match="no private one"):
            connect("podman")
        monkeypatch.setattr("sys.platform", "darwin")
        assert named_by()[0] == "newer"


def _refuse(*_arguments: object, **_options: object) -> None:
    raise EngineError("no private one here", remedy="none")


def test_why_another_engine_was_taken_is_said(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    """Docker's socket is there and dead: Podman is taken, and a line says so."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    (short / "podman").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{short}/docker.sock")
    with serving(PODMAN, at=short / "podman/podman.sock"):
        version, said = named_by()
    assert version == "5.4.2"
    assert said.startswith("engine: Podman 5.4.2 at unix://")
    assert "rootless Docker not used: " in said and "no engine is listening" in said


FAKE_SSH = """#!{python}
import os, socket, sys, threading
with open({log!r}, "a") as log:
    print(*sys.argv[1:], file=log)
if "broken" in sys.argv:
    sys.exit("me@broken: Permission denied (publickey).")
there = socket.socket(socket.AF_UNIX)
there.connect({sock!r})
def back():
    while data := there.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=back).start()
while data := os.read(0, 65536):
    there.sendall(data)
there.shutdown(socket.SHUT_WR)
"""


@pytest.mark.parametrize(
    ("variable", "url", "command"),
    [
        ("DOCKER_HOST", "ssh://me@far:2222", "-p 2222 -l me -- far docker system dial-stdio"),
        ("DOCKER_HOST", "ssh://far/run/d.sock", "-- far docker --host unix:///run/d.sock system dial-stdio"),
        ("CONTAINER_HOST", "ssh://far/run/p.sock", "-- far podman --url unix:///run/p.sock system dial-stdio"),
    ],
)
def test_over_ssh(monkeypatch: pytest.MonkeyPatch, short: Path, variable: str, url: str, command: str) -> None:
    """A program that stands for ssh and joins us to a server here; what ssh itself says is in the error."""
    log, ssh, temporary = short / "log", short / "ssh", short / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    write(ssh, FAKE_SSH.format(python=sys.executable, log=str(log), sock=f"{short}/far.sock"))
    ssh.chmod(0o755)
    monkeypatch.setattr("orchestrator.process.which", lambda name: str(ssh) if name == "ssh" else None)
    with serving(DOCKER if variable == "DOCKER_HOST" else PODMAN, at=short / "far.sock"):
        monkeypatch.setenv(variable, url)
        assert f" at {url}, named by {variable}" in named_by()[1]
    called = log.read_text().splitlines()[0]
    assert called.endswith(command)
    assert "BatchMode=yes" in called
    monkeypatch.setenv(variable, "ssh://me@broken")
    with pytest.raises(EngineError, match="Permission denied") as caught:
        connect("auto")
    assert "ssh me@broken" in caught.value.remedy
    assert list(temporary.iterdir()) == []
