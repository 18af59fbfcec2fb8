"""Reading ahead of whoever writes: the same bytes and errors, and no waiting for a stream that says no more."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.archive import ArchiveStream
from orchestrator.errors import EngineError
from orchestrator.nanos.packers.read_ahead import AHEAD, CHUNK, read_ahead


def archive(chunks: Iterable[bytes]) -> io.BufferedReader:
    return io.BufferedReader(ArchiveStream(iter(chunks), "/stage"))


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=20), st.lists(st.integers(1, 5000), min_size=1))
def test_the_same_bytes_however_they_are_asked_for(chunks: list[bytes], sizes: list[int]) -> None:
    whole = b"".join(chunks)
    found = b""
    with read_ahead(io.BytesIO(whole)) as stream:
        while True:
            part = stream.read(sizes[len(found) % len(sizes)])
            if not part:
                break
            found += part
        assert stream.read(1) == b""
    assert found == whole


def test_a_cut_is_the_same_error_after_the_same_bytes() -> None:
    data = b"x" * (3 * CHUNK + 1)
    with read_ahead(archive([data])) as stream:
        with pytest.raises(EngineError, match=f"archive of /stage early, after {len(data)} bytes"):
            while stream.read(CHUNK):
                pass
        with pytest.raises(EngineError):  # and again, for who did not believe it
            stream.read(1)


def test_it_reads_only_so_far_ahead() -> None:
    given_out = 0

    def endless() -> Iterator[bytes]:
        nonlocal given_out
        while True:
            given_out += 1
            yield bytes(CHUNK)

    with read_ahead(archive(endless())) as stream:
        stream.read(10)
        time.sleep(0.3)
    assert given_out <= AHEAD + 4


def test_a_stream_that_hangs_keeps_nobody() -> None:
    never = threading.Event()

    def hanging() -> Iterator[bytes]:
        yield bytes(CHUNK)
        never.wait(60)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), read_ahead(archive(hanging())) as stream:
        stream.read(10)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 30
    never.set()
