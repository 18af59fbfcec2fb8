"""Settings that a private Podman may need on this machine, from the plainest to the most cautious."""

from __future__ import annotations

import hashlib
import os
import resource
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator import process
from orchestrator.errors import EngineError
from orchestrator.files import make_directory
from orchestrator.user_paths import podman_storage

CAP_SYS_RESOURCE = 24
MAX_NPROC = 32768


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What differs from Podman's own configuration. `runtime` "" and `driver` "" = as configured.

    `driver` is "", "overlay" (the kernel's), "fuse-overlayfs" or "vfs"; `network` is the build query's networkmode.
    """

    runtime: str = ""
    driver: str = ""
    network: str = ""

    @property
    def plain(self) -> bool:
        """Whether Podman runs with its own configuration."""
        return self == Settings()

    def conf(self) -> str:
        """The text of a containers.conf, "" when none is needed."""
        if self.plain:
            return ""
        lines = []
        if not _can_raise_limits():
            # Podman asks for 1048576 files and 32768 processes or more, which fails without CAP_SYS_RESOURCE.
            files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            tasks = resource.getrlimit(resource.RLIMIT_NPROC)[1]
            tasks = MAX_NPROC if tasks == resource.RLIM_INFINITY else min(tasks, MAX_NPROC)
            files = 1048576 if files == resource.RLIM_INFINITY else files
            lines += ["[containers]", f'default_ulimits = ["nofile={files}:{files}", "nproc={tasks}:{tasks}"]']
        lines += ["[engine]", 'cgroup_manager = "cgroupfs"', 'events_logger = "file"']
        if self.runtime:
            lines.append(f'runtime = "{self.runtime}"')
        return "\n".join(lines) + "\n"

    def arguments(self, storage: Path | None) -> list[str]:
        """Podman's global options. Another driver needs a store of its own: a store knows one driver only."""
        if self.driver and storage is None:
            storage = podman_storage(self.driver)
        if storage is None:
            return []
        options = ["--root", str(storage / "root"), "--runroot", str(run_root(storage))]
        if self.driver in ("overlay", "vfs"):
            options += ["--storage-driver", self.driver]
        elif self.driver == "fuse-overlayfs":
            options += ["--storage-driver", "overlay"]
            options += ["--storage-opt", f"overlay.mount_program={process.which('fuse-overlayfs')}"]
        return options

    def note(self) -> str:
        """What a user should know of them, "" when nothing."""
        parts = [
            f"runtime {self.runtime}" if self.runtime else "",
            f"storage driver {self.driver}" if self.driver else "",
            "the host's network in build steps" if self.network else "",
        ]
        return ", ".join(part for part in parts if part)


def alternatives() -> Iterator[Settings]:
    """Settings to try in turn: Podman's own, then each installed runtime, for each storage driver."""
    runtimes = [name for name in ("runc", "crun") if process.which(name)]
    if _own_store_copies():
        for runtime in ("", *runtimes):
            yield Settings(runtime=runtime, driver="overlay")
            yield Settings(runtime=runtime, driver="overlay", network="host")
    yield Settings()
    for driver in ("", "fuse-overlayfs", "vfs"):
        if driver == "fuse-overlayfs" and process.which(driver) is None:
            continue
        for runtime in [*runtimes, *([] if runtimes else [""])]:
            yield Settings(runtime=runtime, driver=driver)
            yield Settings(runtime=runtime, driver=driver, network="host")


def local_podman(podman: str) -> list[str]:
    """The start of a command that runs Podman on this machine: with either of these variables, even empty, in its
    environment it is a client of another."""
    return ["env", "-u", "CONTAINER_HOST", "-u", "CONTAINER_CONNECTION", podman]


def _own_store_copies() -> bool:
    """Whether Podman, not as root, would keep a whole copy of the file system for each step.

    Podman 4.3 of Debian 12 then takes the driver vfs even where the kernel's overlay works, and a step that is cached
    takes 10 s. Not where the user has images in that store, which a build may want to start from.
    """
    if os.geteuid() == 0 or process.which("podman") is None:
        return False
    form = "{{.Store.GraphDriverName}} {{.Store.ImageStore.Number}}"
    info = process.run([*local_podman("podman"), "info", "--format", form])
    return info.status == 0 and info.stdout.split() == ["vfs", "0"]


def run_root(storage: Path) -> Path:
    """One for each store, and always the same: a store refuses another one later, so the environment has no say.

    Not below the store, because Podman allows it 50 characters.
    """
    name = hashlib.sha256(str(storage.absolute()).encode()).hexdigest()[:8]
    path = Path(f"/tmp/orchestrator-run-{os.getuid()}-{name}")
    make_directory(path, 0o700)
    # Anyone may have made it before us: a directory of theirs, or a link to one of ours.
    status = path.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        raise EngineError(f"{path} belongs to another user, or is a link", remedy="remove it")
    return path


def _can_raise_limits() -> bool:
    if os.geteuid() != 0:
        return False
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1)
    return True
