"""Holding an interrupt back where leaving would lose something."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType

_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def hold_back() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Signals that would interrupt take effect at the end; a second one at once, should the end not come.

    Gives a context in which they do take effect. All this by their handlers, not by the signal mask: where there is
    more than one thread, the kernel gives a signal to any of them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield nullcontext  # Python interrupts the main thread only
        return
    pending: list[int] = []
    before = {number: handler for number in _HELD if callable(handler := signal.getsignal(number))}

    def later(number: int, _frame: FrameType | None) -> None:
        pending.append(number)
        if len(pending) > 1:
            raise KeyboardInterrupt

    def hold() -> None:
        for number in before:
            signal.signal(number, later)

    def release() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending.pop())

    @contextmanager
    def let_through() -> Iterator[None]:
        try:
            release()
            yield
        finally:
            hold()

    try:
        hold()
        yield let_through
    finally:
        release()
