"""Builds that are stopped, and engines that die: nothing runs on, nothing stays but what is labelled."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.engine import build_guard, working
from orchestrator.engine.base import BuildSecret, Engine, Leftover
from orchestrator.engine.docker_api import Api
from orchestrator.engine.private import PrivateEngine
from orchestrator.engine.probe import start_private
from orchestrator.engine.running import RunningBuild, register
from orchestrator.engine.select import connect
from orchestrator.engine.settings import run_root
from orchestrator.errors import EngineError
from orchestrator.events import Event, StepOutput, ignore
from orchestrator.label import LABEL
from tests.engine.test_endpoints import FAKE_SSH, write
from tests.support.engines import BASE, PODMAN_STORE, Dockerd, ensure_base, request

pytestmark = pytest.mark.engine


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for an engine that is killed. Not tmp_path: pytest can't remove what is still mounted."""
    path = Path(tempfile.mkdtemp(prefix="orchestrator-engine-"))
    yield path
    _kill_below(path)
    for left in (path, run_root(path / "storage")):
        _unmount(left)
        shutil.rmtree(left, ignore_errors=True)


def running(word: str) -> list[int]:
    """Processes with `word` among their arguments, those of containers included; not ourselves."""
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in arguments:
            pids.append(int(entry.name))
    return pids


def mounted(storage: Path) -> list[str]:
    """What containers have mounted of a store: one of their file systems each."""
    return [
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if f"{storage}/" in line and "/merged " in line
    ]


def until(condition: Callable[[], object], seconds: float = 30) -> bool:
    """Whether `condition` comes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return bool(condition())


def containers(engine: Engine) -> list[str]:
    """Every container, Podman's working containers included."""
    api = Api(engine.info.endpoint)
    try:
        if engine.info.kind == "podman":
            rows = api.json("GET", "/libpod/containers/json", params={"all": "true", "external": "true"})
        else:
            rows = api.json("GET", "/containers/json", params={"all": True})
        return [item["Id"] for item in rows or []]
    finally:
        api.close()


class When:
    """An `Emit` that calls `action` once, when `word` is printed by a step."""

    def __init__(self, word: str, action: Callable[[], object]) -> None:
        self._word = word
        self._action = action
        self.done = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepOutput) and self._word in event.text and not self.done:
            self.done = True
            self._action()


