"""Entries of the input cache in a shared cache: only those that prove themselves, files and git trees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from orchestrator.errors import InputError
from orchestrator.inputs import git_proof, trees
from orchestrator.inputs.access import FetchLimits
from orchestrator.inputs.store import IMPORTED, SHARED, CacheEntry, Store
from orchestrator.inputs.transfer import read_entry, write_entry
from orchestrator.shared_cache.shared_cache import SharedCache
from orchestrator.temporary import OwnDirectory

_FILE = re.compile(r"sha256-([0-9a-f]{64})")
_SOURCES = re.compile(r"git-([0-9a-f]{40}|[0-9a-f]{64})")
_PACKED: Final = "packed.tar.zst"


class SharedInputs:
    """What `Store` asks (`SharedEntries`). `limit`: the largest file that is taken, in bytes, as of a download."""

    def __init__(self, cache: SharedCache, *, limit: int = FetchLimits().size) -> None:
        self._cache = cache
        self._limit = limit
        self._offered: set[str] = set()

    def bring(self, store: Store, key: str) -> None:
        """Put an entry into `store`, once its content was seen to be what the key says."""
        file = _FILE.fullmatch(key)
        if file is None and _SOURCES.fullmatch(key) is None:
            return
        fill = partial(self._take_file, file[1]) if file is not None else partial(self._take_sources, key)
        with suppress(_NotTakenError):
            store.put(key, fill)

    def offer(self, entry: CacheEntry) -> None:
        """Put an entry there, once for each."""
        if not self._cache.writable or IMPORTED in entry.info or entry.key in self._offered:
            return
        self._offered.add(entry.key)
        file, sources = _FILE.fullmatch(entry.key), _SOURCES.fullmatch(entry.key)
        if file is not None and entry.path.is_file():
            self._cache.store(file_name(file[1]), entry.path)
        # What git writes out otherwise (line ends, by .gitattributes) can't prove itself to others.
        elif (
            sources is not None
            and self._cache.lacks(entry.key)
            and git_proof.proves(sources[1], entry.path, entry.info)
        ):
            try:
                with OwnDirectory("shared-cache") as folder:
                    packed = folder / _PACKED
                    write_entry(entry, packed)
                    self._cache.store(entry.key, packed)
            except OSError as error:
                self._cache.stop_writing(error)

    def _take_file(self, sha256: str, target: Path) -> Mapping[str, str]:
        if not self._cache.fetch(file_name(sha256), target, self._limit):
            raise _NotTakenError
        actual, _ = trees.file_digest(target)
        if actual != sha256:
            self._cache.refuse(file_name(sha256), f"its sha256 is {actual}")
            raise _NotTakenError
        return {"source": f"the shared cache {self._cache.shown}", SHARED: "1"}

    def _take_sources(self, key: str, target: Path) -> Mapping[str, str]:
        packed = target.with_name(_PACKED)
        if not self._cache.fetch(key, packed, self._limit):
            raise _NotTakenError
        try:
            return read_entry(key, packed, target)
        except InputError as error:
            self._cache.refuse(key, error.message)
            raise _NotTakenError from error
        finally:
            packed.unlink()


def file_name(sha256: str) -> str:
    """What a file is called in a shared cache."""
    return f"file-{sha256}"


class _NotTakenError(Exception):
    """The shared cache has no such entry, or not the right one."""
