"""The connections of one download, which end in time. httpx limits pauses only: a byte now and then gets past that."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Connections:
    """All that a download opens. `answer` is the time in seconds for a connection, and for the header of an answer.

    `unanswered`: such a time has run out since `begin`.
    """

    answer: float
    unanswered: bool = False
    _deadline: float = 0.0
    _open: list[socket.socket] = field(default_factory=list)
    """Handles of our own."""
    _waiting: threading.Timer | None = None

    @contextmanager
    def end_within(self, seconds: float) -> Iterator[None]:
        """Break whatever is open, or opened later, after so many seconds."""
        self._deadline = time.monotonic() + seconds
        timer = _start(seconds, self._cut)
        try:
            yield
        finally:
            timer.cancel()
            self.stop_waiting()
            for connection in self._open:
                connection.close()

    def begin(self) -> None:
        """A new try."""
        self.unanswered = False

    def stop_waiting(self) -> None:
        """The header of an answer is there, or no longer wanted."""
        if self._waiting is not None:
            self._waiting.cancel()

    def trace(self, event: str, details: Mapping[str, Any]) -> None:
        """httpcore tells of what it does: of a connection to the server, or to a proxy, and of an answer's header."""
        if event.endswith(("connect_tcp.started", "receive_response_headers.started")):
            self.stop_waiting()
            self._waiting = _start(self.answer, self._give_up)
        elif event.endswith("receive_response_headers.complete"):
            self.stop_waiting()
        if event.endswith("connect_tcp.complete"):
            self._open.append(details["return_value"].get_extra_info("socket").dup())
            if time.monotonic() >= self._deadline:
                self._cut()

    def _give_up(self) -> None:
        self.unanswered = True
        self._cut()

    def _cut(self) -> None:
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _start(seconds: float, action: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer
