"""Where a rehearsal runs: namespaces of our own, or a container of an engine. Both see the same tree."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator import process
from orchestrator.engine.base import LABEL, Container, ContainerRequest, Leftover, RunningEngine
from orchestrator.errors import EngineError
from orchestrator.rehearse import jail
from orchestrator.rehearse.launcher import FOLDER
from orchestrator.rehearse.limits import MemoryGroup, new_memory_group
from orchestrator.rehearse.model import Limits
from orchestrator.rehearse.supervisor import Place

_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Host directories: the image's tree, the workspace, and that of launcher and socket; and where the guest sees
    the workspace."""

    tree: Path
    workspace: Path
    launcher: Path
    workspace_at: str

    def make_mount_points(self) -> None:
        """The directories of the tree that something is mounted on."""
        for path in ("/proc", "/dev", "/sys", FOLDER, self.workspace_at):
            (self.tree / path.lstrip("/")).mkdir(parents=True, exist_ok=True)


@dataclass
class Namespaces:
    """Without an engine; a `Place`."""

    folders: Folders
    limits: Limits
    log: Path
    devices: tuple[str, ...] = ()
    _running: process.Background | None = None
    _group: MemoryGroup | None = None

    def start(self) -> None:
        """Begin it, without waiting."""
        folders = self.folders
        devices = [*(each for each in _DEVICES if Path(each).exists()), *self.devices]
        asked = {
            "root": str(folders.tree),
            "workspace": str(folders.workspace),
            "workspace_at": folders.workspace_at,
            "launcher": str(folders.launcher),
            "launcher_at": FOLDER,
            "devices": devices,
        }
        self._group = new_memory_group(self.limits.memory << 20)
        script = str(jail.__file__)
        self._running = process.start([sys.executable, "-I", "-S", script, json.dumps(asked)], log=self.log)

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
        if self._group is not None:
            self._group.remove()


@contextmanager
def namespaces(folders: Folders, limits: Limits, log: Path, *, devices: tuple[str, ...]) -> Iterator[Place]:
    """A place without an engine. `devices`: nodes that the program is given besides the usual ones."""
    place = Namespaces(folders=folders, limits=limits, log=log, devices=devices)
    try:
        yield place
    finally:
        place.close()


@dataclass
class InContainer:
    """A container of an engine; a `Place`."""

    container: Container

    def start(self) -> None:
        """Begin it."""
        self.container.start()

    def problem(self) -> str | None:
        """Why it ended."""
        return self.container.problem()

    def adopt(self, pid: int) -> None:
        """The engine has set the limits."""

    def kill(self) -> None:
        """End all in it."""
        with suppress(EngineError):
            self.container.kill()


@contextmanager
def container(
    engine: RunningEngine, folders: Folders, limits: Limits, *, build_id: str, devices: tuple[str, ...]
) -> Iterator[Place]:
    """A container from the tree; its image and itself are removed at the end."""
    tar = folders.tree.parent / "tree.tar"
    with tarfile.open(tar, "w") as archive:
        archive.add(folders.tree, arcname=".")
    tag = f"localhost/orchestrator-rehearsal:{build_id}"
    image = engine.import_rootfs(tar, tag, {LABEL: build_id})
    tar.unlink()
    try:
        request = ContainerRequest(
            image=tag,
            command=(f"{FOLDER}/launcher",),
            build_id=build_id,
            mounts=((folders.launcher, FOLDER, True), (folders.workspace, folders.workspace_at, False)),
            memory=limits.memory << 20,
            devices=devices,
        )
        with engine.open_container(request) as opened:
            yield InContainer(opened)
    finally:
        with suppress(EngineError):
            engine.remove(Leftover(kind="image", id=image, name=tag, build_id=build_id))
