"""A tar stream out of the engine, as a file: nothing is kept, and a stream that was cut is an error."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.chunks import ChunkReader
from orchestrator.errors import EngineError

END_OF_ARCHIVE = 1024
"""A tar ends in two blocks of zeros; a stream that doesn't was cut (an engine that fails half-way just stops)."""


class ArchiveStream(ChunkReader):
    """Chunks as a readable, unseekable file. Reading past a cut raises EngineError instead of saying EOF."""

    def __init__(self, chunks: Iterator[bytes], what: str) -> None:
        super().__init__()
        self._chunks = chunks
        self._what = what
        self._last = b""
        self._size = 0

    def next_chunk(self) -> bytes | None:
        """The engine's next chunk; None at the true end of the archive."""
        chunk = next(self._chunks, None)
        if chunk is None:
            self._check_end()
            return None
        self._size += len(chunk)
        self._last = (self._last + chunk[-END_OF_ARCHIVE:])[-END_OF_ARCHIVE:]
        return chunk

    def _check_end(self) -> None:
        if self._size % 512 or len(self._last) < END_OF_ARCHIVE or any(self._last):
            raise EngineError(
                f"the engine ended the archive of {self._what} early, after {self._size} bytes",
                remedy="look at the engine's log and at its disk space, then build again",
            )
