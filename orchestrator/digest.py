"""The checksums that the network agrees on, as the node computes them."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from orchestrator.watermark import Watermark

CHUNK = 4 * 1024 * 1024
_AHEAD = 2
"""Chunks that wait in memory while one before them is hashed."""


@dataclass(frozen=True, kw_only=True)
class Digests:
    """Of one file: `size` in bytes, hex digests. `blake3` is what the node calls the image's checksum."""

    size: int
    blake3: str
    sha256: str


def file_digests(
    path: Path, progress: Callable[[int], None] | None = None, written: Watermark | None = None
) -> Digests:
    """One pass over the file, both sums side by side; `progress` is told the bytes done so far.

    `written`: how far it is, where it is still being written.
    """
    # One thread each: BLAKE3 alone is faster than SHA-256, and more of its threads would only take time from that.
    fast, plain, done = blake3(), hashlib.sha256(), 0

    def ready() -> int:
        return CHUNK if written is None else written.wait(done, CHUNK)

    ready()
    hashed = deque[Future[None]]()
    with path.open("rb", buffering=0) as stream, ThreadPoolExecutor(1, thread_name_prefix="sha256") as beside:
        while chunk := stream.read(ready()):
            # SHA-256 takes longest: reading and BLAKE3 go on meanwhile, and must not keep it waiting.
            hashed.append(beside.submit(plain.update, chunk))
            fast.update(chunk)
            done += len(chunk)
            if len(hashed) > _AHEAD:
                hashed.popleft().result()
            if progress is not None:
                progress(done)
    return Digests(size=done, blake3=fast.hexdigest(), sha256=plain.hexdigest())


def file_blake3(path: Path) -> str:
    """BLAKE3-256 of a file, hex: `gevulot-cli calculate-hash`."""
    with path.open("rb", buffering=0) as stream:
        return stream_blake3(stream)


def stream_blake3(stream: BinaryIO) -> str:
    """The same of an open file, to its end.

    It is read, not mapped: a mapped file counts as this process's memory, and is a SIGBUS when another process makes it
    shorter.
    """
    hasher = blake3(max_threads=blake3.AUTO)
    while block := stream.read(CHUNK):
        hasher.update(block)
    return hasher.hexdigest()


def program_hash(*, name: str, image_file_name: str, image_url: str, checksum: str) -> str:
    """The node's name for a deployed program, hex: SHA3-256(name, image file name, image URL, checksum in hex).

    A program that is renamed or hosted elsewhere is another program (docs/facts/gevulot.md, 3).
    """
    return hashlib.sha3_256((name + image_file_name + image_url + checksum).encode()).hexdigest()
