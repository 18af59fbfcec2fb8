"""What project.lock holds: for every outside input, what project.yaml asked for and what it was resolved to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from orchestrator.documents import NOT_JSON, Document, DocumentError, Many, parse_document
from orchestrator.errors import UsageError
from orchestrator.inputs.requests import is_local, requests_of
from orchestrator.project.load import LoadedProject, read_text
from orchestrator.resolved import DEB_PATTERN, Ground, InputKind, InputName, Inputs, Pin, is_input_name
from orchestrator.suggest import shown

LOCK_VERSION = 1
MAX_BYTES = 4 * 1024 * 1024
_HEX64 = re.compile(r"[0-9a-f]{64}")
# The form of every value that a lock may hold; `commit` reaches git's command line, the digests cache keys.
_FORMS: Mapping[str, re.Pattern[str]] = {
    "base": re.compile(r"(?:sha256:)?[0-9a-f]{64}"),
    "commit": re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}"),
    "sha256": _HEX64,
    "tree-sha256": _HEX64,
    "cargo-lock-sha256": _HEX64,
    "digest": re.compile(r"sha256:[0-9a-f]{64}"),
    "image-id": re.compile(r"sha256:[0-9a-f]{64}"),
    "size": re.compile(r"[0-9]{1,18}"),
    "snapshot": re.compile(r"[0-9]{8}T[0-9]{6}Z"),
    "suite": re.compile(r"[a-z]{1,40}"),
    "version": re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,80}"),
}
# What each kind can't be without.
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "git": ("commit", "tree-sha256"),
    "archive": ("sha256", "size"),
    "file": ("sha256", "size"),
    "directory": ("tree-sha256",),
    "image": ("digest",),
    "bootstrap": ("sha256", "size", "suite"),
    "debs": ("base",),
    "images": (),
}
_PACKAGE = re.compile(r"(?:pypi:)?[a-z0-9][a-z0-9+.-]{0,100}=[0-9A-Za-z.+:~-]{1,100}(?: sha256:[0-9a-f]{64})?")
_PACKAGES = {
    "debs": re.compile(DEB_PATTERN),
    "images": re.compile(r"[!-~]{1,600} sha256:[0-9a-f]{64}( sha256:[0-9a-f]{64})?"),
}


class LockedInput(Document):
    """One input: the request (`inputs.requests`), the kind that it was resolved as, its pin, and why it was believed
    when it was first locked ("": an older lock)."""

    requested: dict[str, str | list[str]]
    kind: InputKind
    resolved: dict[str, str]
    packages: Many[str] = ()
    ground: Ground | Literal[""] = ""

    @field_validator("kind")
    @classmethod
    def _can_be_locked(cls, kind: InputKind) -> InputKind:
        if kind not in _NEEDED:
            raise ValueError(f"is {kind}, must be one of {', '.join(_NEEDED)}")
        return kind

    @model_validator(mode="after")
    def _is_pinned(self) -> Self:
        for key, text in self.resolved.items():
            if key not in _FORMS or not _FORMS[key].fullmatch(text):
                raise ValueError(f"resolved.{shown(key)} does not have the expected form")
        form = _PACKAGES.get(self.kind, _PACKAGE)
        if wrong := next((package for package in self.packages if form.fullmatch(package) is None), None):
            raise ValueError(f"packages: {shown(wrong)} does not have the expected form")
        missing = [key for key in _NEEDED[self.kind] if key not in self.resolved]
        if missing:
            raise ValueError(f"resolved lacks {', '.join(missing)}")
        return self

    @property
    def local(self) -> bool:
        """Whether it is the user's own file or directory."""
        return is_local(self.requested)


@dataclass(frozen=True, kw_only=True)
class ProjectLock:
    """A whole lock, by input name."""

    entries: Mapping[InputName, LockedInput] = field(default_factory=dict)

    def pins(self) -> dict[str, Pin]:
        """What resolution has to respect: everything but the user's own files, which are taken as they are."""
        return {
            name: Pin(kind=entry.kind, values=entry.resolved, packages=entry.packages, ground=entry.ground)
            for name, entry in self.entries.items()
            if not entry.local
        }


def lock_of(loaded: LoadedProject, inputs: Inputs) -> ProjectLock:
    """The lock of resolved inputs."""
    entries: dict[InputName, LockedInput] = {}
    for name, request in requests_of(loaded).items():
        resolved = inputs.get(name)
        if resolved is not None:
            entries[name] = LockedInput(
                requested=dict(request),
                kind=resolved.kind,
                resolved=dict(resolved.pin),
                packages=tuple(resolved.packages),
                ground=resolved.ground,
            )
    return ProjectLock(entries=entries)


def lock_text(lock: ProjectLock) -> str:
    """Canonical text: sorted keys, two spaces, a line for each value, so that a diff shows what moved."""
    inputs: dict[str, Any] = {}
    for name, entry in lock.entries.items():
        inputs[name] = {"kind": entry.kind, "requested": dict(entry.requested), "resolved": dict(entry.resolved)}
        if entry.packages:
            inputs[name]["packages"] = list(entry.packages)
        if entry.ground:
            inputs[name]["ground"] = entry.ground
    return json.dumps({"version": LOCK_VERSION, "inputs": inputs}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_lock(path: Path) -> ProjectLock | None:
    """The lock at `path`, None when there is no such file. UsageError when it is something else."""
    if not path.exists():
        return None
    return parse_lock(read_text(path, what="a lock", limit=MAX_BYTES), str(path))


def parse_lock(text: str, file: str) -> ProjectLock:
    """A lock's text. UsageError naming `file` and what is wrong."""
    try:
        head = parse_document(_Head, text, newer=True)
        if head.version != LOCK_VERSION or isinstance(head.version, bool):
            raise _other_version(file, head.version)
        return ProjectLock(entries=parse_document(_LockDocument, text).inputs)
    except DocumentError as error:
        problem = error.problems[0]
        if re.search("^(<<<<<<<|=======|>>>>>>>)", text, re.M):
            message = f"{file} is not JSON: has the marks of an unfinished merge"
        elif problem.message.startswith(NOT_JSON):
            message = f"{file} {problem.message}"
        else:
            message = f"{file} is not a lock: {problem}"
        raise UsageError(message, remedy=_AGAIN) from error


_AGAIN = "restore it from version control, or remove it and run `orchestrator lock`"


class _Head(Document):
    """What every version of a lock has."""

    version: Any = None


class _LockDocument(Document):
    """A lock's file."""

    version: Literal[1]
    inputs: dict[InputName, LockedInput]

    @field_validator("inputs")
    @classmethod
    def _are_known(cls, inputs: dict[InputName, LockedInput]) -> dict[InputName, LockedInput]:
        if wrong := next((name for name in inputs if not is_input_name(name)), None):
            raise ValueError(f"{shown(wrong)} is not the name of an input")
        return inputs


def _other_version(file: str, version: Any) -> UsageError:
    newer = isinstance(version, int) and version > LOCK_VERSION
    remedy = "update orchestrator, or make it again with `orchestrator lock`" if newer else _AGAIN
    said = f"{file} has version {shown(json.dumps(version))}, but this program reads version {LOCK_VERSION}"
    return UsageError(said, remedy=remedy)
