"""What builds on this machine say while they run, a file each, for who looks on (`report --serve`).

They are written only where the directory is there, which the first one who looks on makes: builds that nobody watches
leave nothing. A file is locked for as long as its build lives, so that a killed one is known as such. Its lines are
those of `build --progress json` (docs/events.md), between `build-started` and `build-finished`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Final

from orchestrator import files
from orchestrator.user_paths import build_logs

MOST_BYTES: Final = 4 << 20
"""Of one build; what it says after that is left out, but for how its steps end."""
KEPT: Final = 40
"""Builds whose logs stay, the newest."""
SUFFIX: Final = ".jsonl"


class BuildLog:
    """The log of one build. No error of its own ends the build."""

    def __init__(self, sink: BinaryIO | None) -> None:
        self._sink = sink
        self._lock = Lock()
        self._left = MOST_BYTES
        self._finished = False

    @property
    def wanted(self) -> bool:
        """Whether anybody looks on."""
        return self._sink is not None

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line, as JSON-able data. Used by several threads."""
        data = json.dumps(line).encode() + b"\n"
        with self._lock:
            if self._sink is None or (self._left < len(data) and line.get("event") in ("step-output", "step-progress")):
                return
            self._left -= len(data)
            try:
                self._sink.write(data)
                self._sink.flush()
            except OSError:  # a full disk is no reason to end the build
                self._sink = None

    def finish(self, status: str, error: str = "") -> None:
        """The last line: built, taken, failed or stopped; and why it failed. Said once."""
        if not self._finished:
            self._finished = True
            self.write({"version": 1, "time": time.time(), "event": "build-finished", "status": status, "error": error})


@contextmanager
def open_build_log(project: str, file: str) -> Iterator[BuildLog]:
    """A log for as long as the build of `file`, a project.yaml, runs. Where nobody looks on it goes nowhere."""
    folder = build_logs()
    if not folder.is_dir():
        yield BuildLog(None)
        return
    path = folder / f"{int(time.time() * 1000):015}-{secrets.token_hex(4)}{SUFFIX}"
    lock, sink = files.FileLock(path), None
    try:
        _remove_old(folder)
        if lock.acquire(timeout=1):
            sink = files.open_for_append(path)
    except OSError:  # full, or not ours
        yield BuildLog(None)
        return
    try:
        log = BuildLog(sink)
        log.write({"version": 1, "time": time.time(), "event": "build-started", "project": project, "file": file})
        yield log
    finally:
        if sink is not None:
            with suppress(OSError):
                sink.close()
            lock.release()


def begin_watching() -> Path:
    """The directory of the logs, made if need be: from now on builds write theirs. Nobody else may look into it."""
    folder = build_logs()
    files.make_directory(folder, 0o700)
    return folder


def is_running(path: Path) -> bool:
    """Whether the build of a log lives."""
    lock = files.FileLock(path)
    try:
        if not path.is_file() or not lock.acquire(timeout=0):
            return path.is_file()
    except OSError:
        return False
    lock.release()
    return False


def list_logs(folder: Path) -> list[Path]:
    """All logs, oldest first."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file() and not path.is_symlink())


def _remove_old(folder: Path) -> None:
    for path in list_logs(folder)[: -KEPT + 1]:
        if not is_running(path):
            path.unlink(missing_ok=True)
