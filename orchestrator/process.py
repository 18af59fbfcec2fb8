"""The one place that starts processes: list arguments, no shell, output captured, errors with their tail."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrator import files

GRACE = 10.0
"""Seconds that a process has to end after SIGTERM."""
Background = subprocess.Popen[bytes]
"""A process that `start` started."""


@dataclass(frozen=True, kw_only=True)
class CompletedProcess:
    """A process that ended: exit status (negative = signal), stdout and stderr as text, stdout also as it was."""

    status: int
    stdout: str
    stderr: str
    output: bytes = b""

    def tail(self, lines: int = 12) -> str:
        """The last lines it wrote, stderr last: what an error message should quote."""
        return "\n".join((self.stdout.rstrip() + "\n" + self.stderr.rstrip()).strip().split("\n")[-lines:])


def which(name: str) -> str | None:
    """Absolute path of a program on PATH or in the system's sbin directories, or None."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


def run(
    arguments: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    inherit: bool = True,
    stdin: IO[bytes] | None = None,
    timeout: float | None = None,
) -> CompletedProcess:
    """Run to the end. `env` is added to this process's own environment, or is all of it without `inherit`.

    Interrupted or late, its whole group is killed.

    Errors: FileNotFoundError when the program is missing, TimeoutError past `timeout` seconds.
    """
    # A group of its own, so that what the program itself started ends with it.
    with subprocess.Popen(
        list(arguments),
        cwd=cwd,
        env={**(os.environ if inherit else {}), **(env or {})},
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as running:
        try:
            stdout, stderr = running.communicate(timeout=timeout)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError(f"{arguments[0]} did not end within {timeout:g} s") from error
            raise
    return CompletedProcess(
        status=running.returncode,
        stdout=stdout.decode(errors="replace"),
        stderr=stderr.decode(errors="replace"),
        output=stdout,
    )


def start(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    log: Path | None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    channel: socket.socket | None = None,
) -> subprocess.Popen[bytes]:
    """Start a background process in its own session; everything that it prints goes to the file `log`, if any.

    It inherits the descriptors `pass_fds`, by the same numbers. With a `channel` it reads its input from there and
    writes its output there; the log has its errors.

    Its own session keeps a Ctrl-C at the terminal from reaching it before we have said goodbye to it.
    """
    with files.open_for_append(log) if log is not None else nullcontext(subprocess.DEVNULL) as sink:
        return subprocess.Popen(
            list(arguments),
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=channel.fileno() if channel is not None else subprocess.DEVNULL,
            stdout=channel.fileno() if channel is not None else sink,
            stderr=sink,
            start_new_session=True,
            pass_fds=pass_fds,
        )


def follow(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    line: Callable[[str], None],
    running: Callable[[Background], AbstractContextManager[None]],
    cwd: Path | None = None,
) -> CompletedProcess:
    """Run to the end, handing on stderr line by line as it comes; `env` is added to this process's own environment.

    `running` is entered with the process while it runs, and may end it. It is in a session of its own, as in `start`;
    whatever else ends us (`line` raising), it is told to end.
    """
    with (
        subprocess.Popen(
            list(arguments),
            cwd=cwd,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as background,
        ThreadPoolExecutor(1, "stdout") as beside,
    ):
        assert background.stdout is not None
        assert background.stderr is not None
        answer = beside.submit(background.stdout.read)
        try:
            with running(background):
                for raw in background.stderr:
                    line(raw.decode(errors="replace").rstrip("\n"))
                background.wait()
        except BaseException:
            background.terminate()
            raise
        output = answer.result()
    return CompletedProcess(
        status=background.returncode, stdout=output.decode(errors="replace"), stderr="", output=output
    )


def has_ended(background: Background, *, within: float) -> bool:
    """Whether it ends within so many seconds."""
    try:
        background.wait(timeout=within)
    except subprocess.TimeoutExpired:
        return False
    return True


def stop(background: Background) -> None:
    """SIGTERM, and SIGKILL where that does nothing; returns when it has ended."""
    background.terminate()
    try:
        background.wait(timeout=GRACE)
    except subprocess.TimeoutExpired:
        background.kill()
        background.wait()


def stream(arguments: Sequence[str], *, timeout: float, output: Callable[[bytes], None]) -> int | None:
    """Run, handing on stdout and stderr as they come; the exit status, or None when killed after `timeout` seconds.

    Whatever else ends it (an interrupt, `output` raising), its whole group is killed. FileNotFoundError: no program.
    """
    deadline = time.monotonic() + timeout
    with subprocess.Popen(
        list(arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(running.stdout, selectors.EVENT_READ)
                while (left := deadline - time.monotonic()) > 0:
                    if selector.select(left):
                        data = os.read(running.stdout.fileno(), 65536)
                        if not data:
                            return running.wait(timeout=max(0.1, deadline - time.monotonic()))
                        output(data)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if running.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)
    return None
