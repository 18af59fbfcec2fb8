"""A project as one deterministic tar: all that decides its image and no more, for a machine that has none of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from orchestrator.archive import read_tar_file
from orchestrator.build.check import CheckedProject
from orchestrator.build.last_build import local_inputs
from orchestrator.containerfile.context import BuildContext, Content, HostFile, Part
from orchestrator.containerfile.ignore import IGNORE_FILES
from orchestrator.containerfile.sources import user_sources
from orchestrator.containerfile.tree import HostTree
from orchestrator.errors import UsageError
from orchestrator.events import Emit
from orchestrator.files import open_emptied
from orchestrator.findings import Findings
from orchestrator.inputs.archives import extract
from orchestrator.project.load import LoadedProject, load_project, lock_path
from orchestrator.project.outside import outside_paths

_TREE: Final = "tree"
_MARK: Final = Content(path="fleet.txt", data=b"A project, packed for a fleet.\n")
"""A second entry at the top, so that nothing is stripped when it is unpacked."""


@dataclass(frozen=True, kw_only=True)
class PackedProject:
    """The tar, its SHA-256 and size in bytes, and where project.yaml is in it."""

    path: Path
    sha256: str
    size: int
    project: str


def pack_project(checked: CheckedProject, target: Path, emit: Emit) -> PackedProject:
    """Write the tar to `target`. UsageError, with lines, for what only this machine can build."""
    loaded = checked.loaded
    require_portable(loaded)
    root = _common_root(loaded)
    whole, size = hashlib.sha256(), 0
    context = BuildContext(parts=[_MARK, *_parts(loaded, root)], emit=emit, with_ours=False)
    with open_emptied(target) as sink:
        for chunk in context.stream():
            whole.update(chunk)
            size += len(chunk)
            sink.write(chunk)
    project = f"{_TREE}/{os.path.relpath(loaded.path.absolute(), root)}"
    return PackedProject(path=target, sha256=whole.hexdigest(), size=size, project=project)


def unpack_project(tar: Path, target: Path, project: str) -> Path:
    """Unpack it into the new directory `target`; project.yaml's path. UsageError where it reaches beyond `target`.

    Files get the times that they were packed with, which are ranks: see `containerfile.order`.
    """
    extract(tar, target, name="the packed project")
    with tar.open("rb") as stream, read_tar_file(stream) as members:
        for member in members:
            if member.isfile():
                os.utime(target / member.name, (member.mtime, member.mtime), follow_symlinks=False)
    path = target / project
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(target)):
        raise UsageError(f"{project}: leads out of the packed project")
    require_inside(load_project(path), target)
    return path


def require_portable(loaded: LoadedProject) -> None:
    """UsageError, with lines, for what another machine can't have: secrets, and absolute paths."""
    findings = Findings(file=str(loaded.path), lines=loaded.lines)
    build = loaded.project.build
    remedy = "build it on this machine, without --fleet"
    if build.secrets:
        findings.error("fleet", "build.secrets", "a fleet gets no secrets", remedy)
    if build.ssh:
        findings.error("fleet", "build.ssh", "a fleet has no ssh agent of yours", remedy)
    for field, path in outside_paths(loaded):
        if Path(path).is_absolute() or field.endswith((".git", ".archive", ".url")):
            findings.error("fleet", field, f"{path} is a place on this machine",
                           "give a path that is relative to project.yaml, or build without --fleet")  # fmt: skip
    if findings.collected:
        raise findings.failure()


def require_inside(loaded: LoadedProject, root: Path) -> None:
    """UsageError, with lines, for anything that is not below `root`: who sent it decides nothing of this machine."""
    require_portable(loaded)
    findings, real_root = Findings(file=str(loaded.path), lines=loaded.lines), os.path.realpath(root)
    for field, path in outside_paths(loaded):
        if not Path(os.path.realpath(loaded.root / path)).is_relative_to(real_root):
            findings.error("fleet", field, f"{path} is outside of what was sent", "build without --fleet")
    if findings.collected:
        raise findings.failure()


def _common_root(loaded: LoadedProject) -> Path:
    """The lowest directory that has the project and all that it names beside itself."""
    named = [os.path.normpath(loaded.root / path) for _, path in outside_paths(loaded)]
    return Path(os.path.commonpath([str(loaded.root), *named]))


def _parts(loaded: LoadedProject, root: Path) -> Iterator[Part]:
    project = loaded.project
    context = Path(os.path.normpath(loaded.root / project.build.context))
    if project.build.image is None:
        yield replace(user_sources(loaded), prefix=_place(context, root))
        own = project.build.containerfile
        beside = [*IGNORE_FILES, *([own, f"{own}.dockerignore"] if own is not None else [])]
        yield from _files((context / name for name in beside), root)
    manifest = [loaded.root / project.manifest] if isinstance(project.manifest, str) else []
    certificates = [loaded.root / project.network.ca] if _own_certificates(loaded) and project.network.ca else []
    yield from _files([loaded.path.absolute(), lock_path(loaded.path).absolute(), *manifest, *certificates], root)
    for _, path, skip in local_inputs(project):
        at = Path(os.path.normpath(loaded.root / path))
        if at.is_dir():
            yield HostTree(prefix=_place(at, root), source=at, exclude=tuple(at / name for name in skip))
        else:
            yield from _files([at], root)


def _own_certificates(loaded: LoadedProject) -> bool:
    """Whether project.yaml names them, and not the user's settings."""
    return "network.ca" in loaded.lines


def _files(paths: Iterator[Path] | list[Path], root: Path) -> Iterator[Part]:
    for path in paths:
        if path.is_file():
            yield HostFile(path=_place(Path(os.path.normpath(path)), root), source=path)


def _place(path: Path, root: Path) -> str:
    relative = os.path.relpath(path, root)
    return _TREE if relative == "." else f"{_TREE}/{relative}"
