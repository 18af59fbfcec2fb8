"""Where builds are killed: an engine each, with its storage, temporary files and daemon apart from everything else."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator.engine.settings import Settings, run_root
from tests.kills.room import processes
from tests.support.engines import Dockerd, EngineMissingError, need

MARK = f"0.47{secrets.randbelow(10**6):06d}"
"""How long the build's step sleeps, by which its process is known; it is no other's argument, nor another run's."""


class Ground:
    """One engine's. `spec` is what --engine gets, `environment` what a build is started with besides ours."""

    name = ""
    victims: tuple[str, ...] = ("orchestrator", "step", "runtime", "service", "all")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = ""
        self.environment: Mapping[str, str] = {}
        self.lost: set[str] = set()
        """What an engine that was killed doesn't know any more when it runs again: mounts, containers, interfaces."""

    def open(self) -> None:
        """Start what must run before a build."""

    def close(self) -> None:
        """End it."""

    def service(self, orchestrator: int) -> int | None:
        """The process of the engine that a build, by the id of its process, uses now."""
        raise NotImplementedError

    def engine(self) -> set[int]:
        """The processes that run as long as the engine does, whether anything is built or not."""
        return set()

    def revive(self) -> None:
        """Start again what was killed."""

    def ours(self, mount: str) -> bool:
        """Whether a line of mountinfo is of something that we must remove."""
        raise NotImplementedError

    def containers(self) -> set[str]:
        """All that the engine has, by its own records and not by what we know of it."""
        raise NotImplementedError

    def images(self) -> set[str]:
        """All that the engine has, by its own records."""
        raise NotImplementedError

    def layers(self) -> set[str]:
        """Those that Podman has, by its own records; what BuildKit keeps is its cache."""
        return set()

    def volumes(self) -> set[str]:
        """All that the engine has, by its own records."""
        raise NotImplementedError


class _PodmanStore(Ground):
    """On one storage of Podman's."""

    storage: Path

    @property
    def _roots(self) -> tuple[Path, Path]:
        return self.storage / "root", run_root(self.storage)

    def ours(self, mount: str) -> bool:
        """A store is mounted on itself as long as it lives, and so is the directory of network namespaces."""
        return mount.split(" ")[4] not in (f"{self.storage}/root/overlay", "/run/netns")

    def containers(self) -> set[str]:
        """Of its store, whichever file keeps them, and directories without a record."""
        root, temporary = self._roots
        records = (
            root / "overlay-containers/containers.json",
            temporary / "overlay-containers/volatile-containers.json",
        )
        folders = (root / "overlay-containers").glob("*/userdata")
        return {*_identities(*records), *(path.parent.name for path in folders)}

    def images(self) -> set[str]:
        """Of its store."""
        return _identities(self._roots[0] / "overlay-images/images.json")

    def layers(self) -> set[str]:
        """Of its store."""
        return _identities(self._roots[0] / "overlay-layers/layers.json")

    def volumes(self) -> set[str]:
        """Directories of its store."""
        return {path.name for path in self._roots[0].glob("volumes/*")}


class PrivateGround(_PodmanStore):
    """A private Podman, a service a build; its storage is that of a worker's tests, or one of its own."""

    name = "private"

    def __init__(self, folder: Path, storage: Path | None = None) -> None:
        super().__init__(folder)
        self.spec = "private"
        self.storage = storage or folder / "storage"
        conf = folder / "storage.conf"
        root, temporary = self._roots
        conf.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{root}"\nrunroot = "{temporary}"\n')
        self.environment = {"CONTAINERS_STORAGE_CONF": str(conf)}

    def service(self, orchestrator: int) -> int | None:
        """A child of it."""
        for pid, command, parent in processes():
            if parent == orchestrator and b"service" in command and b"system" in command:
                return pid
        return None


