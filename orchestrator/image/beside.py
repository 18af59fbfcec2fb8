"""A hash that is computed beside the writing of the same bytes: hashlib lets other threads run meanwhile."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

SMALL: Final = 256 * 1024
"""Bytes that are hashed in less time than it takes to hand them to another thread."""
WAITING: Final = 4
"""Chunks that may wait for the other thread: they stay in memory until then."""


class Hashing:
    """One thread for the SHA-256 sums of many files, one after the other."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    def new(self) -> FileHash:
        """The sum of a file, of nothing yet."""
        return FileHash(self)

    def submit(self, digest: hashlib._Hash, chunk: bytes) -> Future[None]:
        """Hash `chunk` in the thread, which begins with the first."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        return self._thread.submit(digest.update, chunk)

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None


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
