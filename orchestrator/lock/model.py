"""What project.lock holds: for every outside input, what project.yaml asked for and what it was resolved to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from orchestrator.errors import UsageError
from orchestrator.inputs.requests import Request, is_local, requests_of
from orchestrator.project.load import read_text
from orchestrator.project.model import Project
from orchestrator.resolved import InputKind, InputName, Inputs, Pin

LOCK_VERSION = 1
MAX_BYTES = 4 * 1024 * 1024
_HEX64 = re.compile(r"[0-9a-f]{64}")
# The form of every value that a lock may hold; `commit` reaches git's command line, the digests cache keys.
_FORMS: Mapping[str, re.Pattern[str]] = {
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
}
_PACKAGE = re.compile(r"(?:pypi:)?[a-z0-9][a-z0-9+.-]{0,100}=[0-9A-Za-z.+:~-]{1,100}(?: sha256:[0-9a-f]{64})?")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One input: the request (`inputs.requests`), the kind that it was resolved as, and its pin."""

    requested: Request
    kind: InputKind
    resolved: Mapping[str, str]
    packages: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        """Whether it is the user's own file or directory."""
        return is_local(self.requested)


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A whole lock, by input name."""

    entries: Mapping[InputName, Entry] = field(default_factory=dict)

    def pins(self) -> dict[str, Pin]:
        """What resolution has to respect: everything but the user's own files, which are taken as they are."""
        return {
            name: Pin(kind=entry.kind, values=entry.resolved, packages=entry.packages)
            for name, entry in self.entries.items()
            if not entry.local
        }


def lock_of(project: Project, inputs: Inputs) -> Lock:
    """The lock of resolved inputs."""
    entries: dict[InputName, Entry] = {}
    for name, request in requests_of(project).items():
        found = inputs.get(name)
        if found is not None:
            entries[name] = Entry(
                requested=request, kind=found.kind, resolved=dict(found.pin), packages=tuple(found.packages)
            )
    return Lock(entries=entries)


def lock_text(lock: Lock) -> str:
    """Canonical text: sorted keys, two spaces, a line for each value, so that a diff shows what moved."""
    inputs: dict[str, Any] = {}
    for name, entry in lock.entries.items():
        inputs[name] = {"kind": entry.kind, "requested": dict(entry.requested), "resolved": dict(entry.resolved)}
        if entry.packages:
            inputs[name]["packages"] = list(entry.packages)
    return json.dumps({"version": LOCK_VERSION, "inputs": inputs}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_lock(path: Path) -> Lock | None:
    """The lock at `path`, None when there is no such file. UsageError when it is something else."""
    if not path.exists():
        return None
    return parse_lock(read_text(path, what="a lock", limit=MAX_BYTES), str(path))


def parse_lock(text: str, file: str) -> Lock:
    """A lock's text. UsageError naming `file` and what is wrong."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "has the marks of an unfinished merge" if re.search("^(<<<<<<<|=======|>>>>>>>)", text, re.M) else error
        raise _bad(file, f"is not JSON: {hint}") from error
    if not isinstance(document, dict):
        raise _bad(file, "is not a lock")
    version = document.get("version")
    if version != LOCK_VERSION or isinstance(version, bool):
        newer = isinstance(version, int) and version > LOCK_VERSION
        remedy = "update orchestrator, or make it again with `orchestrator lock`" if newer else _AGAIN
        raise UsageError(f"{file} has version {json.dumps(version)}, this program reads {LOCK_VERSION}", remedy=remedy)
    inputs = document.get("inputs")
    if not isinstance(inputs, dict) or set(document) != {"version", "inputs"}:
        raise _bad(file, "is not a lock")
    names = get_args(InputName)
    for name in inputs:
        if name not in names:
            raise _bad(file, f"knows an input {name[:60]!r} that this program doesn't")
    return Lock(entries={name: _entry(value, name, file) for name, value in inputs.items()})


_AGAIN = "take it from version control, or remove it and run `orchestrator lock`"


def _entry(value: Any, name: str, file: str) -> Entry:
    if not isinstance(value, dict) or set(value) - {"packages"} != {"kind", "requested", "resolved"}:
        raise _bad(file, f"{name} must have kind, requested and resolved")
    kind, requested, resolved = value["kind"], value["requested"], value["resolved"]
    if not isinstance(kind, str) or kind not in _NEEDED:
        raise _bad(file, f"{name} is of an unknown kind")
    if not _is_request(requested):
        raise _bad(file, f"{name}.requested must hold text and lists of text")
    if not isinstance(resolved, dict) or not all(isinstance(each, str) for each in resolved.values()):
        raise _bad(file, f"{name}.resolved must hold text")
    for key, text in resolved.items():
        if key not in _FORMS or not _FORMS[key].fullmatch(text):
            raise _bad(file, f"{name}.resolved.{key[:60]} is not what it should be")
    missing = [key for key in _NEEDED[kind] if key not in resolved]
    if missing:
        raise _bad(file, f"{name}.resolved lacks {', '.join(missing)}")
    packages = value.get("packages", [])
    if not isinstance(packages, list) or not all(isinstance(p, str) and _PACKAGE.fullmatch(p) for p in packages):
        raise _bad(file, f"{name}.packages must be a list of name=version")
    return Entry(requested=requested, kind=kind, resolved=resolved, packages=tuple(packages))  # type: ignore[arg-type]


def _is_request(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return all(
        isinstance(each, str) or (isinstance(each, list) and all(isinstance(item, str) for item in each))
        for each in value.values()
    )


def _bad(file: str, problem: str) -> UsageError:
    return UsageError(
        f"{file} {problem}" if problem.startswith(("is", "has", "knows")) else f"{file}: {problem}", remedy=_AGAIN
    )
