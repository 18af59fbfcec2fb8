"""Which of the missing things project.yaml can ask for without breaking the next build, and why not the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.run.sandbox.lookup import WORK_DIRECTORY, Lookup, StagesAs
from orchestrator.run.sandbox.trace import Missing

_OF_THE_KERNEL: Final = ("/proc", "/sys", "/dev")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to write into project.yaml (`libraries` of stage.extra, `entries` of stage.files), and why the rest is
    left: reason → names, in order.
    """

    libraries: tuple[str, ...]
    entries: tuple[str, ...]
    left: Mapping[str, tuple[str, ...]]


def choose(missing: Missing, nearby: Lookup, closer: Callable[[], Lookup], *, succeeded: bool) -> Choice:
    """Sort out what a rehearsal found missing. `closer` is asked for only where `nearby` finds nothing."""
    left: dict[str, tuple[str, ...]] = {}

    def keep(name: str, reason: str) -> bool:
        if reason:
            left[reason] = (*left.get(reason, ()), name)
        return not reason

    def find_file(path: str) -> StagesAs:
        if reason := _never(path):
            return StagesAs(reason=reason)
        near = nearby.find_file(path.lstrip("/"))
        return near if near.entry else closer().find_file(path.lstrip("/"))

    def why_no_library(name: str) -> str:
        return _unwritable(name) or (nearby.why_no_library(name) and closer().why_no_library(name))

    if succeeded:
        for name in (*missing.libraries, *missing.files):
            keep(name, "the program succeeded without it")
        return Choice(libraries=(), entries=(), left=left)
    staged = {path: find_file(path) for path in missing.files}
    staged |= {path: _with_its_files(where, staged.values()) for path, where in staged.items()}
    entries = tuple(where.entry for path, where in staged.items() if keep(path, where.reason))
    libraries = tuple(name for name in missing.libraries if keep(name, why_no_library(name)))
    return Choice(libraries=libraries, entries=entries, left=left)


def _with_its_files(where: StagesAs, others: Iterable[StagesAs]) -> StagesAs:
    """A directory of which files are added is there with them; whether the program wants the others nobody knows."""
    if where.entry and any(other.entry.startswith(f"{where.entry}/") for other in others):
        return StagesAs(reason="a directory, which comes with its files; add it to stage.files if all of it is needed")
    return where


def _never(path: str) -> str:
    """Why no build could give the image this path; "" for one that a file may have."""
    if path in _OF_THE_KERNEL or path.startswith(tuple(f"{folder}/" for folder in _OF_THE_KERNEL)):
        return "made by the guest's kernel, not stored in any image"
    if path == WORK_DIRECTORY or path.startswith(f"{WORK_DIRECTORY}/"):
        return f"a path of the build: in the image, what is in {WORK_DIRECTORY} lies under /"
    return _unwritable(path)


def _unwritable(name: str) -> str:
    plain = name.isprintable() and name.strip("/") and ".." not in name.split("/")
    return "" if plain else "a name that cannot be written in project.yaml"
