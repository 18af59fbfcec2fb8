"""Text from outside: which characters could make a line say something else than what it holds."""

from __future__ import annotations

import codecs
import json
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# C0, DEL and C1 (with U+0085, which Python and YAML call a line break), the line separators U+2028 and U+2029, and
# what turns the direction of writing (Unicode TR9). Half surrogates are bytes that were no UTF-8.
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff{_BIDI}]")


def is_one_line(text: str) -> bool:
    """Whether `text` is one line for every reader: no control character, line separator or turn of direction."""
    return _CONTROL.search(text) is None


# Beside those, what is there and can't be seen (soft hyphen, zero width, tags), and half surrogates.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_JSON = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
# ECMA-48: what a terminal acts on. Strings (OSC, DCS, SOS, PM, APC) end with ST or, for OSC, BEL; a line ends them too.
_CSI = "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, moves, erasures
_SEQUENCE = re.compile(
    f"{_CSI}|(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?|\x1b[ -/]*[0-~]"
)
_COLOUR = re.compile("\x1b\\[[0-9;:]{0,60}m")
_RESET = "\x1b[0m"


def one_line(text: str) -> str:
    """`text` for a terminal, as one line: what a terminal acts on, and what can't be seen, is written out (`\\x1b`).

    Tabs stay. Nothing in it can begin a line of its own, colour what follows, or turn its direction.
    """
    return _HIDDEN.sub(lambda match: match[0] if match[0] == "\t" else _written_out(match[0]), text)


def paragraph(text: str) -> str:
    """`text` for a terminal, its lines kept: all but the first are set in, so that none can pass for one of ours."""
    first, *rest = text.split("\n")
    return "\n".join([one_line(first), *(f"  {one_line(line)}" for line in rest)])


def plain(text: str) -> str:
    """One line of a program's output without what a terminal acts on; what is left that can't be seen, written out."""
    return one_line(_SEQUENCE.sub("", text))


def coloured(text: str) -> str:
    """One line of a program's output with its colours, which end with it, and nothing else that a terminal acts on."""
    out, at, colours = [], 0, False
    for match in _COLOUR.finditer(text):
        out += [plain(text[at : match.start()]), match[0]]
        at, colours = match.end(), True
    out.append(plain(text[at:]))
    return "".join(out) + (_RESET if colours else "")


def parse_json(text: str | bytes) -> Any:
    """`json.loads` of what another program wrote. ValueError also where it is nested too deeply."""
    with _nesting():
        return json.loads(text)


def parse_json_values(text: str) -> Iterator[Any]:
    """The JSON values that stand in `text` one after the other. ValueError as of `parse_json`, at the first that isn't
    one."""
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        with _nesting():
            value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].lstrip()


def parse_toml(text: str) -> dict[str, Any]:
    """`tomllib.loads` of what another program wrote. ValueError also where it is nested too deeply."""
    with _nesting():
        return tomllib.loads(text)


@contextmanager
def _nesting() -> Iterator[None]:
    """Python's parsers go as deep as the interpreter's stack."""
    try:
        yield
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def lines_of(text: str) -> list[str]:
    """A program's output as lines, as a terminal would break them: at LF, and where CR begins the line again."""
    return re.split("\r\n|\n|\r", text) if text else []


def safe_json(document: str) -> str:
    """JSON text with the same values, and nothing in it that a terminal acts on."""
    return _JSON.sub(lambda match: "\\u007f" if match[0] == "\x7f" else json.dumps(match[0])[1:-1], document)


def _written_out(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that was no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii") if ord(character) > 0xFF else repr(character)[1:-1]


class OutputFilter:
    """A program's output as it streams to a terminal: lines and colours pass, and CR, which begins a line again."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> str:
        """What may be shown of it now. A sequence that isn't whole yet waits for the next."""
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        # The longest that anyone writes is a title; whatever is longer is shown as it is, harmless.
        start = max(text.rfind(start_code) for start_code in "\x1b\x9b\x9d\x90\x98\x9e\x9f")
        if start >= 0 and len(text) - start < _LONGEST and not _ended(text[start:]):
            text, self._rest = text[:start], text[start:]
        return "".join(part if part in ("\r", "\n") else coloured(part) for part in re.split("(\r|\n)", text))

    def end(self) -> str:
        """What is left when it has ended."""
        rest, self._rest = self._rest, ""
        return coloured(rest + self._decoder.decode(b"", True))


_LONGEST = 4096


def _ended(text: str) -> bool:
    """Whether the sequence at the beginning of `text` is whole."""
    string = text[0] in "\x9d\x90\x98\x9e\x9f" or text[1:2] in tuple("]PX^_")
    if string:
        return any(end in text[1:] for end in ("\x07", "\x1b\\", "\x9c", "\n"))
    if text[0] == "\x9b" or text[1:2] == "[":
        return re.match(f"{_CSI}|..[0-?]*[ -/]*[^ -?@-~]", text, re.DOTALL) is not None
    return _SEQUENCE.match(text) is not None
