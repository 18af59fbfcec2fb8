"""What the bytes of two versions say about why they differ."""

from __future__ import annotations

import gzip
import io
import random
import struct
from datetime import UTC, datetime

import pytest

from orchestrator.reproduce.causes import cause_of, cause_of_names, is_reordered

THEN, NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC), datetime(2026, 11, 26, 18, 52, tzinfo=UTC)
FIRST, SECOND = int(THEN.timestamp()), int(NOW.timestamp())


def program(text: str) -> bytes:
    """What a linker makes of it, in so far as it matters here: not text, with a hash over itself."""
    random.seed(text)
    return (
        b"\x7fELF\0\0\0\0"
        + text.encode()
        + b"\0\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"
        + random.randbytes(20)
        + b"\0" * 64
    )


def zipped(text: str, when: int) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=when) as stream:
        stream.write(text.encode())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("built on Mar  1 2026 12:00:00", "built on Nov 26 2026 18:52:42"),
        ("Sun Mar  1 12:00:00 UTC 2026", "Thu Nov 26 18:52:42 UTC 2026"),
        ("date=2026-03-01T12:00:00Z end", "date=2026-11-26T18:52:42Z end"),
        ("compiled 12:00:01", "compiled 18:52:42"),
        (f"epoch {FIRST};", f"epoch {SECOND};"),
        (f"nanoseconds {FIRST}123456789", f"nanoseconds {SECOND}987654321"),
        ("Sun, 01 Mar 2026 12:00:00 GMT", "Thu, 26 Nov 2026 18:52:42 GMT"),
    ],
)
@pytest.mark.parametrize("kind", ["text", "program"])
def test_a_time_stamp(one: str, other: str, kind: str) -> None:
    make = str.encode if kind == "text" else program
    cause = cause_of(make(one), make(other), (THEN, NOW))
    assert cause is not None
    assert cause.kind == "time stamp"
    assert one.rsplit(maxsplit=1)[-1] in cause.evidence
    assert other.rsplit(maxsplit=1)[-1] in cause.evidence


@pytest.mark.parametrize("form", ["<I", ">I", "<Q"])
def test_a_time_stamp_in_bytes(form: str) -> None:
    one, other = (b"\0\x01head" + struct.pack(form, when) + b"tail" * 9 for when in (FIRST, SECOND))
    cause = cause_of(one, other, (THEN, NOW))
    assert cause is not None
    assert cause.kind == "time stamp"
    assert "2026-03-01 12:00:00 / 2026-11-26 18:52:00" in cause.evidence


def test_a_time_stamp_in_what_gzip_wrote_or_read() -> None:
    for one, other in (
        (zipped("the same", FIRST), zipped("the same", SECOND)),
        (zipped("at 2026-03-01", 0), zipped("at 2026-11-26", 0)),
    ):
        cause = cause_of(one, other, (THEN, NOW))
        assert cause is not None
        assert cause.kind == "time stamp"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("panicked at /tmp/tmp.8dKq1/src/main.rs:3", "panicked at /tmp/tmp.Zp04x/src/main.rs:3"),
        ("built in /build/target", "built in /build.again/target"),
    ],
)
def test_a_build_path(one: str, other: str) -> None:
    for made in (str.encode, program):
        cause = cause_of(made(one), made(other), (THEN, NOW))
        assert cause is not None
        assert cause.kind == "build path"
        assert one in cause.evidence


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("warning: unused variable 'x'", "warning: unused variable \u2018x\u2019"),
        ("load 1.5 of 2.25", "load 1,5 of 2,25"),
        ("total 1234567", "total 1,234,567"),
        ("Gr\u00f6\u00dfe", "Gr\\303\\266\\303\\237e"),
        ("released 1970-01-01 00:00:00 UTC", "released 1970-01-01 13:45:00 UTC"),  # another zone
    ],
)
def test_a_locale(one: str, other: str) -> None:
    cause = cause_of(one.encode(), other.encode(), (THEN, NOW))
    assert cause is not None
    assert cause.kind == "locale"


def test_lines_that_two_locales_sort_in_two_ways() -> None:
    by_bytes = b"B\nD\na\nc\n"
    cause = cause_of(by_bytes, b"a\nB\nc\nD\n", (THEN, NOW))
    assert cause is not None
    assert cause.kind == "locale"
    assert cause_of(by_bytes, b"D\na\nc\nB\n", (THEN, NOW)) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("seed 3b1f", "seed 90cc"),
        ("id 1234567890", "id 9876543210"),  # as long as an epoch, and of no time near
        ("counted 1 23", "counted 12 3"),
    ],
)
def test_what_bytes_do_not_say(one: str, other: str) -> None:
    for made in (str.encode, program):
        assert cause_of(made(one), made(other), (THEN, NOW)) is None


def test_another_order_of_the_same() -> None:
    names = [f"name of column {number}" for number in range(20)]
    shuffled = names[7:] + names[:7]
    assert is_reordered("\n".join(names).encode(), "\n".join(shuffled).encode())
    assert is_reordered(b"{'b': 1, 'a': 2, 'c': 3}", b"{'a': 2, 'c': 3, 'b': 1}")
    assert is_reordered(program("\0".join(names)), program("\0".join(shuffled)))
    assert not is_reordered(b"seed 3b1f of many words", b"seed 90cc of many words")
    assert not is_reordered(program("one text"), program("two text"))


def test_names() -> None:
    kinds = [
        cause.kind if (cause := cause_of_names([one], [other], (THEN, NOW))) else None
        for one, other in (("log-2026-03-01.txt", "log-2026-11-26.txt"), ("a8f3.o", "77c0.o"))
    ]
    assert kinds == ["time stamp", "random numbers"]
    assert cause_of_names([], ["made.o"], (THEN, NOW)) is None
