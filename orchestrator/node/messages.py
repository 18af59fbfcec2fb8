"""The node's protocol with a program in its guest: gRPC service vm_service.VMService (facts of Gevulot, section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrator.node.model import Task
from orchestrator.protobuf import as_bytes, as_number, encode, fields

SERVICE: Final = "vm_service.VMService"
HOST_CID: Final = 2
PORT: Final = 8080
UNAVAILABLE: Final = 0
"""TaskError: there is no task; the shim ends then."""


@dataclass(frozen=True, kw_only=True)
class SentFile:
    """A file of a result: its guest path, and the BLAKE3 that the program says it has."""

    path: str
    checksum: bytes


@dataclass(frozen=True, kw_only=True)
class Submission:
    """TaskResultRequest. `error` is a TaskError's number, None for a result."""

    tx_hash: str
    data: bytes = b""
    files: tuple[SentFile, ...] = ()
    error: int | None = None


def task_response(task: Task | None) -> bytes:
    """TaskResponse: the task, or that there is none."""
    if task is None:
        return encode({2: UNAVAILABLE})
    message = encode(
        [
            (1, task.id.encode()),
            (2, task.id.encode()),
            *((3, each.encode()) for each in task.args),
            *((4, each.encode()) for each in task.files),
        ]
    )
    return encode({1: message})


def result_response() -> bytes:
    """TaskResultResponse: the node never has a second task for a program."""
    return encode({1: 0})


def read_submission(data: bytes) -> Submission:
    """What a program sent. ProtobufError (a ValueError) when it is no such message."""
    tx_hash, result, error = "", b"", None
    files: list[SentFile] = []
    for number, value in fields(data):
        if number == 1:
            tx_hash = as_bytes(value).decode()
        elif number == 2:
            error = None
            for inner, part in fields(as_bytes(value)):
                if inner == 2:
                    result = as_bytes(part)
                elif inner == 3:
                    files.append(_file(as_bytes(part)))
        elif number == 3:
            error = as_number(value)
    return Submission(tx_hash=tx_hash, data=result, files=tuple(files), error=error)


def _file(data: bytes) -> SentFile:
    path, checksum = "", b""
    for number, value in fields(data):
        if number == 1:
            path = as_bytes(value).decode()
        elif number == 2:
            checksum = as_bytes(value)
    return SentFile(path=path, checksum=checksum)
