"""The user's own sources in the build context, for who packs them and for who looks whether they have changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from orchestrator.containerfile.ignore import IGNORE_FILES
from orchestrator.containerfile.links import climbs
from orchestrator.containerfile.tree import HostTree, ListedTree, list_tree
from orchestrator.project.load import LoadedProject
from orchestrator.project.outside import staged_host_files
from orchestrator.project.secrets import secret_files


def user_sources(loaded: LoadedProject, exclude: Sequence[Path] = ()) -> HostTree:
    """The directory `build.context`, less `exclude`, the files of secrets (a stage's layers keep what it copies) and
    those that go straight into the image.

    project.yaml and its manifest file stay out unless they are named: else a change of the manifest alone, which no
    step reads, would run the user's step again.
    """
    project = loaded.project
    context = (loaded.root / project.build.context).resolve()
    left_out = (*exclude, *secret_files(loaded), *staged_host_files(loaded))
    keep: tuple[str, ...] = ()
    ignore_files: tuple[str, ...] = IGNORE_FILES
    if project.build.containerfile is not None:
        # As its own engine would take it: a cache may well hold what is copied, and a file may have rules of its own.
        keep, ignore_files = ("**",), (f"{project.build.containerfile}.dockerignore", *IGNORE_FILES)
    elif not project.build.run:
        # Nothing makes them anew.
        paths = (entry.path or "" for entry in project.stage.built.values())
        keep = (re.sub(r"([\\*?[])", r"\\\1", project.build.program), *(path for path in paths if path[:1] != "/"))
    return HostTree(
        prefix="src", source=context, ignore_file=True, exclude=left_out, sources=True,
        keep=keep, ignore_files=ignore_files, unless_named=_own_files(loaded),
    )  # fmt: skip


def _own_files(loaded: LoadedProject) -> frozenset[Path]:
    """What says what to build, and not of what: project.yaml and its manifest, unless the image is to hold them."""
    project = loaded.project
    files = {loaded.path.resolve()}
    if isinstance(project.manifest, str):
        files.add((loaded.root / project.manifest).resolve())
    context = loaded.root / project.build.context
    packed = (project.build.program, *(entry.path or "" for entry in project.stage.built.values()))
    return frozenset(files - {(context / name).resolve() for name in packed})


def list_sources(loaded: LoadedProject, exclude: Sequence[Path] = ()) -> ListedTree:
    """What `user_sources` is made of now: one walk for the plan, the context and whoever compares builds."""
    return list_tree(user_sources(loaded, exclude))


def has_climbing_links(sources: ListedTree) -> bool:
    """Whether the sources hold links that lead out of them, which Podman takes in no build context."""
    return any(map(climbs, sources.members))
