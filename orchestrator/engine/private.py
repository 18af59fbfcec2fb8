"""A Podman service of our own: nothing to install as a daemon, nothing left running."""

from __future__ import annotations

import os
import re
import socket
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath

from orchestrator import files, process
from orchestrator.amounts import size
from orchestrator.engine.docker_api import Api, ApiError, GoneError
from orchestrator.engine.podman import UNSAID, PodmanEngine
from orchestrator.engine.settings import Settings, local_podman
from orchestrator.errors import EngineError
from orchestrator.temporary import OwnDirectory
from orchestrator.user_paths import step_caches

IDLE = 10
"""Seconds without a connection after which the service ends by itself, as when we were killed outright."""
START_TIMEOUT = 30.0
_REQUEST = re.compile(r"@ - - \[|time=\S+ level=(?:info|debug) |time=\S+ level=warning msg=\"IdleTracker:")
_FAILED = re.compile(rf"Request Failed\({UNSAID}\): (.*?)\"?$", re.MULTILINE)
_NOT_UNPACKED = "Unable to copy tar file"
"""All that Podman 4.3.1 logs then, whatever the reason."""
_LONGEST = 60
"""Bytes of a directory's name that leave room for ours."""
_NO_ROOM = 1 << 20
"""Bytes: a file system with less is full. What Podman could not unpack it has removed by now, but for whole pages."""
INSTALL = "install it (Debian: apt-get install podman runc), or start Docker"


class PrivatePodman:
    """`podman system service` on a socket in a directory of its own. `storage` = images kept apart from the user's.

    Errors: EngineError when Podman is missing or does not come up (with the end of its log).
    """

    def __init__(self, settings: Settings, *, storage: Path | None = None) -> None:
        podman = process.which("podman")
        if podman is None:
            raise EngineError("podman is not installed", remedy=INSTALL)
        self._own = OwnDirectory("podman", _runtime_dir())
        self.folder = self._own.path
        self.endpoint = f"unix://{self.folder}/podman.sock"
        self._service: process.Background | None = None
        self._hold: socket.socket | None = None
        self._scratch: OwnDirectory | None = None
        try:
            self._scratch = _make_scratch()
            self._service = self._start(podman, settings, storage)
            self._wait()
            self._hold = self._hold_open()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The service's process."""
        return self._service.pid if self._service is not None else 0

    def close(self) -> None:
        """Stop the service, remove its directory."""
        if self._hold is not None:
            self._hold.close()
        if self._service is not None:
            process.stop(self._service)
        if self._scratch is not None:
            self._scratch.close()
        self._own.close()

    def log_tail(self) -> str:
        """The last lines of the service's log, without the requests: these hold the passwords of proxies."""
        lines = (line for line in self._log().splitlines() if not _REQUEST.match(line))
        return "\n".join([*lines][-12:])

    def why_failed(self) -> str:
        """Why the last request failed, as the service logged it; "" where it didn't."""
        said = _FAILED.findall(self._log())
        if not said:
            return ""
        if _NOT_UNPACKED not in said[-1]:
            return str(said[-1]).replace('\\"', '"')
        place = self._scratch.path if self._scratch is not None else Path(tempfile.gettempdir())
        free = files.free_space(place)
        full = ": no space left on device" if free < _NO_ROOM else ""
        return f"Podman failed to unpack the build context in {place.parent} (from TMPDIR; {size(free)} free){full}"

    def _log(self) -> str:
        with suppress(OSError):
            return (self.folder / "log").read_text(errors="replace").strip()
        return ""

    def _start(self, podman: str, settings: Settings, storage: Path | None) -> process.Background:
        environment = {}
        if conf := settings.conf():
            path = self.folder / "containers.conf"
            files.write_new(path, conf.encode())
            environment["CONTAINERS_CONF"] = str(path)
        if self._scratch is not None:
            environment["TMPDIR"] = str(self._scratch.path)
            if os.geteuid() != 0:
                environment["XDG_RUNTIME_DIR"] = _podmans_runtime_dir()
        command = [*local_podman(podman), *settings.arguments(storage)]
        # Why it can't unpack a context it says nowhere else.
        command += ["--log-level=info", "system", "service", f"--time={IDLE}", self.endpoint]
        # Podman's monitor of a container that ran out of memory leaves a file `oom` where it stands.
        started = process.start(command, env=environment, log=self.folder / "log", cwd=self.folder)
        for directory in (self._own, self._scratch):
            if directory is not None:
                directory.adopt(started.pid)
        return started

    def _wait(self) -> None:
        until = time.monotonic() + START_TIMEOUT
        while time.monotonic() < until:
            with suppress(OSError), _connection(self.folder / "podman.sock"):
                return
            if self._service is None or self._service.poll() is not None:
                break
            time.sleep(0.01)
        raise EngineError(
            f"the private Podman service failed to start:\n{self.log_tail()}",
            remedy="run `podman info` to see what is wrong with Podman on this machine, or start Docker",
            said=self.log_tail(),
        )

    def _hold_open(self) -> socket.socket:
        """A request that lasts: while it does, the service isn't idle. Of idle connections it takes no notice.

        The kernel closes it when we die, however we die.
        """
        held = _connection(self.folder / "podman.sock")
        nothing = "filters=%7B%22label%22%3A%5B%22org.gevulot.orchestrator.no-such-event%22%5D%7D"
        held.sendall(f"GET /v1.40/events?{nothing} HTTP/1.1\r\nHost: podman\r\n\r\n".encode())
        return held


