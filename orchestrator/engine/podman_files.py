"""What a Podman service that was killed during a build of ours left among its temporary files (its TMPDIR).

`libpod_builder…` holds a build's context and the files of its secrets. Of ours, one has a name that no other file has,
and the tar, which lies there too, begins with it. `buildah…` is what an OCI runtime gets for one step; the size of the
/dev/shm in it is that of one build. Podman removes neither when it starts again (4.3.1).

`storage…` holds layers while they are committed, and nothing that says whose. It lies in /var/tmp whatever TMPDIR is
(4.3.1): the library that makes it knows TMPDIR only from a caller, and a build through the API doesn't tell it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.documents import MOST_BYTES, read_bounded
from orchestrator.engine.running import RunningBuild
from orchestrator.temporary import remove_tree
from orchestrator.text import parse_json

_CONTEXTS, _BUNDLES, _COMMITS = "libpod_builder*", "buildah[0-9]*", "storage[0-9]*"
_COMMITTED_IN = Path("/var/tmp")
_COMMITTERS = ("podman", "buildah", "skopeo", "crio")
"""The programs that make such directories, as the kernel calls their processes."""
_PRECISION = 0.05
"""Seconds by which the times of files and of processes may differ: of these the kernel counts hundredths."""
_MAKING = 3.0
"""Seconds that Podman has to put something into a new directory; it takes some milliseconds."""


def remove_left(ended: Sequence[tuple[Path, RunningBuild]]) -> bool:
    """Remove what is of builds that were killed, each with its file in the list of them.

    False where a directory is there of which can't be told yet whose it is.
    """
    certain = _remove_commits([record for record, build in ended if build.temporary])
    for record, build in ended:
        if not (build.temporary and build.mark and build.shm):
            continue
        place = Path(build.temporary)
        for folder in (*_contexts(place, build.mark), *_bundles(place, build.shm)):
            remove_tree(folder)
        for folder, made in _unmarked(place):
            with suppress(OSError):
                if time.time() - made <= _MAKING:
                    certain = False
                elif record.stat().st_mtime <= made:
                    remove_tree(folder)
    return certain


def _remove_commits(records: Sequence[Path]) -> bool:
    """Those that were made since one of these builds began, and before any program that lives and might use them."""
    certain = True
    for folder in _folders(_COMMITTED_IN, _COMMITS) if records else ():
        with suppress(OSError):
            changed = folder.stat().st_mtime
            if not any(record.stat().st_mtime <= changed for record in records):
                continue
            # One that began at that moment may not have: it needs longer than the precision to come to a commit.
            sure = changed + _PRECISION if time.time() - changed <= _MAKING else changed - _PRECISION
            if any(began <= sure for began in _began(_COMMITTERS)):
                certain = False
            else:
                remove_tree(folder)
    return certain


def _began(names: Sequence[str]) -> Iterator[float]:
    """When the processes of these names began that live now, in seconds since 1970."""
    boot = time.time() - float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError, IndexError):
                before, _, after = (process / "stat").read_text(errors="replace").rpartition(")")
                if before.partition("(")[2] in names and after.split()[0] != "Z":
                    yield boot + int(after.split()[19]) / os.sysconf("SC_CLK_TCK")


def _contexts(place: Path, mark: str) -> Iterator[Path]:
    for folder in _folders(place, _CONTEXTS):
        with suppress(OSError):
            if os.path.lexists(folder / mark) or os.path.lexists(folder / "build" / mark) or _begins(folder, mark):
                yield folder


def _begins(folder: Path, mark: str) -> bool:
    """Whether the tar of a context begins with that file, whose name a tar has first."""
    tar = folder / "tarBall"
    if not tar.is_file():
        return False
    with tar.open("rb") as file:
        return file.read(len(mark)) == mark.encode()


def _bundles(place: Path, shm: int) -> Iterator[Path]:
    for folder in _folders(place, _BUNDLES):
        with suppress(OSError, ValueError, AttributeError):
            document = parse_json(read_bounded(folder / "config.json", MOST_BYTES))
            options = [mount.get("options") or () for mount in document["mounts"] if mount["destination"] == "/dev/shm"]
            if any(f"size={shm}" in few for few in options):
                yield folder


def _unmarked(place: Path) -> Iterator[tuple[Path, float]]:
    """Directories in which nothing is yet by which one is known, and when they were made."""
    for folder in _folders(place, _CONTEXTS):
        with suppress(OSError):
            if not any(path.name != "tarBall" or path.stat().st_size for path in folder.iterdir()):
                yield folder, folder.stat().st_mtime
    for folder in _folders(place, _BUNDLES):
        with suppress(OSError):
            if not (folder / "config.json").exists():
                yield folder, folder.stat().st_mtime


def _folders(place: Path, pattern: str) -> Iterator[Path]:
    """Directories of this user: anyone may put something of that name there, or a link."""
    for folder in place.glob(pattern):
        with suppress(OSError):
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
                yield folder