class PodmanGround(_PodmanStore):
    """A Podman service that runs by itself, as a unit does: its temporary files are where Podman puts them."""

    name = "podman"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.storage = folder / "storage"
        self.spec = f"unix://{folder}/podman.sock"
        conf = folder / "containers.conf"
        conf.write_text(Settings(runtime="runc").conf())
        self._environment = {**os.environ, "CONTAINERS_CONF": str(conf)}
        self._service: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start it, and wait until it answers."""
        root, temporary = self._roots
        command = [need("podman"), "--root", str(root), "--runroot", str(temporary), "--storage-driver", "overlay"]
        path = self.folder / "podman.sock"
        path.unlink(missing_ok=True)
        with (self.folder / "service.log").open("ab") as log:
            self._service = subprocess.Popen(
                [*command, "system", "service", "--time=0", self.spec],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + 60
        while time.monotonic() < until and self._service.poll() is None:
            if self._listens():
                return
            time.sleep(0.05)
        raise EngineMissingError(f"podman does not start: see {self.folder}/service.log")

    def _listens(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.folder / "podman.sock"))
            return True
        return False

    def close(self) -> None:
        """End it."""
        if self._service is not None:
            self._service.terminate()
            self._service.wait()

    def service(self, orchestrator: int) -> int | None:
        """Our own."""
        return self._service.pid if self._service is not None else None

    def engine(self) -> set[int]:
        """It alone."""
        return {self._service.pid} if self._service is not None else set()

    def revive(self) -> None:
        """A new one, unless it still runs. A killed one has an end only when the last of its threads is gone."""
        if self._service is not None and not self._listens():
            self._service.wait(timeout=30)
            self.open()


class DockerGround(Ground):
    """A Docker daemon. A killed one leaves its containerd, which must end before the next daemon starts.

    It also leaves what it had made for a step, mounted in its data directory, where the next daemon doesn't look,
    whoever built (20.10). That is the daemon's; no byte of a secret may be in it.
    """

    name = "docker"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._dockerd = Dockerd(folder / "docker")
        self.spec = self._dockerd.socket
        self._data = folder / "docker/data"

    def open(self) -> None:
        """Start it."""
        self._dockerd.start()

    def close(self) -> None:
        """End it."""
        self._dockerd.stop()

    def ours(self, mount: str) -> bool:
        """Whatever a daemon that lives has mounted."""
        return mount.split(" ")[4] not in self.lost

    def containers(self) -> set[str]:
        """Those of its data directory, and what its builder runs."""
        patterns = ("containers/*", "buildkit/executor/*/")
        return {path.name for pattern in patterns for path in self._data.glob(pattern)} - self.lost

    def images(self) -> set[str]:
        """Of its data directory."""
        return {path.name for path in self._data.glob("image/*/imagedb/content/sha256/*")}

    def volumes(self) -> set[str]:
        """Directories of its data directory."""
        return {path.name for path in self._data.glob("volumes/*/")}

    def service(self, orchestrator: int) -> int | None:
        """The daemon."""
        return self._dockerd.pid()

    def engine(self) -> set[int]:
        """It and its containerd."""
        return {
            pid for pid, command, _ in processes() if Path(os.fsdecode(command[0])).name in ("dockerd", "containerd")
        }

    def revive(self) -> None:
        """A new one, unless it still runs."""
        if self._dockerd.pid() is None:
            below = f"{self.folder}/docker".encode()
            for pid, command, _ in processes():
                if any(below in word for word in command):
                    with suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.5)
            self.lost |= self.containers()
            self._dockerd.start()
            points = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            self.lost |= {point for point in points if point.startswith(f"{self._data}/")}
            self.lost |= {line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()}


_KINDS: tuple[type[Ground], ...] = (PrivateGround, PodmanGround, DockerGround)
GROUNDS: Mapping[str, type[Ground]] = {kind.name: kind for kind in _KINDS}


def steps() -> list[int]:
    """The processes of build steps of ours."""
    return [pid for pid, command, _ in processes() if command[:2] == [b"sleep", MARK.encode()]]


def runtimes() -> list[int]:
    """The processes that run steps for an engine: Docker's runc, and what Podman has between them and its service."""
    names = ("runc", "crun", "conmon", "buildah-oci-runtime")
    return [pid for pid, command, _ in processes() if Path(os.fsdecode(command[0])).name in names]


def _identities(*records: Path) -> set[str]:
    """Those in files of containers/storage."""
    identities: set[str] = set()
    for record in records:
        with suppress(FileNotFoundError):
            identities |= {str(row["id"]) for row in json.loads(record.read_text() or "[]") or []}
    return identities
