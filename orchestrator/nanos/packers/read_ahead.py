"""Reading an engine's stream in a thread of its own: it goes on sending while what came is written and hashed."""

from __future__ import annotations

import io
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import BinaryIO, Final

from orchestrator.chunks import ChunkReader

CHUNK: Final = 1024 * 1024
AHEAD: Final = 8
"""Chunks that are read before they are asked for."""
_PATIENCE: Final = 0.2


@contextmanager
def read_ahead(stream: BinaryIO) -> Iterator[BinaryIO]:
    """The same bytes, and the same error where one ends them. The stream itself may not be used meanwhile."""
    ahead = _Ahead(stream)
    try:
        yield io.BufferedReader(ahead, CHUNK)
    finally:
        ahead.stop()


class _Ahead(ChunkReader):
    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._read: queue.Queue[bytes | Exception] = queue.Queue(AHEAD)
        self._stopped = Event()
        # A daemon: an engine that has stopped sending must not keep the program from ending.
        self._thread = Thread(target=self._run, name="read ahead", daemon=True)
        self._thread.start()

    def next_chunk(self) -> bytes | None:
        chunk = self._read.get()
        if chunk and not isinstance(chunk, Exception):
            return chunk
        self._read.put(chunk)  # it stays at its end
        if isinstance(chunk, Exception):
            raise chunk
        return None

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        chunk: bytes | Exception = b"begin"
        while chunk and not isinstance(chunk, Exception):
            try:
                chunk = self._stream.read(CHUNK)
            except Exception as error:  # noqa: BLE001 - whatever it is, the reader gets it
                chunk = error
            if self._stopped.is_set():
                return
            self._put(chunk)

    def _put(self, chunk: bytes | Exception) -> None:
        while not self._stopped.is_set():
            try:
                self._read.put(chunk, timeout=_PATIENCE)
            except queue.Full:
                continue
            return
