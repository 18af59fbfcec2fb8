"""What is in a directory already: the first of these that is there decides what `init` writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.scaffold.cargo_project import see_cargo
from orchestrator.scaffold.container_project import CONTAINERFILES, see_containerfile
from orchestrator.scaffold.other_projects import (
    see_binary,
    see_cmake,
    see_go,
    see_node,
    see_python,
)
from orchestrator.scaffold.sight import Sight
from orchestrator.text import is_one_line

# A Dockerfile comes before what an interpreter would run, which it also brings; compilers are our own affair.
_SEE: tuple[Callable[[Path], Sight | None], ...] = (
    see_cargo, see_go, see_cmake, see_containerfile, see_node, see_python, see_binary,
)  # fmt: skip


def look(directory: Path) -> Sight | None:
    """What a project.yaml in `directory` would build; None where there is nothing that we know."""
    directory = directory.resolve()
    if not directory.is_dir():
        return None
    return next((sight for see in _SEE if (sight := see(directory)) is not None and _is_plain(sight)), None)


def _is_plain(sight: Sight) -> bool:
    """Whether each of its texts is one line: names are from files of others, and become lines of YAML and of shell."""
    texts = (*sight.saw, *sight.run, *sight.advice, sight.program, sight.context, sight.containerfile, *sight.files)
    return all(is_one_line(text) for text in texts)


def also_there(directory: Path, sight: Sight) -> str:
    """The Dockerfile that could be built instead, "" for none."""
    if sight.containerfile:
        return ""
    return next((name for name in CONTAINERFILES if (directory / name).is_file()), "")
