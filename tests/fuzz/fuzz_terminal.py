"""Fuzzes the filter before a terminal: `python -m tests.fuzz.fuzz_terminal [-max_total_time=600] [corpus directory]`.

Whatever comes in, as text or as a program's output in pieces: what comes out holds nothing that a terminal acts on but
line breaks and colours, and says itself again when it is filtered again.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from orchestrator.suggest import shown
from orchestrator.text import OutputFilter, coloured, is_one_line, lines_of, one_line, paragraph, plain, safe_json

# Stated anew, and not the filter's own table: C0 without tab, DEL, C1, separators, direction, hidden, half surrogates.
ACTIVE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
COLOUR = re.compile("\x1b\\[[0-9;:]{0,60}m")


def exercise(data: bytes) -> None:
    """Filter bytes in every way; an AssertionError is a finding."""
    text = data.decode("utf-8", "surrogateescape")
    for made in (one_line(text), plain(text), shown(text, 10_000)):
        assert not ACTIVE.search(made), repr(made)
        assert "\n" not in made
    assert one_line(one_line(text)) == one_line(text)
    assert not ACTIVE.search(COLOUR.sub("", coloured(text)))
    first, *rest = paragraph(text).split("\n")
    assert not ACTIVE.search(first)
    assert all(line.startswith("  ") and not ACTIVE.search(line) for line in rest)
    assert not is_one_line(text) or len(text.splitlines()) <= 1
    for line in lines_of(text):
        assert "\n" not in line
        assert "\r" not in line
    document = safe_json(json.dumps({text: [text]}, ensure_ascii=False))
    assert json.loads(document) == {text: [text]}
    assert not ACTIVE.search(document)
    _in_pieces(data)


def _in_pieces(data: bytes) -> None:
    """The first byte says how long the pieces are."""
    step = 1 + (data[0] if data else 0) % 16
    output = OutputFilter()
    pieces = [output.feed(data[at : at + step]) for at in range(0, len(data), step)]
    made = "".join([*pieces, output.end()])
    assert not ACTIVE.search(re.sub("[\r\n]", "", COLOUR.sub("", made))), repr(made)


SEEDS = [
    b"\x05plain \x1b[1;31mred\x1b[0m\r\n", b"\x00\x1b]0;title\x07after\x1b]8;;http://x\x1b\\link",
    b"\x03\x1b[2J\x1b[H\x1bc",
    "\x01\x9b31m\x9d0;t\x9c\x90q\x9c".encode(), "\x02\u202ertl\u2028line\u0085nel\ufeff\U000e0041".encode(),
    b"\x04\xff\xfe\x9b31m\xc2", b"\x07\x1bP+q544e\x1b\\\x1b_apc\x1b\\\x1bXsos", b"\x09\x1b\x1b[31m[2J\x1b[\x1b[31m",
]  # fmt: skip


def main() -> None:
    """Run libFuzzer with what the command line says."""
    atheris: Any = importlib.import_module("atheris")  # only this needs it, and it carries no types
    with tempfile.TemporaryDirectory() as directory:
        for number, seed in enumerate(SEEDS):
            (Path(directory) / str(number)).write_bytes(seed)
        atheris.instrument_all()
        atheris.Setup([*sys.argv, directory], exercise)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
