"""The lines at the bottom of a terminal that are drawn again and again, below those that stay.

Ours and not rich's `Live`: that one loses its place when the terminal becomes narrower than what it has drawn.
"""

from __future__ import annotations

import io
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from threading import RLock
from typing import TextIO

from rich.console import Console, ConsoleDimensions
from rich.text import Text

_DEFAULT = os.terminal_size((80, 24))
_KEPT = 200
"""Lines that stay, of which those that fit are printed again after the terminal was made narrower."""
_HIDE, _SHOW, _ERASE = "\x1b[?25l", "\x1b[?25h", "\x1b[J"


class LiveArea:
    """Rows at the bottom, and lines that go above them. Safe to call from several threads.

    While it is open, what others write to stderr goes above the rows too, if stderr is that terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = RLock()
        self._console = Console(file=stream, highlight=False, force_terminal=True)
        self._stderr: TextIO | None = None
        self._drawn: list[int] = []
        """Columns of each row that is on the screen."""
        self._columns = 0
        self._open = False
        self._kept: deque[Text] = deque(maxlen=_KEPT)

    @property
    def plain_glyphs(self) -> bool:
        """Whether only ASCII can be written."""
        return not (self._stream.encoding or "utf-8").lower().startswith("utf")

    def start(self) -> None:
        """Take the bottom of the terminal."""
        with self._lock:
            self._open = True
            if self._stream is sys.stderr:
                self._stderr, sys.stderr = sys.stderr, _Above(self._stream, self.above)
            self._write(_HIDE)

    def stop(self, last: Text | None = None) -> None:
        """Give it back, with nothing left there but `last`."""
        with self._lock:
            if self._stderr is not None:
                if isinstance(sys.stderr, _Above):
                    sys.stderr.finish()
                sys.stderr, self._stderr = self._stderr, None
            self._open = False
            kept = [last] if last is not None else []
            self._write(self._back(self.size()) + "".join(map(self._line, kept)) + _SHOW)

    def size(self) -> os.terminal_size:
        """Columns and rows of the terminal as it is now."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return _DEFAULT
        return size if size.columns > 0 and size.lines > 0 else _DEFAULT

    def above(self, line: Text) -> None:
        """Print a line that stays; the rows come back at the next `draw`."""
        with self._lock:
            back = self._back(self.size())
            self._kept.append(line)
            self._write(back + self._line(line))

    def draw(self, rows: Callable[[os.terminal_size], Sequence[Text]]) -> None:
        """Draw the rows for the terminal's size anew; what does not fit is cut off."""
        with self._lock:
            if not self._open:
                return
            size = self.size()
            back = self._back(size)
            shown = rows(size)[: max(size.lines - 1, 1)]
            for row in shown:
                # The last column stays free: some terminals wrap as soon as it is written, some later.
                row.truncate(max(size.columns - 1, 1), overflow="ellipsis")
            self._write(back + "\n".join(map(self._ansi, shown)))
            self._drawn, self._columns = [row.cell_len for row in shown], size.columns

    def _back(self, size: os.terminal_size) -> str:
        """What takes the cursor to where the rows begin, and erases them."""
        drawn, self._drawn = self._drawn, []
        self._console.size = ConsoleDimensions(size.columns, size.lines)
        if not drawn:
            return ""
        if size.columns < self._columns and max(drawn) > size.columns:
            return self._anew(size)
        return "\r" + (f"\x1b[{len(drawn) - 1}A" if len(drawn) > 1 else "") + _ERASE

    def _anew(self, size: os.terminal_size) -> str:
        """The terminal is narrower than a row: some terminals have wrapped it and some cut it off, so nobody knows
        where the rows begin. What is on the screen goes up and away, and comes again."""
        lines = "".join(map(self._line, self._kept)).splitlines(keepends=True)
        return f"\x1b[{size.lines};1H" + "\n" * size.lines + "\x1b[H" + _ERASE + "".join(lines[-size.lines // 2 :])

    def _line(self, text: Text) -> str:
        return self._ansi(text) + "\n"

    def _ansi(self, text: Text) -> str:
        with self._console.capture() as captured:
            self._console.print(text, end="")
        return captured.get()

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class _Above(io.TextIOBase):
    """stderr while rows are drawn: whole lines go above them."""

    def __init__(self, stream: TextIO, above: Callable[[Text], None]) -> None:
        self._stream = stream
        self._above = above
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._above(Text.from_ansi(line))
        return len(text)

    def flush(self) -> None:
        """Of a line that has not ended nothing is shown."""

    def finish(self) -> None:
        """Nothing more comes: a line that has not ended is one all the same."""
        if self._rest:
            self.write("\n")

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding
