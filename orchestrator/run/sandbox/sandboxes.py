"""Where a rehearsal runs: namespaces of our own, or a container of an engine. Both see the same tree."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from orchestrator import process
from orchestrator.engine.base import Container, ContainerRequest, Leftover, RunningEngine
from orchestrator.errors import EngineError
from orchestrator.label import LABEL
from orchestrator.run.sandbox import jail
from orchestrator.run.sandbox.launcher import FOLDER
from orchestrator.run.sandbox.limits import MemoryGroup, new_memory_group
from orchestrator.run.sandbox.outcome import SandboxLimits
from orchestrator.run.sandbox.supervisor import CannotBeginError, Sandbox
from orchestrator.run.sandbox.view import SKELETON

_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_LAUNCHER_FAILED: Final = 125


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Host directories: the image's tree, the workspace, and that of the launcher and, for a container, of its
    socket; where the guest sees the workspace. `user`: whose the program is, None for our own."""

    tree: Path
    workspace: Path
    launcher: Path
    workspace_at: str
    hostname: str
    user: int | None


@dataclass
class NamespaceSandbox:
    """Without an engine; a `Sandbox`."""

    folders: Folders
    limits: SandboxLimits
    log: Path
    devices: tuple[str, ...] = ()
    _running: process.Background | None = None
    _group: MemoryGroup | None = None
    _ours: socket.socket | None = None

    def start(self) -> None:
        """Begin it, without waiting. CannotBeginError where it is known to fail."""
        folders = self.folders
        if os.geteuid() == 0 and folders.user is None:
            raise CannotBeginError(
                "root has no unused user id here, and programs are never run as root", remedy=_ENGINE
            )
        for folder in (folders.launcher, folders.tree):
            if os.statvfs(folder).f_flag & os.ST_NOEXEC:
                raise CannotBeginError(
                    f"no program can run from {folder.parent.parent}, which is mounted noexec",
                    remedy="set TMPDIR to a directory from which programs may run",
                )
        self._group = new_memory_group(self.limits.memory << 20)
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asked = jail.JailSettings(
            root=str(folders.tree),
            workspace=str(folders.workspace),
            workspace_at=folders.workspace_at,
            launcher=str(folders.launcher),
            launcher_at=FOLDER,
            devices=[*(device for device in _DEVICES if Path(device).exists()), *self.devices],
            hostname=folders.hostname,
            socket=theirs.fileno(),
            user=-1 if folders.user is None else folders.user,
        )
        command = [sys.executable, "-I", "-S", str(jail.__file__), json.dumps(asked)]
        with theirs:
            self._running = process.start(command, log=self.log, pass_fds=(theirs.fileno(),))

    def connection(self) -> socket.socket | None:
        """The launcher's end is its own from the beginning."""
        return self._ours

    def problem(self) -> str | None:
        """Why it ended."""
        if self._running is None or self._running.poll() is None:
            return None
        return self.log.read_text(errors="replace").strip() or f"its process ended with {self._running.returncode}"

    def adopt(self, pid: int) -> None:
        """Into the memory cgroup; without one the supervisor's watch is all."""
        if self._group is not None:
            with suppress(OSError):
                self._group.take(pid)

    def kill(self) -> None:
        """End all in it: the first process of a PID namespace takes the others with it."""
        if self._running is not None and self._running.poll() is None:
            self._running.kill()
            self._running.wait()

    def close(self) -> None:
        """Wait for its end, and remove the cgroup."""
        if self._running is not None:
            with suppress(Exception):
                self._running.wait(timeout=2)
            self.kill()
        if self._ours is not None:
            self._ours.close()
        if self._group is not None:
            self._group.remove()


_ENGINE: Final = "use a container engine (--engine podman or docker)"


@contextmanager
def open_namespace_sandbox(
    folders: Folders, limits: SandboxLimits, log: Path, *, devices: tuple[str, ...]
) -> Iterator[Sandbox]:
    """A sandbox without an engine. `devices`: nodes that the program is given besides the usual ones."""
    sandbox = NamespaceSandbox(folders=folders, limits=limits, log=log, devices=devices)
    try:
        yield sandbox
    finally:
        sandbox.close()


class UnseenFilesError(CannotBeginError):
    """The engine does not see this machine's files, or not the same ones under their names."""


