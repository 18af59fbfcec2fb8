"""Secrets in what a build prints: their values, as they are and as tools encode them, become `***`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

HIDDEN = "***"
MIN_LINE = 8
"""A line of a secret of several lines is hidden on its own from this length on: a lone `}` is no secret."""
MIN_ENCODED = 6
"""Encoded forms of this many characters are hidden, no shorter ones: they would be found in anything."""
MAX_ENCODED = 16 * 1024
"""Bytes of the longest secret whose encoded forms are looked for: what is longer is data, in many lines."""
_ROWS = (60, 64, 76)
"""Characters in a row of `xxd -p`, of openssl and of base64, which break what they write."""


class Mask:
    """Hides the values of build secrets. `reach` is how many characters the longest of their forms has.

    Output comes line by line, so a secret of several lines (a key file) is also hidden line by line. Base64 is found
    wherever the value begins in what was encoded; what its first and last two characters there share with their
    neighbours stays.
    """

    def __init__(self, values: Iterable[bytes] = ()) -> None:
        words: set[str] = set()
        for value in values:
            data = value.strip(b"\r\n")
            words |= {data.decode("utf-8", errors="replace"), *_encoded(data)}
            lines = data.splitlines()
            for line in lines if len(lines) > 1 else ():
                if len(line.decode("utf-8", errors="replace")) >= MIN_LINE:
                    words |= {line.decode("utf-8", errors="replace"), *_encoded(line)}
        words -= {""}
        # The longest first: a secret may be part of another.
        self._words = sorted(words, key=lambda word: (-len(word), word))
        self.reach = len(self._words[0]) if self._words else 0

    def __call__(self, text: str) -> str:
        """`text` with every secret's value replaced."""
        for word in self._words:
            if word in text:
                text = text.replace(word, HIDDEN)
        return text


def _encoded(data: bytes) -> Iterator[str]:
    """What base64, percent and hexadecimal encoding, and JSON make of `data`, whole and in rows."""
    if len(data) > MAX_ENCODED:
        return
    forms = {data.hex(), data.hex().upper(), *_base64(data), *_percent(data)}
    forms.add(json.dumps(data.decode("utf-8", errors="replace"))[1:-1])
    for form in forms:
        for width in (len(form), *_ROWS):
            rows = [form[start : start + width] for start in range(0, len(form), max(width, 1))]
            yield from (row for row in rows if len(row) >= MIN_ENCODED)


def _base64(data: bytes) -> Iterator[str]:
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(before) + data).decode()
            # Only characters that hold bits of the value alone: 6 bits each.
            yield text[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]


def _percent(data: bytes) -> Iterator[str]:
    for text in (quote(data), quote(data, safe=""), quote_plus(data), "".join(f"%{byte:02X}" for byte in data)):
        yield text
        # The digits may be small letters; the rest is as it is.
        yield "%".join(
            part if not number else part[:2].lower() + part[2:] for number, part in enumerate(text.split("%"))
        )
