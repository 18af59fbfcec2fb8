"""The node's stand-in, asked by a real gRPC client, and sent what no program would send."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.run.node.local_node import LocalNode, answers, host_path, serving
from orchestrator.run.node.messages import SERVICE, read_submission
from orchestrator.run.node.task import ProgramResult, Task
from orchestrator.run.node.vm_service_pb2 import (
    File,
    TaskResult,
    TaskResultRequest,
    TaskResultResponse,
)

NO_TASK = b"\x10\x00"
"""Field 2, the error UNAVAILABLE: written although it is 0, since it is one of a oneof."""
TASK = Task(id="t1", args=("--n", "7"), files=("/workspace/in.txt",))


@contextmanager
def calling(node: LocalNode) -> Iterator[grpc.Channel]:
    with tempfile.TemporaryDirectory(prefix="n-") as folder:
        path = Path(folder) / "node.sock"
        with serving(node, path), grpc.insecure_channel(f"unix:{path}") as channel:
            yield channel


def call(channel: grpc.Channel, method: str, request: bytes = b"") -> bytes:
    ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/{method}")
    return ask(request, timeout=20)


def submission(tx_hash: str, data: bytes, *files: tuple[str, bytes]) -> bytes:
    sent = [File(path=path, checksum=checksum) for path, checksum in files]
    return TaskResultRequest(tx_hash=tx_hash, task=TaskResult(data=data, files=sent)).SerializeToString()


def test_a_task_and_its_result(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"proof")
    node = LocalNode(task=TASK, workspace=tmp_path)
    with calling(node) as channel:
        # The bytes as the real shim reads them: field numbers and order are the protocol.
        assert call(channel, "GetTask") == b"\x0a\x23\x0a\x02t1\x12\x02t1\x1a\x03--n\x1a\x017\x22\x11/workspace/in.txt"
        reply = call(
            channel, "SubmitResult", submission("t1", b"\x00yes", ("/workspace/out", blake3(b"proof").digest()))
        )
        assert getattr(TaskResultResponse.FromString(reply), "continue") is False
        assert call(channel, "GetTask") == NO_TASK  # there is no second one
    assert node.result == ProgramResult(data=b"\x00yes", files=("/workspace/out",))


def test_without_a_task_it_says_so(tmp_path: Path) -> None:
    with calling(LocalNode(task=None, workspace=tmp_path)) as channel:
        assert call(channel, "GetTask") == NO_TASK


@pytest.mark.parametrize(
    ("path", "checksum", "says"),
    [
        ("/workspace/out", bytes(32), "BLAKE3"),
        ("/workspace/absent", bytes(32), "does not exist"),
        ("/etc/passwd", bytes(32), "is not in /workspace"),
        ("/workspace/../etc/passwd", bytes(32), "is not in /workspace"),
        ("/workspace/link", bytes(32), "is not in /workspace"),
        ("/workspace/loop", bytes(32), "is not in /workspace"),
        ("/workspace/" + "a" * 300, bytes(32), "does not exist"),
        ("/workspace/folder", bytes(32), "does not exist"),
    ],
)
def test_files_that_are_not_as_the_program_says(tmp_path: Path, path: str, checksum: bytes, says: str) -> None:
    (tmp_path / "out").write_bytes(b"proof")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    node = LocalNode(task=TASK, workspace=tmp_path)
    node.submit_result(submission("t1", b"", (path, checksum)))
    assert node.result is not None
    assert node.result.error is not None and says in node.result.error


def test_another_tasks_result_is_dropped_and_a_failure_kept(tmp_path: Path) -> None:
    node = LocalNode(task=TASK, workspace=tmp_path)
    node.submit_result(submission("other", b"x"))
    dropped = node.result
    node.submit_result(TaskResultRequest(tx_hash="t1", error=1).SerializeToString())
    assert dropped is None
    assert "failed" in str(node.result)


def test_bytes_that_are_no_message_are_an_error_of_the_programs(tmp_path: Path) -> None:
    with calling(LocalNode(task=TASK, workspace=tmp_path)) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "SubmitResult", b"\xff\xff\xff")
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert call(channel, "GetTask")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        read_submission(data)


@given(st.text(max_size=40))
def test_no_path_leaves_the_workspace(path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        on_host = host_path(Path(folder), "/workspace", path)
        assert on_host is None or on_host.is_relative_to(folder)


def test_only_the_nodes_own_address_is_answered(tmp_path: Path) -> None:
    assert answers(tmp_path, 2, 8080) == tmp_path
    assert answers(tmp_path, 2, 8081) is None
    assert answers(tmp_path, 3, 8080) is None
