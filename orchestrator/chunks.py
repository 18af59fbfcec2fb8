"""A byte stream that comes in chunks, as a file."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class ChunkReader(io.RawIOBase):
    """Chunks as a readable, unseekable file, which keeps no more than the one that is being read."""

    def __init__(self) -> None:
        super().__init__()
        self._chunk = memoryview(b"")

    @abstractmethod
    def next_chunk(self) -> bytes | None:
        """The next one, which may be empty; None at the end, however often it is asked."""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` with what is at hand; 0 at the end."""
        while not self._chunk:
            chunk = self.next_chunk()
            if chunk is None:
                return 0
            self._chunk = memoryview(chunk)
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._chunk))
        view[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count
