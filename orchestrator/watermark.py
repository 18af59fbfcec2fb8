"""How far a file is that one thread writes and others read meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError


class Watermark:
    """Up to which byte a file that is being written is as it will be: what a thread that reads it waits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._end = 0
        self._whole = self._stopped = False

    def reach(self, end: int) -> None:
        """The first `end` bytes are there."""
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def finish(self) -> None:
        """All of it is there."""
        with self._changed:
            self._whole = True
            self._changed.notify_all()

    def stop(self) -> None:
        """It isn't wanted any more; after `finish` as well."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wait(self, done: int, most: int) -> int:
        """How many bytes after the first `done` may be read, `most` at most, once there are any; or all, at the end.

        CancelledError after `stop`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._whole or self._end > done)
            if self._stopped:
                raise CancelledError
            return most if self._whole else min(most, self._end - done)
