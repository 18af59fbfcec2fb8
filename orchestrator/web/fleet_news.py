"""A fleet's state for those who look on: asked for once a second at most, and bounded, whatever its workers say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final

from orchestrator.text import plain

_FRESH: Final = 1.0
"""Seconds for which a state is good enough."""
_LONGEST, _MOST = 200, 1000


class FleetNews:
    """`ask` gives the state as JSON-able data, and blocks until it is there; None where it could not be had in time.

    The state is what fleet.js shows: `workers`, `lost`, `waiting` (the first ones) and `waits` (how many), `running`,
    `done`, `earlier`, `failed`, `dashboard`.
    """

    def __init__(self, ask: Callable[[], Mapping[str, Any] | None]) -> None:
        self._ask = ask
        self._lock = Lock()
        self._text, self._asked = "{}", 0.0

    def text(self) -> str:
        """The state as JSON, in one line. Used by several threads."""
        with self._lock:
            if time.monotonic() - self._asked >= _FRESH:
                state = self._ask()
                if state is not None:
                    self._text = json.dumps(_bounded(state))
                self._asked = time.monotonic()
            return self._text


def _bounded(value: Any) -> Any:
    """Texts are a peer's: nothing in them may be unseen, or act on anything."""
    if isinstance(value, str):
        return plain(value[:_LONGEST])
    if isinstance(value, Mapping):
        return {name: _bounded(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_bounded(item) for item in value[:_MOST]]
    return value
