"""How two locks differ, in lines a person can read. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.lock.project_lock import LockedInput, ProjectLock

# What follows from another value, and says nothing by itself.
_DERIVED = {"size", "tree-sha256", "snapshot"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference: `input`, `what` of it (`commit`, `package gcc`), the value before and after ("" = none)."""

    input: str
    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.input}: {self.what}: {self.before or 'none'} -> {self.after or 'none'}"


def changes(before: ProjectLock, after: ProjectLock) -> list[Change]:
    """The differences from `before` to `after`, by input name."""
    differences: list[Change] = []
    for name in sorted({*before.entries, *after.entries}):
        old, new = before.entries.get(name), after.entries.get(name)
        if old is None or new is None:
            here = new or old
            what = here.kind if here is not None else ""
            value = _identity(here) if here is not None else ""
            differences.append(Change(input=name, what=what, before=value if old else "", after=value if new else ""))
        else:
            differences += _of_entry(name, old, new)
    return differences


def _of_entry(name: str, old: LockedInput, new: LockedInput) -> Iterator[Change]:
    if old.requested != new.requested:
        for key in sorted({*old.requested, *new.requested}):
            before, after = _words(old.requested.get(key)), _words(new.requested.get(key))
            if before != after:
                yield Change(input=name, what=f"asked {key}", before=before, after=after)
    if old.kind != new.kind:
        yield Change(input=name, what="kind", before=old.kind, after=new.kind)
    moved = {key for key in {*old.resolved, *new.resolved} if old.resolved.get(key) != new.resolved.get(key)}
    telling = moved - _DERIVED or (set() if old.packages != new.packages else moved)
    for key in sorted(telling):
        yield Change(input=name, what=key, before=old.resolved.get(key, ""), after=new.resolved.get(key, ""))
    if old.ground != new.ground and old.ground and new.ground:
        yield Change(input=name, what="trusted because of", before=old.ground, after=new.ground)
    packages, others = _versions(old), _versions(new)
    for package in sorted({*packages, *others}):
        before, after = packages.get(package, ""), others.get(package, "")
        if before != after:
            yield Change(input=name, what=f"package {package}", before=before, after=after)


def _versions(entry: LockedInput) -> dict[str, str]:
    pairs = (package.partition(" ")[0].partition("=") for package in entry.packages)
    return {name: version for name, _, version in pairs}


def _identity(entry: LockedInput) -> str:
    for key in ("commit", "digest", "sha256", "tree-sha256"):
        if key in entry.resolved:
            return entry.resolved[key]
    return ""


def _words(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value or "")
