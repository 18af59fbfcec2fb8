"""Container engines for the tests: a dockerd and a private Podman, started by hand where none answers.

By hand, for anyone who wants a Docker daemon for a while (it stays until it is stopped):

    python -m tests.support.engines start-docker     # prints its socket, for --engine or DOCKER_HOST
    python -m tests.support.engines stop-docker
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from orchestrator import process
from orchestrator.engine.base import BuildRequest, Engine
from orchestrator.engine.probe import start_private
from orchestrator.engine.select import connect
from orchestrator.errors import EngineError
from orchestrator.events import Event, StepFinished, StepOutput, StepStarted

FOLDER = Path(tempfile.gettempdir()) / f"orchestrator-tests-{os.getuid()}"
"""Where test engines keep their images: fixed, so that a second run finds its caches."""
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"process {os.getpid()}")
"""The test session that this process is of: the workers of pytest-xdist have one name for theirs."""
PODMAN_STORE = FOLDER / f"podman{os.environ.get('PYTEST_XDIST_WORKER', '').removeprefix('gw0')}"
"""Each worker's own: what one cleans another may be using. The first has that of a run without workers."""
BASE = "localhost/orchestrator-test-base:1"
"""An image with nothing but a static busybox and its applets; `base_image` makes it."""
INSTALL = "install what the tests need: apt-get install docker.io podman runc busybox-static"
_APPLETS = """
    sh cat echo sleep ls wget seq touch ln mkdir dd yes head tail ip id mount truncate chmod env date ps cp mv rm
    test true false sync grep sed sha256sum find stat printf kill od tr
"""


class EngineMissingError(AssertionError):
    """An engine that the tests need isn't there: a failure, not a skip."""


def need(program: str) -> str:
    """The path of an installed program. EngineMissingError when it isn't."""
    path = process.which(program)
    if path is None:
        raise EngineMissingError(f"{program} is not installed; {INSTALL}")
    return path


class Dockerd:
    """A Docker daemon in `folder`, on `socket`. `network=False`: in a network namespace of its own.

    A daemon without a bridge removes docker0 when it starts, which another daemon may be using.
    """

    def __init__(self, folder: Path, *, network: bool = True) -> None:
        self.folder = folder
        self.socket = f"unix://{folder}/docker.sock"
        self._network = network

    def start(self) -> None:
        """Start it and wait until it answers; other storage drivers and no bridge where the first choice fails."""
        dockerd = need("dockerd")
        if os.geteuid() != 0:
            raise EngineMissingError("dockerd needs root; start Docker and set DOCKER_HOST")
        self.folder.mkdir(parents=True, exist_ok=True)
        no_bridge = ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        networks = [[f"--mtu={_mtu()}"], no_bridge] if self._network else [no_bridge]
        for driver in ("overlay2", "vfs"):
            for network in networks:
                if self._try(dockerd, ["--storage-driver", driver, *network]):
                    return
        raise EngineMissingError(f"dockerd does not start here:\n{self.log_tail()}")

    def stop(self, *, kill: bool = False) -> None:
        """End it (SIGKILL with `kill`) and what it started."""
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
        for _ in range(300):
            if self.pid() is None:
                return
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)

    def pid(self) -> int | None:
        """Its process, while it lives."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            return pid if b"dockerd" in command and state != "Z" else None
        return None

    def answers(self) -> bool:
        """Whether an engine answers on the socket."""
        try:
            connect(self.socket).close()
        except EngineError:
            return False
        return True

    def log_tail(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-15:])
        return ""

    def _try(self, dockerd: str, options: list[str]) -> bool:
        for name in ("pid", "docker.sock"):
            (self.folder / name).unlink(missing_ok=True)
        command = [] if self._network else [need("unshare"), "--net", "--"]
        command += [dockerd, "-H", self.socket, "--data-root", f"{self.folder}/data"]
        command += ["--exec-root", f"{self.folder}/exec", "--pidfile", f"{self.folder}/pid", *options]
        with (self.folder / "log").open("wb") as log:
            daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        for _ in range(600):
            if daemon.poll() is not None:
                return False
            if (self.folder / "docker.sock").exists() and self.answers():
                daemon.returncode = 0  # it outlives this object: no ResourceWarning for a process still running
                return True
            time.sleep(0.05)
        daemon.kill()
        daemon.wait()
        return False


@contextlib.contextmanager
def docker_engine() -> Iterator[Engine]:
    """The Docker that answers, else the tests' own dockerd."""
    _one_session()
    _one_worker()
    with contextlib.suppress(EngineError):
        engine = connect("docker")
        try:
            yield engine
        finally:
            engine.close()
        return
    dockerd = Dockerd(FOLDER / "docker")
    with _in_use(dockerd):
        engine = connect(dockerd.socket)
        try:
            yield engine
        finally:
            engine.close()


