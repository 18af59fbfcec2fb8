"""How old the files of a context are: their order on the host as whole seconds, the same on every machine.

Build tools (make, ninja, cargo) compare times, so a product that is older than its source must stay older. But a time
itself is of one machine: it differs from checkout to checkout and gets into what a build makes (`__TIMESTAMP__`, zip,
.pyc). So a file's time is its rank: MTIME for the oldest, a second more for each that is newer. Whole seconds, because
fractions are lost on the way (docs/facts/engines.md, 5: the classic builder cuts them off, Podman rounds them).

git keeps no times: a clone's files have the order in which git happened to write them. So files that are as git's index
has them are of one age, unless a file of the user's own (untracked, or edited) is between them.

No engine looks at times when it compares a COPY with its cache (same page), so a source that was touched would be taken
from it with its old time. The key of an order (see `TimeOrder`) is therefore copied first.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.containerfile.git_index import Repositories

# The time is not 0: zip-based tools refuse dates before 1980, and some build systems take 0 for "missing".
MTIME = 1_577_836_800  # 2020-01-01T00:00:00Z
LATER = MTIME + 366 * 24 * 3600
"""For what comes to the sources from elsewhere (shim, GPU assets): newer than any product among them that uses it."""
_HEAD = 8000
"""Bytes of a file in which a NUL says that it is no text; git looks at as many."""


@dataclass(frozen=True, kw_only=True)
class TimeOrder:
    """`times` by path, in seconds since 1970; `key` is the same for orders that no build tool tells apart."""

    times: Mapping[str, int]
    key: str


def order_of(files: Iterable[tuple[str, Path]]) -> TimeOrder:
    """The order of files, given as path in the context and absolute path here. OSError for one that can't be read."""
    repositories = Repositories()
    when: dict[str, int] = {}
    as_in_git: set[str] = set()
    texts: set[str] = set()
    for name, path in files:
        status = path.stat()
        when[name] = status.st_mtime_ns
        known = repositories.has(path, status)
        if known:
            as_in_git.add(name)
        elif known is None and _is_text(path):
            texts.add(name)
    ranks = _ranks(when, as_in_git)
    # Without git nobody knows what is a product. A copy of sources that lost their times must find the layers of the
    # first, so only what isn't text counts: objects, libraries, programs.
    return TimeOrder(
        times={name: MTIME + rank for name, rank in ranks.items()},
        key=_key(_ranks(when, as_in_git | texts) if texts else ranks),
    )


def _ranks(when: Mapping[str, int], ageless: Collection[str]) -> dict[str, int]:
    """The rank of each file from 0, the oldest. Ageless ones share it, unless another's time lies between theirs."""
    together: dict[int, list[str]] = {}
    for name, time in when.items():
        together.setdefault(time, []).append(name)
    ranks: dict[str, int] = {}
    rank, before = 0, True
    for number, time in enumerate(sorted(together)):
        names = together[time]
        all_ageless = all(name in ageless for name in names)
        if number and not (all_ageless and before):
            rank += 1
        before = all_ageless
        ranks |= dict.fromkeys(names, rank)
    return ranks


def _key(ranks: Mapping[str, int]) -> str:
    if not any(ranks.values()):
        return "all of one age"
    whole = hashlib.sha256()
    for name, rank in sorted(ranks.items()):
        whole.update(os.fsencode(f"{name}\0{rank}\0"))
    return whole.hexdigest()


def _is_text(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"\0" not in stream.read(_HEAD)
