"""The two checksums of an image, computed side by side."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from blake3 import blake3

from orchestrator.digest import CHUNK, file_blake3, file_digests


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
