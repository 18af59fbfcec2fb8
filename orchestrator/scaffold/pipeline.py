"""A CI system's pipeline for the projects of a directory. Never overwrites: a file that is there is an error."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from orchestrator.errors import UsageError
from orchestrator.files import GuardedTree
from orchestrator.scaffold.write import TEMPLATES

PROJECT: Final = "project.yaml"
SYSTEMS: Final[Mapping[str, Mapping[str, str]]] = {
    "github": {".github/workflows/images.yml": "github.yml.j2"},
    "gitlab": {".gitlab-ci.yml": "gitlab.yml.j2"},
    "make": {"images.mk": "make.mk.j2"},
    "systemd": {"gevulot-images.service": "systemd.service.j2", "gevulot-images.timer": "systemd.timer.j2"},
    "jenkins": {"Jenkinsfile": "jenkins.j2"},
}
"""The files of each system, with their templates."""
_DEPTH: Final = 4
_NO_SOURCES: Final = {"target", "node_modules", "vendor", "site-packages"}
# What every shell, make, YAML, Groovy and systemd reads as it is.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")


def find_projects(directory: Path) -> list[str]:
    """Every project.yaml in and below a directory, relative to it. UsageError for a path that no pipeline can hold."""
    projects = sorted(_below(directory), key=lambda path: (path.count("/"), path))
    for path in projects:
        if not _PLAIN.fullmatch(path):
            raise UsageError(
                f"{path!r} cannot be written into a pipeline",
                remedy="rename its directory; letters, digits and _ . / - are fine",
            )
    return projects


def write_pipeline(directory: Path, system: str, projects: Sequence[str]) -> list[Path]:
    """The files of `system`, a key of `SYSTEMS`, written; UsageError when one is there, before anything is."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    files = SYSTEMS[system]
    check_absent(directory, system)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES / "ci"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        variable_start_string="<<",  # braces are GitHub's and Groovy's own
        variable_end_string=">>",
    )
    # % begins a specifier in a unit.
    here = str(directory.resolve()).replace("%", "%%")
    with GuardedTree(directory) as tree:
        for name, template in files.items():
            text = environment.get_template(template).render(projects=projects, directory=here)
            with tree.create_file(PurePosixPath(name)) as sink:
                sink.write(text.encode())
    return [directory / name for name in files]


def check_absent(directory: Path, system: str) -> None:
    """UsageError when a file of the pipeline is there already."""
    for name in SYSTEMS[system]:
        if os.path.lexists(directory / name):
            raise UsageError(
                f"{directory / name} already exists; nothing was written",
                remedy="move it away, or write the pipeline into an empty directory and take from it what you need",
            )


def _below(directory: Path, depth: int = 0, prefix: str = "") -> Iterator[str]:
    if (directory / PROJECT).is_file():
        yield f"{prefix}{PROJECT}"
    if depth == _DEPTH:
        return
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.is_dir() and not path.is_symlink() and path.name not in _NO_SOURCES and not path.name.startswith("."):
            yield from _below(path, depth + 1, f"{prefix}{path.name}/")