@dataclass
class ContainerSandbox:
    """A container of an engine; a `Sandbox`. Its launcher connects to `server`. `refused` words the engine's errors."""

    container: Container
    server: socket.socket
    expected: frozenset[int]
    refused: Callable[[EngineError], CannotBeginError]
    _connection: socket.socket | None = None

    def start(self) -> None:
        """Begin it."""
        try:
            self.container.start()
        except EngineError as error:
            raise self.refused(error) from error

    def connection(self) -> socket.socket | None:
        """The launcher's connection, once it is there; one of another user is none."""
        while self._connection is None:
            try:
                connection = self.server.accept()[0]
            except BlockingIOError:
                return None
            _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if user in self.expected:
                connection.setblocking(True)
                self._connection = connection
                self.server.close()  # the program would be the next
            else:
                connection.close()
        return self._connection

    def problem(self) -> str | None:
        """Why it ended. UnseenFilesError when its launcher did not find our socket."""
        problem = self.container.problem()
        if problem is not None and problem.endswith(f" {_LAUNCHER_FAILED}"):
            raise UnseenFilesError("the rehearsal could not begin: the container does not see this process's socket")
        return problem

    def adopt(self, pid: int) -> None:
        """The engine has set the limits."""

    def kill(self) -> None:
        """End all in it."""
        with suppress(EngineError):
            self.container.kill()

    def close(self) -> None:
        """Let go of the launcher's connection."""
        if self._connection is not None:
            self._connection.close()


@contextmanager
def open_container_sandbox(
    engine: RunningEngine, folders: Folders, limits: SandboxLimits, *, build_id: str, devices: tuple[str, ...]
) -> Iterator[Sandbox]:
    """A container from the tree; its image and itself are removed at the end."""
    tar = folders.tree.parent / "tree.tar"
    with tarfile.open(tar, "w") as archive:
        archive.add(folders.tree, arcname=".", filter=_everyones)
        for name in ("launcher", SKELETON):
            archive.add(folders.launcher / name, arcname=f".{FOLDER}/{name}", filter=_everyones)
    tag = f"localhost/orchestrator-rehearsal:{build_id}"
    with engine.protect(build_id):
        image = engine.import_rootfs(tar, tag, {LABEL: build_id})
    tar.unlink()
    sockets = folders.launcher / "socket"
    try:
        request = ContainerRequest(
            image=tag,
            command=(f"{FOLDER}/launcher",),
            build_id=build_id,
            mounts=((sockets, f"{FOLDER}/socket", True), (folders.workspace, folders.workspace_at, False)),
            memory=limits.memory << 20,
            processes=limits.threads + 4,
            hostname=folders.hostname,
            user=folders.user,
            devices=devices,
        )
        with ExitStack() as stack:
            server = stack.enter_context(_listening(sockets))
            try:
                opened = stack.enter_context(engine.open_container(request))
            except EngineError as error:
                raise _refused(error, folders, engine) from error
            sandbox = ContainerSandbox(
                opened, server, _expected(folders.user), partial(_refused, folders=folders, engine=engine)
            )
            stack.callback(sandbox.close)
            yield sandbox
    finally:
        with suppress(EngineError):
            engine.remove(Leftover(kind="image", id=image, name=tag, build_id=build_id))


def _refused(error: EngineError, folders: Folders, engine: RunningEngine) -> CannotBeginError:
    begin = "the rehearsal could not begin: "
    if any(str(path) in error.said for path in (folders.launcher, folders.workspace)):
        return UnseenFilesError(
            f"{begin}{engine.info.kind} at {engine.info.endpoint} does not see {folders.launcher.parent}"
        )
    return CannotBeginError(
        f"{begin}{engine.info.kind} refuses its container: {error.message}",
        remedy="try another --engine (none, podman, docker); `orchestrator doctor` shows which can be used",
    )


def _everyones(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Root's, and readable by all: the program is another user there."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _expected(user: int | None) -> frozenset[int]:
    """Whose connection is the launcher's: root's of the container, which is us or root, or the one we asked for."""
    return frozenset({0, os.geteuid()} | ({user} if user is not None else set()))


@contextmanager
def _listening(folder: Path) -> Iterator[socket.socket]:
    """The supervisor's socket in `folder`. All may connect who get there: the folder above is ours alone."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    path = folder / "socket"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(str(path))
        path.chmod(0o777)
        server.listen(8)
        server.setblocking(False)
        yield server
