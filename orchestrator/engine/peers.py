"""The process behind an engine's socket, and whether it sees this machine's files as we do."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from pathlib import Path


def sees_files(endpoint: str, path: Path) -> bool | None:
    """Whether the engine at the Unix socket `endpoint` has the same `path` as this process; None = can't be told.

    The kernel names the process that listens. One outside of our PID namespace is 0: the socket was brought into a
    container, whose files are others. Of another user's process the files can't be looked at.
    """
    pid = _listener(endpoint.removeprefix("unix://"))
    if pid is None:
        return None
    if pid == 0:
        return False
    try:
        ours = path.stat()
        theirs = Path(f"/proc/{pid}/root{path}").stat()
    except FileNotFoundError:
        return False if path.exists() and Path(f"/proc/{pid}/root/").exists() else None
    except OSError:
        return None
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def _listener(path: str) -> int | None:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(5)
        asking.connect(path)
        pid, _, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)
    return None
