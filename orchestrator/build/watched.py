"""What `build --watch` looks at: the files that decide a project's image, by their stamps, without reading them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from orchestrator.build.last_build import local_inputs
from orchestrator.build.stamps import stamp
from orchestrator.containerfile.sources import user_sources
from orchestrator.containerfile.tree import Walk
from orchestrator.errors import UsageError
from orchestrator.inputs.trees import walk
from orchestrator.project.load import LoadedProject, load_project, lock_path
from orchestrator.project.secrets import secret_files
from orchestrator.project.user_settings import with_user_settings
from orchestrator.user_paths import settings_path

MISSING: Final = "missing"
_RIGHT: Final = ""
"""In a look, under no file's name: project.yaml could be read, so that the files are those it names."""
_NEARBY: Final = 5000
"""Files beside a broken project.yaml that are looked at: nobody knows which of them it will name."""

Look = Mapping[str, str]
"""The stamp of each file, by its path."""


def look_at(project: Path) -> Look:
    """How the files of a project look now.

    They are what LastBuild compares, but for git's index, which `git status` writes, and for this program's own.
    Of a project.yaml with errors they are the file itself, and what lies in its directory.
    """
    try:
        loaded = with_user_settings(load_project(project))
        return {**_sources(loaded), **_stamps(_beside(loaded)), _RIGHT: "yes"}
    except (UsageError, OSError, ValueError):
        return _stamps([project, settings_path(), *_nearby(project.parent)])


def lock_name(project: Path) -> str:
    """What a look calls the project's lock, which a build writes itself."""
    return _shown(lock_path(project))


def changes(before: Look, now: Look) -> list[str]:
    """The paths of files that came, went or changed; of two looks at other files those that are in both."""
    names = {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}
    both = names & before.keys() & now.keys()
    return sorted(both if _RIGHT in names and both else names - {_RIGHT})


def _sources(loaded: LoadedProject) -> dict[str, str]:
    """The context as its ignore file leaves it; a change of that file shows in what it leaves."""
    if loaded.project.build.image is not None:
        return {}
    look, tree = dict[str, str](), user_sources(loaded)
    for member in Walk(tree=tree, say=lambda _text: None).members():
        if member.source is not None:
            look[_shown(member.source)] = stamp(member.source.lstat())
        else:
            below = member.path.partition("/")[2]
            look[_shown(tree.source / below)] = f"{member.kind} {member.target}"
    return look


def _beside(loaded: LoadedProject) -> Iterator[Path]:
    """Files that are not of the context, or may not be."""
    project = loaded.project
    yield from (loaded.path, lock_path(loaded.path), settings_path())
    yield from secret_files(loaded)
    if isinstance(project.manifest, str):
        yield loaded.root / project.manifest
    if project.network.ca is not None:
        yield loaded.root / project.network.ca
    for _, local, skip in local_inputs(project):
        root = loaded.root / local
        yield root
        if root.is_dir():
            yield from (root / inner for inner, _ in walk(root, skip))


def _nearby(directory: Path) -> Iterator[Path]:
    seen = 0
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "target"]
        for name in names:
            seen += 1
            if seen > _NEARBY:
                return
            yield Path(folder, name)


def _stamps(paths: Iterable[Path]) -> dict[str, str]:
    return {_shown(path): _stamp(path) for path in paths}


def _shown(path: Path) -> str:
    """As a person names it, where it lies below the current directory."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return MISSING
    return "directory" if stat.S_ISDIR(status.st_mode) else stamp(status)