@contextlib.contextmanager
def podman_engine() -> Iterator[Engine]:
    """A private Podman whose images lie apart from the user's."""
    need("podman")
    _one_session()
    engine = start_private(storage=PODMAN_STORE)
    try:
        yield engine
    finally:
        engine.close()


def ensure_base(engine: Engine) -> str:
    """`BASE`, imported where the engine hasn't it."""
    if engine.image_digest(BASE) is None:
        with tempfile.TemporaryDirectory() as folder:
            tar = Path(folder) / "base.tar"
            tar.write_bytes(_base_tar())
            engine.import_rootfs(tar, BASE, {"org.gevulot.orchestrator.test": "base"})
    return BASE


def context(files: Mapping[str, str | bytes]) -> list[bytes]:
    """A build context's tar, as `BuildRequest.context` wants it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    return [buffer.getvalue()]


def request(
    containerfile: str, build_id: str, *, files: Mapping[str, str | bytes] | None = None, no_cache: bool = False
) -> BuildRequest:
    """A build of `containerfile` with `files` beside it, tagged by its build id."""
    return BuildRequest(
        context=context({"Containerfile": containerfile, **(files or {})}),
        containerfile="Containerfile",
        tag=f"localhost/orchestrator-test:{build_id}",
        build_id=build_id,
        no_cache=no_cache,
    )


@dataclass
class Events:
    """An `Emit` that keeps what it is told."""

    seen: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.seen.append(event)

    def step(self, title: str) -> StepStarted:
        """The step whose title contains `title`."""
        started = [event for event in self.seen if isinstance(event, StepStarted) and title in event.title]
        assert len(started) == 1, f"{len(started)} steps with {title!r} in {self.seen}"
        return started[0]

    def finish(self, title: str) -> StepFinished:
        """How that step ended."""
        identity = self.step(title).id
        return next(e for e in self.seen if isinstance(e, StepFinished) and e.id == identity)

    def output(self, title: str = "") -> str:
        """What that step wrote, or with "" everything."""
        identity = self.step(title).id if title else None
        texts = [e.text for e in self.seen if isinstance(e, StepOutput) and identity in (None, e.id)]
        return "\n".join(texts)


@functools.cache
def _one_session() -> TextIO:
    """Wait until no other test session on this machine uses the engines; they are then ours until we end.

    `clean` in one would remove what another has just built. The workers of one session share the lock.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    lock = (FOLDER / "session.lock").open("a+")
    said = False
    while not _taken(lock):
        if not said:
            print("waiting for another test session to end", file=sys.__stderr__, flush=True)
            said = True
        time.sleep(0.5)
    return lock


def _taken(lock: TextIO) -> bool:
    """Take the session's lock, alone or beside the other workers of our session, whose name is then in it."""
    with (FOLDER / "session.gate").open("a") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            if lock.read() != RUN:
                return False
        else:
            lock.truncate(0)
            lock.write(RUN)
            lock.flush()
        fcntl.flock(lock, fcntl.LOCK_SH)
        return True


@functools.cache
def _one_worker() -> TextIO:
    """Docker is one worker's: what a second removes or interrupts would be the first one's."""
    lock = (FOLDER / "docker.worker").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AssertionError("two workers use Docker; its tests need one group in tests/conftest.py") from None
    return lock


@contextlib.contextmanager
def _in_use(dockerd: Dockerd) -> Iterator[None]:
    """Start it unless it runs; at the end stop it unless it is still used."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "docker.users").open("a") as users:
        with (FOLDER / "docker.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_SH)
            if not dockerd.answers():
                dockerd.start()
        try:
            yield
        finally:
            with (FOLDER / "docker.lock").open("a") as lock, contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX)
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not (dockerd.folder / "keep").exists():
                    dockerd.stop()


def _mtu() -> int:
    """Of the interface with the default route: a bridge with a larger one loses packets."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        name, destination = line.split()[:2]
        if destination == "00000000":
            return int(Path(f"/sys/class/net/{name}/mtu").read_text())
    return 1500


def _base_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(member)
        busybox = Path(need("busybox")).read_bytes()
        member = tarfile.TarInfo("bin/busybox")
        member.size, member.mode = len(busybox), 0o755
        tar.addfile(member, io.BytesIO(busybox))
        for name in _APPLETS.split():
            member = tarfile.TarInfo(f"bin/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(member)
    return buffer.getvalue()


def main(arguments: list[str]) -> int:
    """start-docker | stop-docker."""
    dockerd = Dockerd(FOLDER / "docker")
    if arguments == ["start-docker"]:
        try:
            with _in_use(dockerd):
                (dockerd.folder / "keep").touch()
        except EngineMissingError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(dockerd.socket)
        return 0
    if arguments == ["stop-docker"]:
        (dockerd.folder / "keep").unlink(missing_ok=True)
        dockerd.stop()
        shutil.rmtree(dockerd.folder / "exec", ignore_errors=True)
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
