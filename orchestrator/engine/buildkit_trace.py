"""BuildKit's trace messages: the few fields of `moby.buildkit.v1.StatusResponse` that tell how a build goes.

Decoded by hand: the message is four fields deep and stable since 2018, and the protobuf library would add a
compiled schema and a dependency for them. Source of the field numbers: BuildKit's api/services/control.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_MESSAGE = 64 * 1024 * 1024
"""No single trace is near this; a larger one is refused before it is decoded."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


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
class Status:
    """A part of a step with a measure of its progress, such as a layer that is pulled."""

    vertex: str
    id: str = ""
    current: int = 0
    total: int = 0


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
    statuses: tuple[Status, ...] = ()
    logs: tuple[Log, ...] = ()


def decode(data: bytes) -> Trace:
    """Decode one StatusResponse; unknown fields are skipped. TraceError when it isn't one."""
    if len(data) > MAX_MESSAGE:
        raise TraceError(f"trace message of {len(data)} bytes")
    vertices: list[Vertex] = []
    statuses: list[Status] = []
    logs: list[Log] = []
    for number, value in _fields(data):
        if number == 1:
            vertices.append(_vertex(_bytes(value)))
        elif number == 2:
            statuses.append(_status(_bytes(value)))
        elif number == 3:
            logs.append(_log(_bytes(value)))
    return Trace(vertices=tuple(vertices), statuses=tuple(statuses), logs=tuple(logs))


def _vertex(data: bytes) -> Vertex:
    fields = dict(_fields(data))  # the last value of a field counts, as protobuf says; inputs (2) don't matter
    return Vertex(
        digest=_text(fields.get(1, b"")),
        name=_text(fields.get(3, b"")),
        cached=bool(fields.get(4, 0)),
        started=_time(fields.get(5)),
        completed=_time(fields.get(6)),
        error=_text(fields.get(7, b"")),
    )


def _status(data: bytes) -> Status:
    fields = dict(_fields(data))
    return Status(
        id=_text(fields.get(1, b"")),
        vertex=_text(fields.get(2, b"")),
        current=_number(fields.get(4, 0)),
        total=_number(fields.get(5, 0)),
    )


def _log(data: bytes) -> Log:
    fields = dict(_fields(data))
    return Log(
        vertex=_text(fields.get(1, b"")),
        data=_bytes(fields.get(4, b"")),
        stream=_number(fields.get(3, 0)),
    )


def _time(value: int | bytes | None) -> float | None:
    if value is None:
        return None
    fields = dict(_fields(_bytes(value)))
    return _number(fields.get(1, 0)) + _number(fields.get(2, 0)) / 1e9


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise TraceError(f"wire type {kind}")
        if length > len(data) - at:
            raise TraceError("field past the end of its message")
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise TraceError("number past the end of its message")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise TraceError("number of more than ten bytes")


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise TraceError("bytes where a number belongs")
    return value - (1 << 64) if value >> 63 else value  # int64, two's complement


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TraceError("a number where bytes belong")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode("utf-8", errors="replace")
