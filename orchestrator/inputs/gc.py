"""Making the cache smaller: what was used longest ago goes first."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from orchestrator.errors import UsageError
from orchestrator.inputs import trees
from orchestrator.inputs.store import Store

RECENT = 24 * 3600.0
"""While builds run, what was used within this many seconds stays: they may be reading it."""
_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(?P<number>\d{1,12}(?:\.\d{1,6})?)\s*(?P<unit>[KMGT]?)(?:i?B)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that takes room in the cache. `kind` is entry|repository; `used` in seconds since 1970."""

    kind: str
    key: str
    size: int
    used: float
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class GcReport:
    """What was removed, what stays (bytes), and whether some had to stay because builds are running."""

    removed: tuple[Item, ...]
    kept: int
    spared: bool


def parse_size(text: str) -> int:
    """Bytes in `20G`, `500M`, `1.5 GiB`, `0`. UsageError for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a size", remedy="write bytes, or a number with K, M, G or T, such as 20G")
    return int(float(match["number"]) * _UNITS[match["unit"].upper()])


def items(store: Store) -> list[Item]:
    """Everything that takes room, the longest unused first."""
    sized = [
        Item(kind="entry", key=entry.key, size=entry.size, used=store.used(entry), source=entry.info.get("source", ""))
        for entry in store.list()
    ]
    for path in sorted((store.root / "git").glob("*.git")):
        sized.append(
            Item(kind="repository", key=path.stem, size=trees.tree_size(path), used=(path / "HEAD").stat().st_mtime)
        )
    return sorted(sized, key=lambda item: (item.used, item.key))


def collect(store: Store, keep: int) -> GcReport:
    """Remove the longest unused until at most `keep` bytes are left."""
    now = time.time()
    every = items(store)
    left = sum(item.size for item in every)
    removed: list[Item] = []
    spared = False
    with store.alone() as alone:
        for item in every:
            if left <= keep:
                break
            if not alone and now - item.used < RECENT:
                spared = True
                continue
            if item.kind == "repository":
                with store.lock(item.key):
                    trees.delete(store.root / "git" / f"{item.key}.git")
            else:
                store.remove(item.key)
            removed.append(item)
            left -= item.size
    for name, record in store.names():
        if not (store.root / "entries" / record["key"]).exists() and "commit" not in record:
            store.forget(name)
    return GcReport(removed=tuple(removed), kept=left, spared=spared)
