"""The checksums that the network agrees on, as the node computes them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Digests:
    """Of one file: `size` in bytes, hex digests. `blake3` is what the node calls the image's checksum."""

    size: int
    blake3: str
    sha256: str


class Watermark:
    """Up to which byte a file that is being written is as it will be: what a thread that reads it waits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._end = 0
        self._whole = self._stopped = False

    def reach(self, end: int) -> None:
        """The first `end` bytes are there."""
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def finish(self) -> None:
        """All of it is there."""
        with self._changed:
            self._whole = True
            self._changed.notify_all()

    def stop(self) -> None:
        """It isn't wanted any more; after `finish` as well."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wait(self, done: int, most: int) -> int:
        """How many bytes after the first `done` may be read, `most` at most, once there are any; or all, at the end.

        CancelledError after `stop`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._whole or self._end > done)
            if self._stopped:
                raise CancelledError
            return most if self._whole else min(most, self._end - done)


def file_digests(
    path: Path, progress: Callable[[int], None] | None = None, written: Watermark | None = None
) -> Digests:
    """One pass over the file, both sums side by side; `progress` is told the bytes done so far.

    `written`: how far it is, where it is still being written.
    """
    fast, plain, done = blake3(max_threads=blake3.AUTO), hashlib.sha256(), 0

    def ready() -> int:
        return CHUNK if written is None else written.wait(done, CHUNK)

    ready()
    with path.open("rb") as stream, ThreadPoolExecutor(1, thread_name_prefix="sha256") as beside:
        chunk = stream.read(ready())
        while chunk:
            # SHA-256 takes longest: BLAKE3 and the next reading go on meanwhile.
            hashed = beside.submit(plain.update, chunk)
            fast.update(chunk)
            done += len(chunk)
            chunk = stream.read(ready())
            hashed.result()
            if progress is not None:
                progress(done)
    return Digests(size=done, blake3=fast.hexdigest(), sha256=plain.hexdigest())


def file_blake3(path: Path) -> str:
    """BLAKE3-256 of a file, hex: `gevulot-cli calculate-hash`."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


def stream_blake3(stream: BinaryIO) -> str:
    """As `file_blake3`, of an open file that another process may be changing: a mapped one that shrinks is a SIGBUS."""
    hasher = blake3()
    while block := stream.read(CHUNK):
        hasher.update(block)
    return hasher.hexdigest()


def program_hash(*, name: str, image_file_name: str, image_url: str, checksum: str) -> str:
    """The node's name for a deployed program, hex: SHA3-256(name, image file name, image URL, checksum in hex).

    A program that is renamed or hosted elsewhere is another program (docs/facts/gevulot.md, 3).
    """
    return hashlib.sha3_256((name + image_file_name + image_url + checksum).encode()).hexdigest()
