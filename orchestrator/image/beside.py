"""Hashes that are computed beside the writing of the same bytes: hashlib lets other threads run meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from orchestrator.watermark import Watermark

from .errors import ShortFileError

SMALL: Final = 256 * 1024
"""Bytes that are hashed in less time than it takes to hand them to another thread."""
WAITING: Final = 4
"""Chunks that may wait for the other thread: they stay in memory until then."""
_READ: Final = 1024 * 1024
"""Bytes that are read back at once: few enough to stay in a processor's cache until they are hashed."""
_MOST_THREADS: Final = 8


class Hashing:
    """The SHA-256 sums of many files: one thread for those that come in chunks, one after the other, and others for
    those that are read back."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._read_back: list[ReadBack] = []

    def new(self) -> FileHash:
        """The sum of a file, of nothing yet."""
        return FileHash(self)

    def submit(self, digest: hashlib._Hash, chunk: bytes) -> Future[None]:
        """Hash `chunk` in the thread, which begins with the first."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        return self._thread.submit(digest.update, chunk)

    def read_back(self, descriptor: int, offset: int, size: int) -> ReadBack:
        """The sum of `size` bytes at `offset` in an open file, which are yet to be written."""
        if self._readers is None:
            threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
            self._readers = ThreadPoolExecutor(threads, thread_name_prefix="sha256-back")
        reading = ReadBack(descriptor, offset, size)
        reading.sum = self._readers.submit(reading.run)
        self._read_back.append(reading)
        return reading

    def close(self) -> None:
        """End the threads."""
        for reading in self._read_back:
            reading.written.stop()
        for threads in (self._thread, self._readers):
            if threads is not None:
                threads.shutdown(cancel_futures=True)
        self._thread = self._readers = None
        self._read_back.clear()


class FileHash:
    """The SHA-256 of one file, chunk by chunk in their order."""

    def __init__(self, hashing: Hashing) -> None:
        self._hashing = hashing
        self._digest = hashlib.sha256()
        self._waiting: deque[Future[None]] = deque()

    def update(self, chunk: bytes) -> None:
        """Take the next bytes; they must not change any more."""
        if len(chunk) < SMALL:
            self._wait(0)
            self._digest.update(chunk)
            return
        self._wait(WAITING - 1)
        self._waiting.append(self._hashing.submit(self._digest, chunk))

    def hexdigest(self) -> str:
        """Of all bytes that were taken."""
        self._wait(0)
        return self._digest.hexdigest()

    def _wait(self, left: int) -> None:
        while len(self._waiting) > left:
            self._waiting.popleft().result()


class ReadBack:
    """The SHA-256 of bytes of a file, read from there as they are written: `written` is told how many of them are.

    So it is of what the file holds, whatever becomes of where that was from.
    """

    sum: Future[str]
    """Hex."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self.written = Watermark()
        self._descriptor, self._offset, self._size = descriptor, offset, size

    def run(self) -> str:
        """Read and hash them all."""
        digest, done, buffer = hashlib.sha256(), 0, memoryview(bytearray(min(_READ, self._size)))
        while done < self._size:
            ready = self.written.wait(done, min(_READ, self._size - done))
            count = os.preadv(self._descriptor, [buffer[:ready]], self._offset + done)
            if not count:
                raise ShortFileError("the image got shorter while it was written")
            digest.update(buffer[:count])
            done += count
        return digest.hexdigest()
