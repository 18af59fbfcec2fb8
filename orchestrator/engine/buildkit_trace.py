"""BuildKit's trace messages: the few fields of `moby.buildkit.v1.StatusResponse` that tell how a build goes.

Source of the field numbers: BuildKit's api/services/control.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import protobuf
from orchestrator.protobuf import Value

MAX_MESSAGE = 64 * 1024 * 1024
"""No single trace is near this; a larger one is refused before it is decoded."""


class TraceError(ValueError):
    """The bytes are not a StatusResponse."""


@dataclass(frozen=True, kw_only=True)
class Vertex:
    """A step. `started` and `completed` are seconds since 1970, None when not yet."""

    digest: str
    name: str = ""
    cached: bool = False
    started: float | None = None
    completed: float | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Log:
    """Bytes that a step wrote to its stdout (`stream` 1) or stderr (2)."""

    vertex: str
    data: bytes
    stream: int = 0


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One StatusResponse."""

    vertices: tuple[Vertex, ...] = ()
    logs: tuple[Log, ...] = ()


def decode(data: bytes) -> Trace:
    """Decode one StatusResponse; unknown fields are skipped. TraceError when it isn't one."""
    if len(data) > MAX_MESSAGE:
        raise TraceError(f"trace message of {len(data)} bytes")
    vertices: list[Vertex] = []
    logs: list[Log] = []
    try:
        for number, value in protobuf.fields(data):
            if number == 1:
                vertices.append(_vertex(protobuf.as_bytes(value)))
            elif number == 3:
                logs.append(_log(protobuf.as_bytes(value)))
    except protobuf.ProtobufError as error:
        raise TraceError(str(error)) from error
    return Trace(vertices=tuple(vertices), logs=tuple(logs))


def _vertex(data: bytes) -> Vertex:
    fields = dict(protobuf.fields(data))  # the last value of a field counts, as protobuf says; inputs (2) don't matter
    return Vertex(
        digest=protobuf.as_text(fields.get(1, b"")),
        name=protobuf.as_text(fields.get(3, b"")),
        cached=bool(fields.get(4, 0)),
        started=_time(fields.get(5)),
        completed=_time(fields.get(6)),
        error=protobuf.as_text(fields.get(7, b"")),
    )


def _log(data: bytes) -> Log:
    fields = dict(protobuf.fields(data))
    return Log(
        vertex=protobuf.as_text(fields.get(1, b"")),
        data=protobuf.as_bytes(fields.get(4, b"")),
        stream=protobuf.as_number(fields.get(3, 0)),
    )


def _time(value: Value | None) -> float | None:
    if value is None:
        return None
    fields = dict(protobuf.fields(protobuf.as_bytes(value)))
    return protobuf.as_number(fields.get(1, 0)) + protobuf.as_number(fields.get(2, 0)) / 1e9
