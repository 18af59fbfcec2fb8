"""What `init` sees in a directory, and the project.yaml that follows from it. Pure data, and how files are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator.text import parse_json, parse_toml

LARGEST = 1024 * 1024
"""Bytes of a build file that is looked into."""
DEBIAN = "docker.io/library/debian:bookworm"


@dataclass(frozen=True, kw_only=True)
class Sight:
    """A program that is there already. `saw` says what was seen and what follows, a line each.

    `context` is relative to the directory of project.yaml; `run` are the lines of the build step, and everything in
    them and `program` is relative to the context. `image`, `release` (of Debian) and `bootstrap` are the base's; None
    where none is needed.
    """

    saw: tuple[str, ...]
    context: str = "."
    image: str | None = DEBIAN
    release: str = "bookworm"
    bootstrap: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    program: str = ""
    language: Literal["", "python", "node"] = ""
    containerfile: str = ""
    target: str = ""
    cuda: bool = False
    shim: bool = False
    files: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    """Lines of comment for what can't be known from here."""


def read_text(path: Path) -> str:
    """A small text file, "" where it isn't there or is no text."""
    try:
        with path.open("rb") as stream:
            return stream.read(LARGEST).decode("utf-8", "replace")
    except OSError:
        return ""


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file, empty where it can't be read."""
    try:
        return parse_toml(read_text(path))
    except ValueError:
        return {}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where it can't be read."""
    try:
        document = parse_json(read_text(path))
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def table(value: Any, *keys: str) -> dict[str, Any]:
    """The table at `keys` of a document, empty where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def common_context(directory: Path, others: list[Path]) -> tuple[Path, str]:
    """The directory that holds `directory` and all of `others`, and where `directory` is in it ("" for itself)."""
    top = Path(os.path.commonpath([directory, *others]))
    below = os.path.relpath(directory, top)
    return top, "" if below == "." else below


def relative_context(top: Path, directory: Path) -> str:
    """`build.context` of a project.yaml in `directory`."""
    return os.path.relpath(top, directory)


def inside(below: str, path: str) -> str:
    """A path of the project's directory as one of the context."""
    return f"{below}/{path}" if below else path
