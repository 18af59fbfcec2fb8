"""Secrets in what a build prints: their exact values become `***` before anybody sees them."""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"
MIN_LINE = 8
"""A line of a secret of several lines is hidden on its own from this length on: a lone `}` is no secret."""


class Mask:
    """Hides the values of build secrets. `reach` is how many characters the longest of them has.

    Output comes line by line, so a secret of several lines (a key file) is also hidden line by line.
    """

    def __init__(self, values: Iterable[bytes] = ()) -> None:
        words: set[str] = set()
        for value in values:
            text = value.decode("utf-8", errors="replace").strip("\r\n")
            lines = text.splitlines()
            words |= {text, *(line for line in lines if len(line) >= MIN_LINE)} if len(lines) > 1 else {text}
        words -= {""}
        # The longest first: a secret may be part of another.
        ordered = sorted(words, key=len, reverse=True)
        self.reach = len(ordered[0]) if ordered else 0
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """`text` with every secret's value replaced."""
        return self._pattern.sub(HIDDEN, text) if self._pattern is not None else text
