"""Where builds are killed: an engine each, with its storage, temporary files and daemon apart from everything else."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator.engine.private import PrivateEngine
from orchestrator.engine.probe import start_private
from orchestrator.engine.settings import run_root
from tests.support.engines import Dockerd

MARK = f"0.47{secrets.randbelow(10**6):06d}"
"""How long the build's step sleeps, by which its process is known; it is no other's argument, nor another run's."""


class Ground:
    """One engine's. `spec` is what --engine gets, `environment` what a build is started with besides ours."""

    victims: tuple[str, ...] = ("orchestrator", "step", "service", "all")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = ""
        self.environment: Mapping[str, str] = {}

    def open(self) -> None:
        """Start what must run before a build."""

    def close(self) -> None:
        """End it."""

    def service(self, orchestrator: int) -> int | None:
        """The process of the engine that a build, by the id of its process, uses now."""
        raise NotImplementedError

    def revive(self) -> None:
        """Start again what was killed."""

    def ours(self, mount: str) -> bool:
        """Whether a line of mountinfo below the ground is of something that we must remove."""
        return True

    def containers(self) -> set[str]:
        """All that the engine has, by its own records and not by what we know of it."""
        raise NotImplementedError


class PrivateGround(Ground):
    """A private Podman, a service a build; its storage is that of a worker's tests, or one of its own."""

    def __init__(self, folder: Path, storage: Path | None = None) -> None:
        super().__init__(folder)
        self.spec = "private"
        self.storage = storage or folder / "storage"
        conf = folder / "storage.conf"
        roots = f'graphroot = "{self.storage}/root"\nrunroot = "{run_root(self.storage)}"\n'
        conf.write_text(f'[storage]\ndriver = "overlay"\n{roots}')
        self.environment = {"CONTAINERS_STORAGE_CONF": str(conf)}

    def service(self, orchestrator: int) -> int | None:
        """A child of it."""
        for pid, command, parent in processes():
            if parent == orchestrator and b"service" in command and b"system" in command:
                return pid
        return None

    def containers(self) -> set[str]:
        """Of its store."""
        return _stored(self.storage)


class PodmanGround(Ground):
    """A Podman service that runs by itself."""

    def open(self) -> None:
        """Start it."""
        self._engine: PrivateEngine = start_private(storage=self.folder / "storage")
        self.spec = self._engine.info.endpoint

    def close(self) -> None:
        """End it."""
        self._engine.close()

    def containers(self) -> set[str]:
        """Of its store."""
        return _stored(self.folder / "storage")

    def service(self, orchestrator: int) -> int | None:
        """Our own."""
        return self._engine.service.pid

    def revive(self) -> None:
        """A new one, unless it still runs."""
        if not Path(f"/proc/{self._engine.service.pid}/exe").exists():
            self.close()
            self.open()


class DockerGround(Ground):
    """A Docker daemon. A killed one leaves its containerd, which must end before the next daemon starts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._dockerd = Dockerd(folder / "docker")
        self.spec = self._dockerd.socket

    def open(self) -> None:
        """Start it."""
        self._dockerd.start()

    def close(self) -> None:
        """End it."""
        self._dockerd.stop()

    def ours(self, mount: str) -> bool:
        """A daemon that is killed leaves the file system of a build step mounted for ever (20.10), whoever built."""
        return "/docker/data/overlay2/" not in mount

    def containers(self) -> set[str]:
        """Those of its data directory."""
        return {path.name for path in (self.folder / "docker/data/containers").glob("*")}

    def service(self, orchestrator: int) -> int | None:
        """The daemon."""
        return self._dockerd.pid()

    def revive(self) -> None:
        """A new one, unless it still runs."""
        if self._dockerd.pid() is None:
            below = f"{self.folder}/docker".encode()
            for pid, command, _ in processes():
                if any(below in word for word in command):
                    with suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.5)
            self._dockerd.start()


GROUNDS: Mapping[str, type[Ground]] = {"private": PrivateGround, "podman": PodmanGround, "docker": DockerGround}


def processes() -> Iterator[tuple[int, list[bytes], int]]:
    """Id, arguments and parent of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
                yield int(entry.name), (entry / "cmdline").read_bytes().split(b"\0"), parent


def _stored(storage: Path) -> set[str]:
    """The containers of a Podman store, by its own record."""
    identities: set[str] = set()
    for record in storage.glob("root/*-containers/containers.json"):
        identities |= {str(row["id"]) for row in json.loads(record.read_text() or "[]") or []}
    return identities
