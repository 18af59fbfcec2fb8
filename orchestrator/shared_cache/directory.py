"""A shared cache in a directory (of a network's file system, say): DIR/KIND/XX/KIND-HEX."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.files import make_directory, open_emptied, open_read_only, replacing
from orchestrator.shared_cache.backend import CHUNK, SharedCacheError, Sink, Source, check_name, copy_to, is_name


class DirectoryBackend:
    """Links in it are not followed, and a file has its name only when it is whole."""

    remote = False

    def __init__(self, root: Path, *, make: bool = False) -> None:
        """`make`: the directory is made where it is missing; else that is a SharedCacheError."""
        self._root = root
        self._make = make

    @property
    def shown(self) -> str:
        """The directory."""
        return str(self._root)

    def fetch(self, name: str, sink: Sink) -> bool:
        """See `CacheBackend`."""
        try:
            stream = open_read_only(self._path(name))
        except FileNotFoundError:
            self._require()
            return False
        with stream:
            sink.expect(os.fstat(stream.fileno()).st_size)
            copy_to(stream, sink)
        return True

    def store(self, name: str, source: Source) -> None:
        """See `CacheBackend`."""
        path = self._path(name)
        make_directory(path.parent)
        with replacing(path) as temporary, open_emptied(temporary) as sink:
            while chunk := source.read(CHUNK):
                sink.write(chunk)

    def has(self, name: str) -> bool:
        """See `CacheBackend`."""
        return self._path(name).is_file()

    def names(self) -> Iterator[str]:
        """See `CacheBackend`."""
        self._require()
        return (path.name for path in self._root.glob("*/*/*") if is_name(path.name))

    def close(self) -> None:
        """See `CacheBackend`."""

    def _path(self, name: str) -> Path:
        kind, _, digits = check_name(name).partition("-")
        return self._root / kind / digits[:2] / name

    def _require(self) -> None:
        if not self._root.is_dir() and not self._make:
            raise SharedCacheError("there is no such directory")
