"""The node's protocol with a program in its guest, between our types and the generated messages (vm_service.proto)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.run.node.task import Task

if TYPE_CHECKING:
    from orchestrator.run.node.vm_service_pb2 import TaskResultRequest

SERVICE: Final = "vm_service.VMService"
HOST_CID: Final = 2
PORT: Final = 8080


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
    from orchestrator.run.node import vm_service_pb2 as messages  # late: `rehearse --help` need not load protobuf

    if task is None:
        return messages.TaskResponse(error=messages.UNAVAILABLE).SerializeToString()
    sent = messages.Task(tx_hash=task.id, name=task.id, args=task.args, files=task.files)
    return messages.TaskResponse(task=sent).SerializeToString()


def result_response() -> bytes:
    """TaskResultResponse: the node never has a second task for a program."""
    from orchestrator.run.node import vm_service_pb2 as messages

    return messages.TaskResultResponse().SerializeToString()


def read_submission(data: bytes) -> Submission:
    """What a program sent. ValueError when it is no such message."""
    from google.protobuf.message import DecodeError

    from orchestrator.run.node.vm_service_pb2 import TaskResultRequest

    try:
        return _submission(TaskResultRequest.FromString(data))
    except DecodeError as error:
        raise ValueError(f"not a TaskResultRequest: {error}") from error


def _submission(request: TaskResultRequest) -> Submission:
    if request.WhichOneof("result") == "error":
        return Submission(tx_hash=request.tx_hash, error=request.error)
    files = tuple(SentFile(path=file.path, checksum=file.checksum) for file in request.task.files)
    return Submission(tx_hash=request.tx_hash, data=request.task.data, files=files)
