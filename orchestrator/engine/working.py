"""The processes and working containers of Podman's builds, which its build API doesn't name.

They are known by the odd size of their /dev/shm, which we ask for. Cgroups would serve for processes, but rootless
Podman has none on many hosts; a working container has no label before its first step has ended.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator.documents import MOST_BYTES, read_bounded
from orchestrator.engine.build_guard import PAGE, kill_marked
from orchestrator.engine.running import killed, running
from orchestrator.text import parse_json

_SHM = 64 * 1024 * 1024
_SIGN = 0xA17
"""What is missing to whole pages in the size: nobody else asks for such a one. The kernel rounds it up."""
_CHOICES = 8192
_OLD = 24 * 3600.0
"""Seconds after which a working container is taken for left whose build is not known here: no build takes as long."""
_MAKING = 3.0
"""Seconds that Podman has from a working container's making to its record; it takes some milliseconds."""

_HALF_WRITTEN = ".tmp-buildah.json"
"""The name under which buildah writes its record of a container, with a number after it."""


class BuildMark:
    """The size (bytes) of one build's /dev/shm, which no other build that runs has."""

    def __init__(self, size: int = 0) -> None:
        taken = {build.shm for build in running()}
        while not size or size in taken:
            size = _SHM + (1 + secrets.randbelow(_CHOICES)) * PAGE - _SIGN
        self.size = size

    def kill(self) -> int:
        """SIGKILL the build's processes on this machine; how many there were."""
        return kill_marked(self.size)


def find_abandoned(records: Path, identities: list[str], store: str) -> list[str]:
    """Those of an engine's working containers that are of our builds, and of none that runs.

    `records` is the directory in which the engine keeps what it knows of its containers, on this machine.
    """
    in_use = {build.shm for build in running()}
    ended = [(path, build) for path, build in killed() if build.store == store and build.shm]
    left = {build.shm for _, build in ended}
    abandoned = [
        identity
        for identity, made in _unmarked(records, identities)
        if time.time() - made > _MAKING and any(_began(path) <= made for path, _ in ended)
    ]
    for identity in identities:
        record = records / identity / "userdata" / "buildah.json"
        size = _size_in(record)
        if not _is_ours(size) or size in in_use:
            continue
        with suppress(OSError):
            if size in left or time.time() - record.stat().st_mtime > _OLD:
                abandoned.append(identity)
    return abandoned


def are_being_made(records: Path, identities: list[str]) -> bool:
    """Whether one of these was made just now and has no mark yet: it may be a killed build's, or of one that runs."""
    return any(time.time() - made <= _MAKING for _, made in _unmarked(records, identities))


def _unmarked(records: Path, identities: list[str]) -> Iterator[tuple[str, float]]:
    """Those of which nothing was written down, and when they were made: a service that is killed between the two, or
    while it writes, leaves such a one (Podman 4.3.1). CRI-O's in the same storage have a configuration there."""
    for identity in identities:
        with suppress(OSError):
            folder = records / identity / "userdata"
            if all(path.name.startswith(_HALF_WRITTEN) for path in folder.iterdir()):
                yield identity, folder.stat().st_mtime


def _began(build: Path) -> float:
    """When a build was registered; never where that can't be told."""
    with suppress(OSError):
        return build.stat().st_mtime
    return math.inf


def _is_ours(size: int) -> bool:
    pages, rest = divmod(size - _SHM + _SIGN, PAGE)
    return rest == 0 and 0 < pages <= _CHOICES


def _size_in(record: Path) -> int:
    """The size of /dev/shm in buildah's record of a container; 0 without one."""
    with suppress(OSError, ValueError, AttributeError):
        document = parse_json(read_bounded(record, MOST_BYTES))
        size = (document.get("CommonBuildOpts") or {}).get("ShmSize")
        return int(size) if isinstance(size, int | str) else 0
    return 0
