"""What a Dockerfile says of the program: its stages, and the files that its last one brings along."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator
from pathlib import Path

from orchestrator.project.containerfile import ContainerStage, Copied, stages_of
from orchestrator.scaffold.sight import Sight, read_text

CONTAINERFILES = ("Dockerfile", "Containerfile")
_SYSTEM = frozenset((
    "/", "/bin", "/etc", "/lib", "/lib64", "/opt", "/root", "/sbin", "/usr", "/usr/bin", "/usr/lib", "/usr/local",
    "/usr/local/bin", "/usr/local/lib", "/usr/local/share", "/usr/sbin", "/usr/share", "/var",
    "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu",
))  # fmt: skip
"""Directories that hold more than what a Dockerfile brings there: programs, and libraries that staging finds."""


def see_containerfile(directory: Path) -> Sight | None:
    """The last stage of a Dockerfile."""
    name = next((name for name in CONTAINERFILES if (directory / name).is_file()), None)
    stages = stages_of(read_text(directory / name), {}) if name is not None else []
    if name is None or not stages:
        return None
    named = [stage.name for stage in stages if not stage.name.isdigit()]
    others = f"; its stages are {', '.join(named)}" if len(named) > 1 else ""
    saw = [f"{name}: ENTRYPOINT and CMD of what it builds name the program{others}"]
    # A single stage has the sources, which a program doesn't read.
    files = sorted(set(_files(directory, stages[-1]))) if len(stages) > 1 else []
    saw += [f"{name}: its last stage brings {', '.join(files[:5])}, for stage.files"] if files else []
    manifest: dict[str, list[str]] = {}
    if (arguments := _arguments(stages[-1])) != (absolute := _arguments(stages[-1], files)):
        manifest = {"Args": absolute}
        saw += [
            f"{name}: {' '.join(arguments)} in WORKDIR {stages[-1].directory}, where Nanos starts no dynamic program"
        ]
        saw += ["so the manifest's Args are absolute"]
    return Sight(saw=tuple(saw), image=None, containerfile=name, files=tuple(files), manifest=manifest)


def _arguments(stage: ContainerStage, files: Collection[str] = ()) -> list[str]:
    """What ENTRYPOINT and CMD give the program; `files` of WORKDIR by their absolute paths."""
    words = [*stage.entrypoint, *stage.command][1:]
    paths = [posixpath.join(stage.directory, word) for word in words]
    return [path if path in files else word for path, word in zip(paths, words, strict=True)]


def _files(directory: Path, stage: ContainerStage) -> Iterator[str]:
    """The paths in the image of what the stage copies, for stage.files; not what can't be known from here."""
    for copied in stage.copied:
        for path in _paths(directory, copied):
            if path not in _SYSTEM and not set("$*?[") & set(path):
                yield path


def _paths(directory: Path, copied: Copied) -> Iterator[str]:
    target = copied.target.rstrip("/") or "/"
    into = copied.target.endswith("/") or target in _SYSTEM
    if copied.from_stage:
        # Whether that is a file or a directory isn't known, so a directory is taken whole.
        yield target
        return
    for source in copied.sources:
        wanted = posixpath.normpath(source.lstrip("/"))
        for path in sorted(directory.glob(wanted)) if "://" not in source and wanted != "." else ():
            yield posixpath.join(target, path.name) if into and path.is_file() else target
