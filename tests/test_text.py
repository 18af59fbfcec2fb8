"""The one filter between what comes from outside and a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.text import (
    OutputFilter,
    coloured,
    is_one_line,
    lines_of,
    one_line,
    paragraph,
    parse_json,
    parse_json_values,
    parse_toml,
    plain,
    safe_json,
)

# What a terminal acts on, or a reader doesn't see: C0, DEL, C1, separators, turns of direction, zero width, tags.
ACTIVE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200b-\u200f\udc80-\udcff\U000e0001]"
)
COLOUR = re.compile("\x1b\\[[0-9;:]*m")

SPOOFS = [
    ("\x1b]0;PWNED\x07red", r"\x1b]0;PWNED\x07red", "red"),
    ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", r"\x1b]8;;http://x\x1b\link\x1b]8;;\x1b" + "\\", "link"),
    ("a\x1b[2J\x1b[Hb", r"a\x1b[2J\x1b[Hb", "ab"),
    ("\x9b31mx\x9d0;t\x9cy", r"\x9b31mx\x9d0;t\x9cy", "xy"),
    ("\x1bP+q544e\x1b\\dcs", r"\x1bP+q544e\x1b\dcs", "dcs"),
    ("\x1bc", r"\x1bc", ""),
    ("ok\rFAIL", r"ok\rFAIL", r"ok\rFAIL"),
    ("rtl\u202etxt.exe", r"rtl\u202etxt.exe", r"rtl\u202etxt.exe"),
    ("a\u2028b\x85c", r"a\u2028b\x85c", r"a\u2028b\x85c"),
    ("\udcff\udc9b31m", r"\xff\x9b31m", r"\xff\x9b31m"),
    ("tag\U000e0041", r"tag\U000e0041", r"tag\U000e0041"),
    ("tab\tand Grüße 日本 ✓", "tab\tand Grüße 日本 ✓", "tab\tand Grüße 日本 ✓"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "written", "left"), SPOOFS)
def test_what_a_terminal_acts_on(text: str, written: str, left: str) -> None:
    assert one_line(text) == written
    assert plain(text) == left


def test_colours_stay_and_end_with_their_line() -> None:
    assert coloured("\x1b[1;31merror\x1b[0m: x") == "\x1b[1;31merror\x1b[0m: x\x1b[0m"
    assert coloured("\x1b[31mred\x1b[2K\x1b]0;t\x07 on") == "\x1b[31mred on\x1b[0m"
    assert coloured("plain") == "plain"


def test_further_lines_can_not_pass_for_ours() -> None:
    assert paragraph("one\nok   Boot code\n\x1b[31mtwo") == "one\n  ok   Boot code\n  \\x1b[31mtwo"
    assert lines_of("10%\r20%\r\nnext\n") == ["10%", "20%", "next", ""]


TEXT = st.text(st.one_of(st.characters(), st.sampled_from("\x1b\x9b\x9d\x90\x07\x9c\\[]0;mKH\r\n\u202e\u2028\udc9b")))


@settings(max_examples=400, deadline=None)
@given(TEXT)
@example("\x1b\x1b[31m[2J")
@example("\x1b[\x1b[31m2J")
@example("\x1b]\x1b[31m\x07")
def test_nothing_active_passes(text: str) -> None:
    assert not ACTIVE.search(one_line(text))
    assert not ACTIVE.search(plain(text))
    assert not ACTIVE.search(COLOUR.sub("", coloured(text)))
    assert all(not ACTIVE.search(line) for line in paragraph(text).split("\n"))
    assert one_line(one_line(text)) == one_line(text)
    if is_one_line(text):
        assert "\n" not in text
        assert len(text.splitlines()) <= 1


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.one_of(TEXT.map(lambda text: text.encode(errors="surrogatepass")), st.binary(max_size=20)), max_size=6)
)
@example([b"\x1b", b"]0;title", b"\x07after"])
@example([b"\x1b[", b"2J"])
def test_a_stream_in_pieces(pieces: list[bytes]) -> None:
    output = OutputFilter()
    shown = "".join([*(output.feed(piece) for piece in pieces), output.end()])
    for part in re.split("[\r\n]", COLOUR.sub("", shown)):
        assert not ACTIVE.search(part), repr(part)


def test_a_stream_keeps_its_text_and_colours() -> None:
    output = OutputFilter()
    assert output.feed(b"a\x1b[3") == "a"
    assert output.feed(b"1mred\x1b[0m\r\nGr\xc3") == "\x1b[31mred\x1b[0m\x1b[0m\r\nGr"
    assert output.feed(b"\xbc\x1b]0;never ends") == "ü"
    assert output.feed(b"x" * 10_000).endswith("x" * 100) or output.end() == ""


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(TEXT, TEXT, max_size=3))
def test_json_says_the_same(document: dict[str, str]) -> None:
    text = safe_json(json.dumps(document, ensure_ascii=False))
    assert json.loads(text) == document
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u202e]", text)


def test_json_values_one_after_the_other() -> None:
    assert list(parse_json_values(' {"a": 1}[2]\r\n3 ')) == [{"a": 1}, [2], 3]
    values = parse_json_values('{"a": 1}{"b"')
    assert next(values) == {"a": 1}
    with pytest.raises(ValueError, match="delimiter"):
        next(values)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (parse_json, "[" * 100_000),
        (lambda text: list(parse_json_values(text)), '{"a": ' * 100_000),
        (parse_toml, "a = " + "[" * 100_000),
    ],
)
def test_nesting_is_no_way_to_end_us(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        read(text)
