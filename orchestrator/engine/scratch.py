"""The temporary directory of a private Podman service: build contexts with their secrets, and what it unpacks.

Podman would put them into /var/tmp, where a service that is killed leaves them for ever. In a directory that is ours
they go with the service, or at the start of the next one.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from orchestrator import files, process

_PREFIX = "orchestrator-podman-tmp-"
_SERVICE = "service"
"""A file that names the service's own directory."""


def make_scratch(service: Path) -> Path | None:
    """A new directory for the service whose own directory is `service`; None where TMPDIR decides more than this.

    For a user without XDG_RUNTIME_DIR Podman's run-time directory lies there too, and must always be the same.
    """
    if os.geteuid() != 0 and not os.environ.get("XDG_RUNTIME_DIR"):
        return None
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_root()))
    files.write_new(folder / _SERVICE, os.fsencode(service))
    return folder


def remove_scratch(folder: Path) -> None:
    """Remove it, but nothing that is mounted below it: the root file system of a killed step may be."""
    below = _mounts(folder)
    for mount in sorted(below, reverse=True):
        process.run(["umount", "--lazy", mount])
    if not below or not _mounts(folder):
        shutil.rmtree(folder, ignore_errors=True)


def sweep_scratch() -> None:
    """Remove those of services that are gone: their own directory is removed first."""
    for folder in _root().glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            service = Path(os.fsdecode((folder / _SERVICE).read_bytes()))
        except OSError:
            continue
        if not service.exists():
            remove_scratch(folder)


def _root() -> Path:
    # On the disk: a context may be larger than a tmpfs. Podman's own choice where TMPDIR isn't set.
    given = os.environ.get("TMPDIR", "")
    return Path(given or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()))


def _mounts(folder: Path) -> list[str]:
    """Mount points at or below `folder` that this process sees."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    # The kernel writes blanks and their like as three octal digits.
    points = [
        re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[4]) for line in text.splitlines()
    ]
    return [point for point in points if Path(point).is_relative_to(folder)]
