"""Text of receipts for the page: each once, shown as what it is, and of a bounded length."""

from __future__ import annotations

from typing import Final

from orchestrator.text import one_line

LONGEST: Final = 400
MOST_CHARACTERS: Final = 12 << 20
"""Of all texts of a page."""
LEFT_OUT: Final = "(left out: the page would be too large)"


def shown(text: str, longest: int = LONGEST) -> str:
    """`text` as one line in which nothing is hidden or turns its direction; its end is cut off past `longest`."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return one_line(cut.replace("\n", " ").replace("\t", " "))


class Texts:
    """Texts by their number, so that what a thousand receipts say alike is on the page once."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self._numbers: dict[str, int] = {}
        self._left = MOST_CHARACTERS

    def number(self, text: str, longest: int = LONGEST) -> int:
        """The number of `text`, as `shown` has it."""
        line = shown(text, longest)
        if line not in self._numbers and self._left < len(line):
            line = LEFT_OUT
        if line not in self._numbers:
            self._numbers[line] = len(self.rows)
            self.rows.append(line)
            self._left -= len(line)
        return self._numbers[line]
