"""The logs of builds as they grow, for one who looks on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.build_logs import is_running, list_logs
from orchestrator.files import open_read_only
from orchestrator.text import lines_of, parse_json, plain

SHOWN: Final = 8
"""Builds that one who comes anew is told of, the newest and all that run."""
LINES: Final = 400
"""Lines of output of each that one who comes anew is told."""
PIECE: Final = 256 * 1024
"""Bytes of a log that are read at a time; what is longer in memory is no line."""
_LONGEST: Final = 2000
_FIELDS: Final = {
    "build-started": ("time", "project", "file"),
    "build-finished": ("time", "status", "error"),
    "run-started": ("time", "worker", "labels", "number"),
    "run-over": ("time", "why"),
    "step-started": ("time", "id", "stage", "title"),
    "step-output": ("id", "text"),
    "step-progress": ("id", "done", "total", "unit"),
    "step-finished": ("time", "id", "status", "seconds", "error"),
    "notice": ("level", "text"),
}
"""What is handed on of each event. A log is this user's own, but the texts in it are a build's."""
SAID: Final = ("step-started", "step-output", "step-progress", "step-finished", "notice")
"""What a build says itself."""


@dataclass
class _Followed:
    path: Path
    offset: int = 0
    rest: bytes = b""
    ended: bool = False


class LogFollower:
    """What has been added to the logs below a directory since it was last asked. For one who looks on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs: dict[Path, _Followed] = {}
        self._begun = False

    def poll(self) -> list[dict[str, Any]]:
        """Events with their build's `log`; of a build that was killed `build-finished`, with the status `lost`."""
        messages: list[dict[str, Any]] = []
        paths = list_logs(self._folder)
        recent = set(paths[-SHOWN:])
        for path in paths:
            if path not in self._logs:
                # What was over before anyone looked stays in its log.
                known = self._begun or path in recent or is_running(path)
                self._logs[path] = _Followed(path, ended=not known)
            log = self._logs[path]
            if not log.ended:
                messages += [{"log": path.stem, **line} for line in self._news(log)]
        for gone in self._logs.keys() - set(paths):
            del self._logs[gone]
        self._begun = True
        return messages

    def _news(self, log: _Followed) -> list[dict[str, Any]]:
        running = is_running(log.path)  # before reading: what it wrote last is read all the same
        first, lines = log.offset == 0, list(_read(log))
        log.ended = any(line["event"] == "build-finished" for line in lines)
        if not running and not log.ended:
            log.ended = True
            lines.append({"event": "build-finished", "status": "lost", "error": "its process was killed"})
        return _shortened(lines) if first else lines


def _read(log: _Followed) -> Iterator[dict[str, Any]]:
    try:
        with open_read_only(log.path) as stream:
            stream.seek(log.offset)
            while piece := stream.read(PIECE):
                log.offset += len(piece)
                *whole, log.rest = (log.rest + piece).split(b"\n")
                yield from filter(None, map(handed_on, whole))
    except OSError:  # removed a moment ago
        return


def handed_on(said: bytes | dict[str, Any]) -> dict[str, Any] | None:
    """What is handed on of a line, as text or read already; None for what is no event that is known here."""
    try:
        line = parse_json(said) if isinstance(said, bytes) else said
    except ValueError:
        return None
    kind = line.get("event") if isinstance(line, dict) else None
    if not isinstance(kind, str) or kind not in _FIELDS:
        return None
    return {"event": kind} | {name: _value(line[name]) for name in _FIELDS[kind] if name in line}


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return "\n".join(plain(line[:_LONGEST]) for line in lines_of(value[: 100 * _LONGEST]))
    if isinstance(value, list):
        return [_value(item) for item in value[:20] if isinstance(item, str)]
    # JSON has no others; a browser would read none of the page's news any more.
    return value if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)) else None


def _shortened(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without all but the last lines of output, and how far each step was last."""
    outputs = deque((id(line) for line in lines if line["event"] == "step-output"), maxlen=LINES)
    progress = {line.get("id"): id(line) for line in lines if line["event"] == "step-progress"}
    kept = {*outputs, *progress.values()}
    return [line for line in lines if line["event"] not in ("step-output", "step-progress") or id(line) in kept]
