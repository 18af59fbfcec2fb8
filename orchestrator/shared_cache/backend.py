"""What a shared cache lies in: a directory, an object store, a registry. Files by name, and nothing is believed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Final, Protocol

from orchestrator.errors import InputError

CHUNK: Final = 1024 * 1024
_NAME = re.compile(r"(?:file|git|result)-[0-9a-f]{40}(?:[0-9a-f]{24})?")


class SharedCacheError(InputError):
    """A shared cache does not answer, or not as one. Never the end of a build: it goes on without the cache."""


class Sink(Protocol):
    """Takes the bytes of one file."""

    def expect(self, size: int) -> None:
        """Say beforehand how many bytes come. SharedCacheError where they are too many."""

    def write(self, data: bytes) -> None:
        """Take some. SharedCacheError where they are too many."""


class Source(Protocol):
    """The bytes of one file, from the beginning and as often as is needed."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...


class CacheBackend(Protocol):
    """Files by name (`KIND-HEX`, see `check_name`). Errors of every method: OSError, SharedCacheError.

    `shown` is its address, without credentials; `remote`: it is reached by a network. Used by several threads. Who
    calls watches the time: a method may take as long as bytes move.
    """

    @property
    def shown(self) -> str: ...

    @property
    def remote(self) -> bool: ...

    def fetch(self, name: str, sink: Sink) -> bool:
        """Write the file to `sink`; False when there is none of this name."""

    def store(self, name: str, source: Source) -> None:
        """Put the bytes of a file under a name, whole or not at all; what has the name is replaced."""

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def names(self) -> Iterator[str]:
        """Of all files, in any order."""

    def close(self) -> None:
        """Let go of connections."""


def check_name(name: str) -> str:
    """`name`, which is `file-SHA256`, `git-COMMIT` or `result-KEY`. ValueError for anything else."""
    if not is_name(name):
        raise ValueError(f"not a name of a shared cache: {name!r}")
    return name


def is_name(text: str) -> bool:
    """Whether a file of a shared cache may be called so."""
    return _NAME.fullmatch(text) is not None


def copy_to(stream: BinaryIO, sink: Sink) -> None:
    """All that is left of a stream."""
    while chunk := stream.read(CHUNK):
        sink.write(chunk)
