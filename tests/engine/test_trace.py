"""The decoder of BuildKit's trace messages: against an encoder written here, and against any bytes."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine import buildkit_trace
from orchestrator.engine.buildkit_trace import BuildKitTrace, TraceError, Vertex, VertexLog, decode
from tests.support.wire import data, number

RECORDINGS = Path(__file__).parent / "recordings"


def moment(seconds: int, nanos: int) -> bytes:
    return number(1, seconds) + number(2, nanos)


names = st.text(max_size=40)
sizes = st.integers(0, 2**63 - 1)
seconds = st.integers(0, 2**33)


@given(st.data())
def test_decodes_what_was_encoded(draw: st.DataObject) -> None:
    digest, name, error = (draw.draw(names) for _ in range(3))
    cached, started = draw.draw(st.booleans()), draw.draw(st.none() | seconds)
    text, current, total = draw.draw(st.binary(max_size=200)), draw.draw(sizes), draw.draw(sizes)
    vertex = data(1, digest.encode()) + data(2, b"sha256:input") + data(3, name.encode()) + number(4, cached)
    if started is not None:
        vertex += data(5, moment(started, 500_000_000))
    vertex += data(7, error.encode())
    status = data(1, b"id") + data(2, digest.encode()) + number(4, current) + number(5, total)
    log = data(1, digest.encode()) + number(3, 2) + data(4, text)
    message = data(1, vertex) + data(2, status) + data(3, log) + data(4, b"warning") + number(99, 7)
    assert decode(message) == BuildKitTrace(
        vertices=(
            Vertex(
                digest=digest,
                name=name,
                cached=cached,
                started=None if started is None else started + 0.5,
                error=error,
            ),
        ),
        logs=(VertexLog(vertex=digest, data=text, stream=2),),
    )


@given(st.binary(max_size=2000))
def test_any_bytes_decode_or_are_refused(message: bytes) -> None:
    with contextlib.suppress(TraceError):
        decode(message)


def recorded() -> list[bytes]:
    lines = (RECORDINGS / "buildkit-failure.jsonl").read_text().splitlines()
    messages = (json.loads(line) for line in lines if line)
    return [base64.b64decode(m["aux"]) for m in messages if m.get("id") == "moby.buildkit.trace"]


@given(st.data())
def test_damaged_recordings_decode_or_are_refused(draw: st.DataObject) -> None:
    message = bytearray(draw.draw(st.sampled_from(recorded())))
    for _ in range(draw.draw(st.integers(1, 4))):
        message[draw.draw(st.integers(0, len(message) - 1))] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(message)))
    with contextlib.suppress(TraceError):
        decode(bytes(message[:cut]))


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for message in (b"\x0a\xff\xff\xff\xff\x0f", b"\x08" + b"\xff" * 11, b"\x0b", b"\x0a"):
        with pytest.raises(TraceError):
            decode(message)
    monkeypatch.setattr(buildkit_trace, "MAX_MESSAGE", 10)
    with pytest.raises(TraceError):
        decode(b"\x08\x01" * 6)
