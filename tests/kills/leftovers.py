"""What killed builds left: looked for in engines' own records, in the kernel's, and in every file that has changed."""

from __future__ import annotations

import base64
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills.grounds import Ground, steps
from tests.kills.room import HERE, Room, processes

SECRET = b"kill-canary-7f2c91-7f2c91"
_ENGINES_OWN = re.compile(
    r"orchestrator-run-\d+-|storage-run-|containers-user-|libpod_lock|libpod_rootless_lock|buildah-cache"
    r"|containerd\.\d+\.stacks\.log"
)
"""Of as long a life as an engine's storage: run-time directories, what `RUN --mount=type=cache` keeps, locks; and what
containerd writes of its threads where a dockerd that starts waits for it too long, as on a busy machine."""
_CHUNK = 1 << 20


@dataclass
class Leftovers:
    """On one ground: what came since `begin`. `out` and `project` are the directories of its builds."""

    ground: Ground
    room: Room
    out: Path
    project: Path
    _known: dict[str, set[str]] = field(default_factory=dict)

    def begin(self) -> None:
        """What is here now, before any build, is not a build's."""
        self._known = self._all()

    def keep_results(self) -> None:
        """What is in the directories of a build that ended well is its result."""
        self._known["file"] |= {str(path) for path in self._results()}

    def find(self, *, locks: bool = False, everything: bool = False) -> list[str]:
        """What is here and was not. `locks`: those of output directories may stay; not what is known of the contexts
        that a daemon keeps after `clean --all` (`everything`)."""
        now = self._all()
        kept = {path for path in now["file"] if locks and re.search(r"/\.orchestrator-[^/]*\.lock$", path)}
        kept |= {path for path in now["file"] if not everything and "/gevulot-orchestrator/synced/" in path}
        return [f"{kind} {what}" for kind in now for what in sorted(now[kind] - self._known[kind] - kept)]

    def secrets(self, since: float) -> list[str]:
        """The files that were changed since then, wherever they are, that hold the secret."""
        return [f"the secret in {path}" for path in self._changed(since) if holds(path)]

    def _all(self) -> dict[str, set[str]]:
        return {
            "container": self.ground.containers(),
            "volume": self.ground.volumes(),
            "mount": {*self._mounts()},
            "process": {*self._processes()},
            "network": {*self._cables()},
            "file": {str(path) for path in (*self._temporary(), *self._results(), *self._of_home())},
        }

    def _mounts(self) -> Iterator[str]:
        below = f"{self.room.folder}/"
        for pid in [str(pid) for pid, _, _ in processes()] if self.room.alone else ["self"]:
            lines: list[str] = []
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/mountinfo").read_text(errors="replace").splitlines()
            for line in lines:
                point = line.split(" ")[4]
                if (self.room.alone or (point.startswith(below) and "/merged " in line)) and self.ground.ours(line):
                    yield point

    def _processes(self) -> Iterator[str]:
        yield from (f"of a step: {pid}" for pid in steps())
        if not self.room.alone:
            return
        here = {pid: (command, parent) for pid, command, parent in processes()}
        known, above = self.ground.engine(), os.getpid()
        while above in here:
            known.add(above)
            above = here[above][1]
        for pid, (command, _) in here.items():
            if pid not in known:
                yield f"{pid}: {b' '.join(command).decode(errors='replace')[:200]}"

    def _cables(self) -> Iterator[str]:
        """Network interfaces of containers."""
        for line in Path("/proc/net/dev").read_text().splitlines() if self.room.alone else ():
            if (name := line.partition(":")[0].strip()).startswith("veth") and name not in self.ground.lost:
                yield name

    def _temporary(self) -> Iterator[Path]:
        for place in self.room.temporary:
            with suppress(FileNotFoundError):
                yield from (path for path in place.iterdir() if not _ENGINES_OWN.match(path.name))
        if self.room.alone:
            yield from (path for path in Path("/run").rglob("*orchestrator*") if self.room.folder not in path.parents)

    def _results(self) -> Iterator[Path]:
        for folder in (self.out, self.project):
            yield from folder.rglob("*")

    def _of_home(self) -> Iterator[Path]:
        """Files in the user's home, less what the cache keeps for the next build, by its documented names."""
        if self.room.home is None:
            return
        kept = (
            "entries",
            "names",
            "locks",
            "builds",
            "trees",
            "step-caches",
            "git",
            "templates",
            "podman-settings.json",
        )
        cache = self.room.home / ".cache/gevulot-orchestrator"
        for folder, folders, names in os.walk(self.room.home):
            folders[:] = [name for name in folders if not (Path(folder) == cache and name in kept)]
            yield from (Path(folder, name) for name in names if not (Path(folder) == cache and name in kept))

    def _changed(self, since: float) -> Iterator[Path]:
        """Files that are new or changed since then, except the secret's own."""
        places = {self.room.folder, *(Path(place) for place in ("/var/tmp", "/tmp", "/run", "/dev/shm"))}
        for place in places:
            for folder, folders, names in os.walk(place):
                # Once each: the room's /tmp and /var/tmp lie in `host`.
                folders[:] = [name for name in folders if {Path(folder, name)}.isdisjoint({*places, HERE / "host"})]
                for path in (Path(folder, name) for name in names):
                    with suppress(OSError):
                        status = path.lstat()
                        new = max(status.st_mtime, status.st_ctime) >= since
                        if new and path.is_file() and not path.is_symlink() and path.name != "canary.txt":
                            yield path


def holds(path: Path) -> bool:
    """Whether a file holds the secret: as it is, in base64, or packed by gzip."""
    with suppress(OSError, zlib.error), path.open("rb") as file:
        first = file.read(_CHUNK)
        pieces = iter(lambda: file.read(_CHUNK), b"")
        if _holds(_joined(first, pieces)):
            return True
        if first.startswith(b"\x1f\x8b"):
            file.seek(0)
            unpack = zlib.decompressobj(31)
            return _holds(unpack.decompress(chunk) for chunk in iter(lambda: file.read(_CHUNK), b""))
    return False


def _joined(first: bytes, others: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from others


def _base64(data: bytes) -> Iterator[bytes]:
    """How it looks in base64, wherever in a text it begins: less the letters that its neighbours have a part in."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + data)
        yield whole[-(-before * 8 // 6) : len(data) * 8 // 6 - 2]


_NEEDLES = (SECRET, *_base64(SECRET))


def _holds(chunks: Iterable[bytes]) -> bool:
    rest = b""
    for chunk in chunks:
        whole = rest + chunk
        if any(needle in whole for needle in _NEEDLES):
            return True
        rest = whole[-64:]
    return False
