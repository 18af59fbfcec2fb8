"""Files of ours that lie among the user's sources: what earlier builds, renders and exports wrote.

They are known by what they are, wherever they lie: a context that left out "the output directory" would differ with
the directory that the command is called from, and would lose a directory of the user's that has the same name.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from orchestrator.files import PARTIAL_PREFIX, PARTIAL_SUFFIX
from orchestrator.label import EXPORT
from orchestrator.text import parse_json

MARK = "rendered by gevulot-orchestrator"
"""What the first line of every Containerfile of ours says."""
LOCK_SUFFIX = ".lock"
RECEIPT = ".receipt.json"
OUTPUTS = (
    ".img", ".img.rejected", ".img.rebuilt", RECEIPT, ".sbom.cdx.json", ".provenance.json", ".provenance.dsse.json",
)  # fmt: skip
"""How the names of what `build` writes end; they begin with the project's name."""
_STEPS = ("step/orchestrator/build.sh", "build.sh")
"""Where a render has the user's step, and where those of earlier versions have it."""
_PROJECTS = (".yaml", ".yml")
_EXPORTS = (".tar", ".zst")
_MAX = 16 * 1024 * 1024


def names_of_ours(directory: Path, entries: Sequence[os.DirEntry[str]]) -> set[str]:
    """Which of a directory's entries are files and directories of ours."""
    names = {entry.name for entry in entries}
    ours = {name for name in names if is_temporary(name)}
    for built in _built(directory, names):
        ours |= {built + end for end in OUTPUTS}
    for entry in entries:
        path = directory / entry.name
        if entry.is_dir(follow_symlinks=False):
            if _is_rendered(path):
                ours |= {entry.name, f"{entry.name}.ca.crt"}
        elif _is_project_lock(path, names) or (entry.name.endswith(_EXPORTS) and _is_export(path)):
            ours.add(entry.name)
    return ours & names


def has_our_containerfile(directory: Path) -> bool:
    """Whether a directory's Containerfile is one that `render` wrote."""
    try:
        with (directory / "Containerfile").open(encoding="utf-8", errors="replace") as stream:
            return MARK in stream.readline()
    except OSError:
        return False


def _is_rendered(directory: Path) -> bool:
    """Whether `render -o` wrote the directory: a Containerfile of ours alone may have been put anywhere by hand."""
    return has_our_containerfile(directory) and any((directory / "scripts" / path).is_file() for path in _STEPS)


def is_temporary(name: str) -> bool:
    """Whether a name is one under which we write, or hold a lock."""
    return name.startswith(PARTIAL_PREFIX) and name.endswith((PARTIAL_SUFFIX, LOCK_SUFFIX))


def _built(directory: Path, names: Collection[str]) -> Iterator[str]:
    """Names of images that `build` wrote into a directory: it leaves its lock there, and a receipt."""
    for name in names:
        if name.startswith(PARTIAL_PREFIX) and name.endswith(LOCK_SUFFIX):
            yield name.removeprefix(PARTIAL_PREFIX).removesuffix(LOCK_SUFFIX)
        elif name.endswith(RECEIPT):
            document = _json(directory / name)
            if {"orchestrator", "context_sha256", "image"} <= document.keys():
                yield name.removesuffix(RECEIPT)


def _is_project_lock(path: Path, names: Collection[str]) -> bool:
    if not path.name.endswith(LOCK_SUFFIX):
        return False
    if not any(path.name.removesuffix(LOCK_SUFFIX) + end in names for end in _PROJECTS):
        return False
    return _json(path).keys() == {"version", "inputs"}


def _is_export(path: Path) -> bool:
    """Whether a file is one that `cache export` or `bundle export` wrote, whole or not, by its first bytes."""
    # Here, not above: few contexts hold such a file, and a build that has nothing to do walks through them too.
    from orchestrator.archive import ArchiveError, UnpackLimits, unpack

    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as raw:
            return unpack(raw, UnpackLimits()).read(len(EXPORT) + 1) == f"{EXPORT}\0".encode()
    except (OSError, ArchiveError):
        return False


def _json(path: Path) -> dict[str, object]:
    """The JSON object in a file; {} for anything else."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX:
            return {}
        document = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
