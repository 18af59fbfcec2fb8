"""What many tables of project.yaml are made of: their base class, and the types of their values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from orchestrator.project import mirrors
from orchestrator.project.wrong_value import MissingChoiceError, WrongValueError
from orchestrator.suggest import shown
from orchestrator.text import is_one_line

_GLOB = re.compile(r"(?:[^\[]|\[[!^]?[^/][^\]/]*\])*")


class Model(BaseModel):
    """Base of every table in project.yaml: frozen, and no key that we don't know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def need_one_of(table: Model, *keys: str) -> None:
    present = [key for key in keys if getattr(table, key) is not None]
    message = f"needs exactly one of {', '.join(keys)} (has {', '.join(present) or 'none'})"
    if not present:
        raise MissingChoiceError(message, keys)
    if len(present) > 1:
        raise ValueError(message)


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in Path(value).parts:
        raise ValueError("must be a relative path without '..'")
    return value


def check_build_stage_path(value: str) -> str:
    """A path or a glob of the build stage: relative to /build, or absolute."""
    if ".." in value.split("/"):
        raise ValueError("must be a path without '..'")
    if value.count("[") and not _GLOB.fullmatch(value):
        raise WrongValueError(f"`{shown(value)}` has a `[` that no `]` closes", "write `[[]` for the character itself")
    return value


def check_names_a_file(value: str) -> str:
    if value.endswith("/") or Path(value).name == "":
        raise ValueError("must name a file, not a directory")
    return value


def check_one_line(value: str) -> str:
    if not is_one_line(value):
        raise ValueError("must be one line without control, line separator or text direction characters")
    return value


Line = Annotated[str, Field(min_length=1), AfterValidator(check_one_line)]
"""A non-empty string that can't break out of a line of a Containerfile."""
InsidePath = Annotated[Line, AfterValidator(_inside)]
"""A relative path that stays inside its root."""
InsideFile = Annotated[InsidePath, AfterValidator(check_names_a_file)]
"""The same for a path that can't be a directory."""
BuildStagePath = Annotated[Line, AfterValidator(check_build_stage_path)]
"""Files or directories of the build stage, as a path or a glob: relative to /build, or absolute."""
Mirrors = Annotated[dict[str, str], AfterValidator(mirrors.check_mirrors)]
"""Prefix of an address -> what takes its place; see `project/mirrors.py`."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.:=~_-]*$")]
Version = Annotated[
    str,
    BeforeValidator(lambda v: str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v),
    Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_-]*$"),
]
