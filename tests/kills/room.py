"""A room of their own for the killed builds of one engine, where all that is left is theirs or the engine's.

As root it is a set of namespaces (processes, mounts, network) with its own /tmp, /var/tmp, /run, /dev/shm and home, so
that nothing has to be known by its name. Without root there is a directory for temporary files, and no more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.inputs.store import Store
from orchestrator.user_paths import CACHE_VARIABLE
from tests.build.projects import BASE, cache_with_base
from tests.support.cli import ROOT

HERE = Path("/run/kills")
"""The room's folder, as it is called inside: short, because sockets lie below it."""
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")
_SETUP = """
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/kills
mount --bind "$1" /run/kills
for name in /tmp /var/tmp; do
    mkdir -p "/run/kills/host$name"
    chmod 1777 "/run/kills/host$name"
    mount --bind "/run/kills/host$name" "$name"
done
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
shift
"$@"
exit $?
"""
# Not `exec`: the shell stays as the first process, which takes what has lost its parent.


@dataclass(frozen=True, kw_only=True)
class Room:
    """`folder` holds the grounds. `temporary`: where builds and engines have their temporary files. `home`: the user's.
    `alone`: nobody else is in it."""

    folder: Path
    temporary: tuple[Path, ...]
    home: Path | None = None
    alone: bool = False

    @property
    def stopped(self) -> bool:
        """Whether the run is to end early."""
        return (self.folder / "stop").exists()


def is_inside() -> bool:
    """Whether this process is in such a room."""
    return os.environ.get("HOME") == f"{HERE}/home" and HERE.is_dir()


def this_room() -> Room:
    """That which this process is in."""
    return Room(folder=HERE, temporary=tuple(map(Path, _TEMPORARY)), home=HERE / "home", alone=True)


def usual_room(folder: Path) -> Room:
    """None of one's own: only the directory for temporary files is."""
    (folder / "tmp").mkdir()
    return Room(folder=folder, temporary=(folder / "tmp",))


@dataclass(frozen=True, kw_only=True)
class OpenRoom:
    """A room as it is seen from outside: a process that runs in it, and its folder."""

    folder: Path
    running: subprocess.Popen[bytes]

    def stop(self) -> None:
        """Ask it to end early."""
        (self.folder / "stop").touch()

    def wait(self) -> int:
        """The exit status of the process."""
        return self.running.wait()

    def remove(self) -> None:
        """Remove what is left of it: its mounts and processes have gone with it."""
        shutil.rmtree(self.folder)


def open_room(module: str, arguments: Sequence[str]) -> OpenRoom:
    """Run a module of ours in a new room, whose user has the tests' base in their cache."""
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    cache = cache_with_base(folder / "home/.cache/gevulot-orchestrator", BASE)
    # An import brings the entry, not what it was made for; of the names that lead nowhere no notice is taken.
    shutil.copytree(Store().root / "names", cache / "names", dirs_exist_ok=True)
    unwanted = ("TMPDIR", CACHE_VARIABLE, "DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINER_CONNECTION")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("XDG_") and name not in unwanted}
    namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]
    command = [
        "unshare",
        *namespaces,
        "sh",
        "-euc",
        _SETUP,
        "sh",
        str(folder),
        sys.executable,
        "-m",
        module,
        *arguments,
    ]
    environment = {**kept, "HOME": f"{HERE}/home"}
    return OpenRoom(folder=folder, running=subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True))


def processes() -> Iterator[tuple[int, list[bytes], int]]:
    """Id, arguments and parent of every process that lives, if only by a thread: its sockets are open until then."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state != "Z" or len(list((entry / "task").iterdir())) > 1:
                    yield int(entry.name), (entry / "cmdline").read_bytes().split(b"\0"), int(parent)
