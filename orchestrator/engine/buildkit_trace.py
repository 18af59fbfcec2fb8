"""BuildKit's trace messages: the few fields of `moby.buildkit.v1.StatusResponse` that tell how a build goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from orchestrator.engine import buildkit_pb2

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
class VertexLog:
    """Bytes that a step wrote to its stdout (`stream` 1) or stderr (2)."""

    vertex: str
    data: bytes
    stream: int = 0


@dataclass(frozen=True, kw_only=True)
class BuildKitTrace:
    """One StatusResponse."""

    vertices: tuple[Vertex, ...] = ()
    logs: tuple[VertexLog, ...] = ()


def decode(data: bytes) -> BuildKitTrace:
    """Decode one StatusResponse; unknown fields are skipped. TraceError when it isn't one."""
    from google.protobuf.message import DecodeError

    from orchestrator.engine.buildkit_pb2 import StatusResponse

    if len(data) > MAX_MESSAGE:
        raise TraceError(f"trace message of {len(data)} bytes")
    try:
        message = StatusResponse.FromString(data)
    except DecodeError as error:
        raise TraceError(str(error)) from error
    return BuildKitTrace(
        vertices=tuple(_vertex(vertex) for vertex in message.vertexes),
        logs=tuple(VertexLog(vertex=_text(log.vertex), data=log.msg, stream=log.stream) for log in message.logs),
    )


def _vertex(message: buildkit_pb2.Vertex) -> Vertex:
    return Vertex(
        digest=_text(message.digest),
        name=_text(message.name),
        cached=message.cached,
        started=_seconds(message.started) if message.HasField("started") else None,
        completed=_seconds(message.completed) if message.HasField("completed") else None,
        error=_text(message.error),
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _seconds(moment: Timestamp) -> float:
    return moment.seconds + moment.nanos / 1e9
