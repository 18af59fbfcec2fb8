"""The two checksums of an image, computed side by side."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3

from orchestrator.digest import CHUNK, file_blake3, file_digests
from orchestrator.watermark import Watermark


@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK + 12345])
def test_both_at_once_are_what_each_is_alone(tmp_path: Path, size: int) -> None:
    data, path, told = os.urandom(size), tmp_path / "x", list[int]()
    path.write_bytes(data)
    digests = file_digests(path, told.append)
    assert digests.size == size
    assert digests.sha256 == hashlib.sha256(data).hexdigest()
    assert digests.blake3 == blake3(data).hexdigest() == (file_blake3(path) if size else digests.blake3)
    assert told == sorted(told)
    assert told[-1:] == ([size] if size else [])


def test_a_file_is_hashed_while_it_is_written(tmp_path: Path) -> None:
    path, written, data = tmp_path / "x", Watermark(), os.urandom(3 * CHUNK + 5)
    with path.open("w+b", buffering=0) as file, ThreadPoolExecutor(1) as pool:
        file.truncate(len(data))
        digests = pool.submit(file_digests, path, None, written)
        for start in range(0, len(data), CHUNK // 2):
            file.write(data[start : start + CHUNK // 2])
            written.reach(min(start + CHUNK // 2, len(data)))
            assert not digests.done()
        written.finish()
    assert digests.result() == file_digests(path)


def test_a_file_that_is_not_wanted_any_more_is_not_waited_for(tmp_path: Path) -> None:
    written = Watermark()
    with ThreadPoolExecutor(1) as pool:
        digests = pool.submit(file_digests, tmp_path / "never", None, written)
        written.stop()
    assert isinstance(digests.exception(), CancelledError)