def test_interrupted_build_leaves_nothing(engine: Engine, base_image: str) -> None:
    build_id = f"test-{secrets.token_hex(6)}"
    length = f"{secrets.randbelow(10**6) + 10**6}.5"
    before, images = containers(engine), {item.id for item in engine.leftovers()}
    text = f"FROM {base_image}\nRUN echo begun; sleep {length} & sleep {length}; wait\nRUN echo never\n"
    emit = When("begun", lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        engine.build(request(text, build_id), emit)
    assert emit.done
    assert until(lambda: not running(length)), "the step's processes run on"
    assert until(lambda: containers(engine) == before), "a working container stays"
    assert {item.id for item in engine.leftovers()} == images
    # The engine is as good as before.
    image = engine.build(request(f"FROM {base_image}\nRUN echo {build_id}\n", build_id), ignore)
    engine.remove(next(item for item in engine.leftovers() if item.id == image))


def test_what_a_killed_build_left_is_in_use_by_another(engine: Engine, base_image: str) -> None:
    """As where two builds begin alike at once, one is killed, and what is of it removed while the other runs."""
    killed, other = (f"test-{secrets.token_hex(6)}" for _ in range(2))
    begin = f"FROM {base_image}\nRUN echo {killed} >/first\nRUN cat /first >/second\n"
    engine.build(request(begin, killed), ignore)

    def left(build_id: str) -> list[Leftover]:
        return [leftover for leftover in engine.leftovers() if leftover.build_id == build_id]

    def remove() -> None:
        for leftover in left(killed):
            with contextlib.suppress(EngineError):
                engine.remove(leftover)

    emit = When("begun", remove)
    image = engine.build(request(f"{begin}RUN echo begun; sleep 3\nRUN cat /second\n", other), emit)
    assert emit.done
    for leftover in left(other):
        engine.remove(leftover)
    while left(killed):
        remove()
    assert image not in {leftover.id for leftover in engine.leftovers()}


def test_interrupted_while_the_context_is_sent(engine: Engine, base_image: str) -> None:
    build_id = f"test-{secrets.token_hex(6)}"
    before = containers(engine)
    asked = request(f"FROM {base_image}\nRUN true\n", build_id)

    def chunks() -> Iterator[bytes]:
        yield b"".join(asked.context)[:1024]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.build(dataclasses.replace(asked, context=chunks()), ignore)
    assert until(lambda: containers(engine) == before)
    assert build_id not in {item.build_id for item in engine.leftovers()}


def test_interrupted_while_an_archive_is_read(engine: Engine, base_image: str) -> None:
    """At every moment from the container's creation to its removal."""

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    before, interrupted = containers(engine), 0
    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in range(1, 60):
            with contextlib.suppress(KeyboardInterrupt):
                try:
                    signal.setitimer(signal.ITIMER_REAL, delay * 0.004)
                    with engine.open_archive(base_image, "/bin", "test-archive") as stream:
                        stream.read()
                except KeyboardInterrupt:
                    interrupted += 1
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            assert containers(engine) == before
    finally:
        signal.signal(signal.SIGALRM, handler)
    assert interrupted > 5


def test_podman_container_without_its_storage(folder: Path) -> None:
    """What a service that is killed while it removes a container leaves: it can be found, and removed."""
    engine = start_private(storage=folder / "storage")
    ensure_base(engine)
    api = Api(engine.info.endpoint)
    body = {"Image": BASE, "Cmd": ["/none"], "Labels": {LABEL: "test-broken"}}
    identity = api.json("POST", "/containers/create", body=body)["Id"]
    api.close()
    engine.close()
    (stored,) = (folder / "storage").glob("root/*-containers/containers.json")
    assert identity in stored.read_text()
    stored.write_text("[]")
    engine = start_private(storage=folder / "storage")
    try:
        (left,) = (item for item in engine.leftovers() if item.kind == "container")
        assert (left.id, left.build_id) == (identity, "test-broken")
        engine.remove(left)
        assert not [item for item in engine.leftovers() if item.kind == "container"]
        assert containers(engine) == []
    finally:
        engine.close()


def test_podman_killed_while_it_wrote_an_image_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With half an image in its storage Podman speaks of none. The next command removes that of a killed build."""
    monkeypatch.setattr("orchestrator.engine.podman._WRITING", 0.1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    with contextlib.closing(start_private(storage=folder / "storage")) as engine:
        base, store = ensure_base(engine), engine.store
        # An image of no layer of its own: what Podman looks at for each other that ends with the same layer.
        engine.build(request(f"FROM {base}\nENV A=1\nENV B=1\n", "test-half"), ignore)
    (record,) = (folder / "storage").glob("root/*-images/images.json")
    half = next(row["id"] for row in json.loads(record.read_text()) if not row.get("names"))
    (record.parent / half / "manifest").unlink()
    with contextlib.closing(start_private(storage=folder / "storage")) as engine:
        with pytest.raises(EngineError, match=half):  # it may be another's
            engine.image_digest(base)
        with register(RunningBuild(build_id="test-half", store=store, shm=1)) as entry:
            entry.lost = True
        assert engine.image_digest(base)
        assert half not in record.read_text()
        assert engine.leftovers()


def test_podman_service_killed_in_mid_build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = folder / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    cached = "RUN --mount=type=cache,id=test-kept,target=/kept"
    engine = start_private(storage=folder / "storage")
    length = f"{secrets.randbelow(10**6) + 10**6}.5"
    try:
        base = ensure_base(engine)
        emit = When("begun", lambda: os.kill(engine.service.pid, signal.SIGKILL))
        with pytest.raises(EngineError) as caught:
            asked = request(f"FROM {base}\n{cached} touch /kept/it; echo begun; sleep {length}\n", "test-dies")
            engine.build(dataclasses.replace(asked, secrets=(BuildSecret(id="token", data=b"canary"),)), emit)
        # As if the killed service were one that runs by itself: nobody removes its directory for temporary files.
        assert hold(temporary, b"canary"), "where does it keep secrets?"
        assert "stopped answering during the build" in caught.value.message
        assert caught.value.remedy
        assert until(lambda: not running(length)), "the step's processes run on"
        with pytest.raises(EngineError):
            engine.leftovers()
        _build_after_a_kill(folder / "storage", f"FROM {base}\n{cached} ls /kept/it\n")
        assert not hold(temporary, b"canary"), "the secret stays"
        left = [
            path
            for path in temporary.glob("*/*")
            if path.name.startswith(("libpod_builder", "buildah")) and not path.is_symlink()
        ]
        assert not left
    finally:
        engine.close()
    assert list(temporary.iterdir()) == []


def _build_after_a_kill(storage: Path, containerfile: str) -> None:
    with contextlib.closing(start_private(storage=storage)) as engine:
        assert [item for item in engine.leftovers() if item.kind == "container"], "it left no working container"
        assert mounted(storage)
        # What a step has cached outlasts its service, though that lies in the service's own TMPDIR.
        engine.build(request(containerfile, "test-next"), ignore)
        assert not [item for item in engine.leftovers() if item.kind == "container"]
        assert not mounted(storage)


def hold(folder: Path, text: bytes) -> bool:
    """Whether a file below the folder has it."""
    return any(path.is_file() and not path.is_symlink() and text in path.read_bytes() for path in folder.rglob("*"))


_OWNER = """
import sys, pathlib
from orchestrator.engine.probe import start_private
from tests.support.engines import ensure_base, request
engine = start_private(storage=pathlib.Path(sys.argv[1]))
base = ensure_base(engine)
print(engine.service.pid, flush=True)
engine.build(request(f"FROM {base}\\nRUN echo begun; sleep {sys.argv[2]}\\n", "test-orphan"), print)
"""


@pytest.mark.parametrize("half", [False, True])
def test_a_build_killed_with_its_orchestrator(folder: Path, monkeypatch: pytest.MonkeyPatch, half: bool) -> None:
    length = f"{secrets.randbelow(10**6) + 10**6}.5"
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(folder / "storage"), length], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        service = Path(f"/proc/{int(owner.stdout.readline())}/cmdline")
        assert until(lambda: running(length)), "the step does not begin"
        beside = start_private(storage=folder / "storage")  # one that is in use is left alone
        assert not [item for item in beside.leftovers() if item.kind == "container"]
        beside.end_killed()
        assert running(length)
        beside.close()
        owner.kill()
    assert until(lambda: not service.exists() or service.read_bytes() == b""), "its service runs on"
    # As if it had been killed between a working container's making and its record, or while that was written.
    (record,) = (folder / "storage").glob("root/*-containers/*/userdata/buildah.json")
    record.rename(record.with_name(".tmp-buildah.json123")) if half else record.unlink()
    monkeypatch.setattr(working, "_MAKING", 600.0)
    engine = start_private(storage=folder / "storage")
    try:
        engine.end_killed()
        assert until(lambda: not running(length)), "its step runs on"
        assert containers(engine), "it may be another's, who is making it now"
        monkeypatch.setattr(working, "_MAKING", 0.0)
        engine.end_killed()
        assert containers(engine) == []
        assert not [item for item in engine.leftovers() if item.kind == "container"]
        assert not mounted(folder / "storage")
    finally:
        engine.close()


_GUARDED = """
import sys
from orchestrator.engine import podman
from orchestrator.engine.select import connect
from tests.support.engines import BASE, request
podman.PANICS = (0, 0)  # as if this version did
text = f"FROM {BASE} AS first\\nRUN echo begun; sleep {sys.argv[2]}.5\\nFROM {BASE}\\nCOPY --from=first /bin /b\\n"
connect(sys.argv[1]).build(request(text, "test-guarded"), print)
"""


_SHELL = """#!/bin/sh
for last; do :; done
case $last in
*dial-stdio) exec {python} -I -S {join} "$@" ;;
*) exec sh -c "$last" ;;
esac
"""


def put_ssh(folder: Path, address: str) -> None:
    """An `ssh` that leads to this machine: to the engine at `address`, and to a shell."""
    folder.mkdir()
    write(folder / "join", FAKE_SSH.format(python=sys.executable, log=os.devnull, sock=address))
    write(folder / "ssh", _SHELL.format(python=sys.executable, join=folder / "join"))
    (folder / "ssh").chmod(0o755)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("way", ["socket", "ssh"])
def test_a_service_that_others_use_never_loses_its_client(
    folder: Path, way: str, sign: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Podman 5 panics at: the guard ends the step, and the connection after the build has ended."""
    number = f"{secrets.randbelow(10**6) + 10**6}"
    length = f"{number}.5"  # which the client has not among its own arguments
    with contextlib.closing(start_private(storage=PODMAN_STORE)) as engine:
        ensure_base(engine)
        before, url = containers(engine), engine.info.endpoint
        if way == "ssh":
            put_ssh(folder / "bin", url.removeprefix("unix://"))
            monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
            url = "ssh://me@far/podman.sock"
        with subprocess.Popen(
            [sys.executable, "-c", _GUARDED, url, number],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as client:
            assert until(lambda: running(length)), "the step does not begin"
            client.send_signal(sign)
        assert until(lambda: not running(length)), "its step runs on"
        assert until(lambda: containers(engine) == before), "a working container stays"
        assert until(lambda: not running(build_guard.__file__)), "its guard runs on"
        engine.end_killed()


def test_dockerd_killed_in_mid_build(folder: Path) -> None:
    dockerd = Dockerd(folder / "docker", network=False)
    dockerd.start()
    engine = connect(dockerd.socket)
    length = f"{secrets.randbelow(10**6) + 10**6}.5"
    try:
        base = ensure_base(engine)
        emit = When("begun", lambda: dockerd.stop(kill=True))
        with pytest.raises(EngineError) as caught:
            engine.build(request(f"FROM {base}\nRUN echo begun; sleep {length}\n", "test-dies"), emit)
        assert "docker" in caught.value.message
        assert caught.value.remedy
    finally:
        engine.close()
        dockerd.stop(kill=True)
        for pid in running(length):
            os.kill(pid, signal.SIGKILL)


def test_private_service_ends_with_its_owner(folder: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from orchestrator.engine import private\n"
        "from orchestrator.engine.probe import start_private\n"
        "private.IDLE = 2\n"
        "engine = start_private(storage=pathlib.Path(sys.argv[1]))\n"
        "print(engine.service.pid, engine.service.folder, flush=True)\n"
        "time.sleep(1000)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "storage")], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, service_folder = owner.stdout.readline().split()
        time.sleep(1)
        owner.kill()
    gone = Path(f"/proc/{pid}/cmdline")
    assert until(lambda: not gone.exists() or gone.read_bytes() == b"", seconds=60), "the service stays"
    engine = start_private(storage=folder / "storage")  # starting the next one sweeps
    assert not Path(service_folder).exists()
    engine.close()
    assert not engine.service.folder.exists()


def test_private_service_outlives_its_idle_time(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("orchestrator.engine.private.IDLE", 2)
    engine: PrivateEngine = start_private(storage=folder / "storage")
    try:
        time.sleep(5)
        assert engine.leftovers() == []
    finally:
        engine.close()


def _kill_below(folder: Path) -> None:
    """What a killed daemon left running (containerd and such): its arguments name the folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if str(folder).encode() in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)


def _unmount(folder: Path) -> None:
    """What a killed engine left mounted keeps pytest from removing the folder."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{folder}/")]):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