class PrivateEngine(PodmanEngine):
    """The engine on a private service; closing it stops the service."""

    def __init__(self, service: PrivatePodman, *, note: str = "", network: str = "") -> None:
        try:
            super().__init__(Api(service.endpoint), private=True, note=note)
        except GoneError as error:
            raise EngineError(
                f"the private Podman service does not answer: {error.message}\n{service.log_tail()}",
                remedy="run `podman info` to see what is wrong with Podman on this machine",
                said=service.log_tail(),
            ) from error
        self._network = network
        self.service = service

    def _reason(self, error: ApiError) -> str:
        """From the service's log where Podman doesn't answer with it."""
        logged = self.service.why_failed() if error.said == UNSAID else ""
        return logged or super()._reason(error)

    def close(self) -> None:
        """Let go of connections, stop the service."""
        super().close()
        self.service.close()


def _connection(path: Path) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX)
    try:
        opened.connect(str(path))
    except BaseException:
        opened.close()
        raise
    return opened


def _runtime_dir() -> Path:
    """Short, private and on tmpfs where there is such a place: a socket's path may have 107 bytes."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and len(os.fsencode(runtime)) < _LONGEST and os.access(runtime, os.W_OK):
        return Path(runtime)
    usual = tempfile.gettempdir()
    return Path(usual if len(os.fsencode(usual)) < _LONGEST else "/tmp")


def _make_scratch() -> OwnDirectory | None:
    """The service's TMPDIR: build contexts with their secrets, and what it unpacks; None where Podman's run-time
    directory would be in there.

    Podman would put them into /var/tmp, where a service that is killed leaves them for ever. The caches of RUN lie in
    TMPDIR, too, and are to outlast it: up to Podman 4.3 they had the same name in /var/tmp for all users of a machine.
    """
    if os.geteuid() != 0 and not _podmans_runtime_dir():
        return None
    # On the disk: a context may be larger than a tmpfs. Podman's own choice where TMPDIR isn't set.
    named = os.environ.get("TMPDIR", "")
    place = Path(named or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()))
    scratch = OwnDirectory("podman-tmp", place)
    with suppress(OSError):  # a home that can't be written: the caches end with the service
        caches = step_caches()
        files.make_directory(caches, 0o700)
        with files.GuardedTree(scratch.path) as tree:
            for name in ("buildah-cache", f"buildah-cache-{os.getuid()}"):  # the second since Podman 4.4
                tree.make_symlink(PurePosixPath(name), str(caches))
    return scratch


def _podmans_runtime_dir() -> str:
    """XDG_RUNTIME_DIR, as Podman itself sets it for a user who has none; "" where it would find another place.

    It lies in TMPDIR, which is ours for the service, and must be the one that the user's own `podman` has.
    """
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return runtime
    uid = os.getuid()
    for path in (Path(f"/run/user/{uid}"), Path(tempfile.gettempdir(), f"podman-run-{uid}")):
        with suppress(OSError):
            if path.parent != Path("/run/user"):
                files.make_directory(path, 0o700)
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == uid and status.st_mode & 0o700 == 0o700:
                return str(path)
    return ""
