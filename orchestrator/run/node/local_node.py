"""The stand-in: one program, one task, one result; files travel by the workspace, with their BLAKE3 checked."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from orchestrator import rpc
from orchestrator.digest import stream_blake3
from orchestrator.run.node.messages import (
    HOST_CID,
    PORT,
    SERVICE,
    SentFile,
    Submission,
    read_submission,
    result_response,
    task_response,
)
from orchestrator.run.node.task import WORKSPACE, ProgramResult, Task

if TYPE_CHECKING:
    import grpc


@dataclass
class LocalNode:
    """Answers one program. `workspace` is the host's directory of the guest's `workspace_at`.

    `task` may be None: there is none. `result` is what the program submitted; None until then.
    """

    task: Task | None
    workspace: Path
    workspace_at: str = WORKSPACE
    result: ProgramResult | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get_task(self) -> bytes:
        """GetTask: the task, once it was answered none."""
        with self._lock:
            return task_response(self.task if self.result is None else None)

    def submit_result(self, request: bytes) -> bytes:
        """SubmitResult. ValueError for bytes that are no such message."""
        submission = read_submission(request)
        with self._lock:
            # The node logs and drops what is of another task, and what comes a second time; it answers the same.
            if self.task is not None and self.result is None and submission.tx_hash == self.task.id:
                self.result = self._result(submission)
        return result_response()

    @property
    def outcome(self) -> ProgramResult:
        """What the program submitted; that it submitted nothing is an error of its own."""
        return self.result or ProgramResult(error="the program submitted no result")

    def _result(self, submission: Submission) -> ProgramResult:
        if submission.error is not None:
            return ProgramResult(error=f"the program reported that its task failed (error {submission.error})")
        for file in submission.files:
            problem = self._problem(file)
            if problem:
                return ProgramResult(error=f"the node refuses the result: {problem}")
        return ProgramResult(data=submission.data, files=tuple(file.path for file in submission.files))

    def _problem(self, file: SentFile) -> str:
        if host_path(self.workspace, self.workspace_at, file.path) is None:
            return f"{file.path!r} is not in {self.workspace_at}"
        opened = _open_workspace_file(self.workspace, self.workspace_at, file.path)
        if opened is None:
            return f"{file.path} does not exist"
        with opened:
            checksum = stream_blake3(opened)
        if file.checksum != bytes.fromhex(checksum):
            return f"{file.path} does not match the BLAKE3 that the program sent; it was changed after add_file"
        return ""


def host_path(workspace: Path, workspace_at: str, path: str) -> Path | None:
    """Where a guest path below the workspace lies on the host; None for any other. Relative: of the workspace."""
    top, pure = PurePosixPath(workspace_at), PurePosixPath(workspace_at) / path
    if "\0" in path or ".." in pure.parts or top not in pure.parents:
        return None
    path_on_host = workspace / pure.relative_to(top)
    # A link in the workspace is the program's own doing, and must not reach the host's files.
    try:
        real = path_on_host.resolve()
        inside = real.is_relative_to(workspace.resolve())
        # Links in a circle: Python raises RuntimeError up to 3.12, and leaves them in the path from 3.13 on.
        circle = any(_is_link(part) for part in (real, *real.parents))
    except (OSError, RuntimeError):
        return None
    return path_on_host if inside and not circle else None


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:  # a name too long
        return False


def workspace_file(workspace: Path, workspace_at: str, path: str) -> Path | None:
    """As `host_path`, for a file that is there and can be read."""
    path_on_host = host_path(workspace, workspace_at, path)
    try:
        if path_on_host is not None and path_on_host.is_file():
            with path_on_host.open("rb"):
                return path_on_host
    except OSError:
        pass
    return None


def _open_workspace_file(workspace: Path, workspace_at: str, path: str) -> BinaryIO | None:
    """As `workspace_file`, open, while the program runs: it may put a link or a pipe in the place of what was seen."""
    path_on_host = workspace_file(workspace, workspace_at, path)
    if path_on_host is None:
        return None
    top = workspace.resolve()
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        at = os.open(top, os.O_PATH | os.O_DIRECTORY)
        for name in path_on_host.resolve().relative_to(top).parts:
            below = os.open(name, os.O_RDONLY | flags, dir_fd=at)
            os.close(at)
            at = below
    except (OSError, ValueError, RuntimeError):
        return None
    opened = os.fdopen(at, "rb")
    if stat.S_ISREG(os.fstat(at).st_mode):
        return opened
    opened.close()
    return None


@contextmanager
def serving(node: LocalNode, path: Path) -> Iterator[None]:
    """Serve on a Unix socket at `path`."""

    def submit(request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return node.submit_result(request)
        except ValueError as error:
            import grpc

            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise

    methods: dict[str, rpc.Reply] = {
        f"/{SERVICE}/GetTask": lambda _request, _context: node.get_task(),
        f"/{SERVICE}/SubmitResult": submit,
    }
    with rpc.serving(path, methods, workers=4):
        path.chmod(0o600)  # only the supervisor connects, and it is this process
        yield


def answers(path: Path, cid: int, port: int) -> Path | None:
    """The socket for a program's vsock address: the node has one port, on the host."""
    return path if (cid, port) == (HOST_CID, PORT) else None
