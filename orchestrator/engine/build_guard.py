"""Holds a build's connection open when its client goes, ends the build's processes, and waits for the reply's end.

A Podman service of version 5 panics when a client goes in the middle of a build. This process has the same connection,
so that the service doesn't see the client go, however it dies; the service is left once the build has ended.

A script of the standard library, and nothing of ours: it is started by its path with `python -I -S`. Arguments: the
descriptor of the connection, that of a pipe from the client, the size (bytes) of the /dev/shm of the build's steps (0:
they are not here), and the seconds that the end may take. A byte in the pipe says that all is well, its end that the
client has gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

PAGE = 4096
SOON = 15
"""Seconds in which it looks often."""


def sign(size: int) -> str:
    """The option that a /dev/shm has in mountinfo which was asked for with `size` bytes."""
    return f"size={-(-size // PAGE) * (PAGE // 1024)}k"


def kill_marked(size: int) -> int:
    """SIGKILL the processes whose /dev/shm was asked for with `size` bytes; how many there were."""
    count = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            mounts = (process / "mountinfo").read_text(encoding="utf-8", errors="replace")
            if any(" /dev/shm " in line and f"{sign(size)}," in f"{line}," for line in mounts.splitlines()):
                os.kill(int(process.name), signal.SIGKILL)
                count += 1
    return count


def main(arguments: list[str]) -> None:
    """Guard one connection."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the client, if it comes to a whole group
    connection, pipe, size, seconds = socket.socket(fileno=int(arguments[0])), *(int(text) for text in arguments[1:])
    if os.read(pipe, 1):
        return
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        if size:
            kill_marked(size)
        connection.settimeout(0.1 if passed < SOON else 5)
        with contextlib.suppress(TimeoutError):
            if not connection.recv(65536):
                return


if __name__ == "__main__":
    main(sys.argv[1:])
