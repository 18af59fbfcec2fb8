"""Text from outside: which characters could make a line say something else than what it holds."""

from __future__ import annotations

import re

# C0, DEL and C1 (with U+0085, which Python and YAML call a line break), the line separators U+2028 and U+2029, and
# what turns the direction of writing (Unicode TR9). Half surrogates are bytes that were no UTF-8.
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff{_BIDI}]")


def is_one_line(text: str) -> bool:
    """Whether `text` is one line for every reader: no control character, line separator or turn of direction."""
    return _CONTROL.search(text) is None
