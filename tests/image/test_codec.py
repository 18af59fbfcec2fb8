"""Encoded values, against bytes worked out by hand and in round trips."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.image import codec
from orchestrator.image.codec import Decoder, Encoder
from orchestrator.image.errors import ImageError
from orchestrator.image.headers import INTEGER, STRING, TUPLE, encode_varint
from orchestrator.image.nodes import attributes_as_read
from orchestrator.image.written_tree import WrittenFile, WrittenTree, encode_children
from orchestrator.values import Value

NAMES = st.text(min_size=1, max_size=20).filter(lambda name: name not in ("children", ".", ".."))
TEXTS = st.text(min_size=1, max_size=300).filter(lambda text: text != "\0")
INTEGERS = st.integers(min_value=-(2**64) + 1, max_value=2**64 - 1)
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.none() | TEXTS | INTEGERS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8100"), (300, "822c"), (16384, "818000"), (2**32, "9080808000")],
)
def test_varint(number: int, encoded: str) -> None:
    assert encode_varint(number).hex() == encoded


@pytest.mark.parametrize(
    ("version", "kind", "length", "immediate", "encoded"),
    [
        (5, TUPLE, 0, True, "90"),
        (5, TUPLE, 7, True, "97"),
        (5, TUPLE, 8, True, "9808"),
        (5, STRING, 5, True, "c5"),
        (5, STRING, 1000, True, "cf68"),  # 1000 = 0b111_1101000: three bits in the first byte
        (5, STRING, 1024, True, "c88800"),
        (5, INTEGER, 1, True, "b1"),
        (5, 0, 9, False, "0809"),
        (4, TUPLE, 31, True, "df"),
        (4, TUPLE, 32, True, "e020"),
        (4, 0, 4095, True, "bf7f"),
        (4, 0, 4096, True, "a0a000"),
    ],
)
def test_header(version: int, kind: int, length: int, immediate: bool, encoded: str) -> None:
    encoder = Encoder(version)
    encoder.header(kind, length, immediate=immediate)
    assert encoder.data.hex() == encoded


def test_symbols_are_spelt_once_and_counted_with_tuples_and_vectors() -> None:
    encoder = Encoder(5)
    encoder.value({"a": {"b": "x"}, "c": ["y"], "d": {"b": "z", "c": "w"}})
    # Indices: 1 root, 2 a, 3 its tuple, 4 b, 5 c, 6 its vector, 7 d, 8 its tuple; then b and c by index.
    assert encoder.data.hex() == (
        "93" + "8161" + "91" + "8162" + "c178" + "8163" + "a1" + "c179" + "8164" + "92" + "04" + "c17a" + "05" + "c177"
    )


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_version_5_gives_values_back(attributes: dict[str, Value]) -> None:
    encoder = Encoder(5)
    encoder.value(attributes)
    decoder = Decoder()
    decoder.decode(bytes(encoder.data), 5)
    assert decoder.root == attributes


def as_version_4(value: Value) -> Value:
    """What version 4 can say: no integers, and lists as tuples keyed by position."""
    if isinstance(value, list):
        return {str(position): as_version_4(item) for position, item in enumerate(value)}
    if isinstance(value, dict):
        return {name: as_version_4(item) for name, item in value.items()}
    return str(value) if isinstance(value, int) else value


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_version_4_gives_values_back_in_its_own_terms(attributes: dict[str, Value]) -> None:
    encoder = Encoder(4)
    encoder.value(attributes)
    decoder = Decoder()
    decoder.decode(bytes(encoder.data), 4)
    assert decoder.root == as_version_4(attributes)


def test_version_4_lists_are_shown_as_lists() -> None:
    shown = attributes_as_read({"arguments": [], "names": ["a", "b"], "port": 80}, 4)
    assert shown == {"arguments": [], "names": ["a", "b"], "port": "80"}


@pytest.mark.parametrize("version", [4, 5])
def test_an_empty_string_takes_its_key_away(version: int) -> None:
    assert attributes_as_read({"a": "", "b": {"c": ""}}, version) == {"b": {}}


def test_an_empty_string_keeps_its_place_in_a_vector() -> None:
    assert attributes_as_read({"a": ["", "x"]}, 5) == {"a": ["", "x"]}


@given(st.binary(max_size=200), st.sampled_from([4, 5]))
def test_any_bytes_decode_or_fail_cleanly(data: bytes, version: int) -> None:
    decoder = Decoder()
    try:
        decoder.decode(data, version)
    except ImageError as error:
        assert error.message
    else:
        assert isinstance(decoder.root, dict)


def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(ImageError, match="cannot be written as UTF-8"):
        Encoder(5).value("\ud800")


def test_floats_are_refused() -> None:
    with pytest.raises(ImageError, match="type float"):
        Encoder(5).value(1.5)  # type: ignore[arg-type]


def decoded(data: bytes, version: int) -> str:
    decoder = Decoder()
    try:
        decoder.decode(data, version)
    except ImageError as error:
        return error.message
    return repr(decoder.root)  # which ends, even where a tuple holds itself


@given(
    st.sampled_from([4, 5]),
    st.lists(st.integers(0, 2**50), max_size=8),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2),
)
def test_nodes_of_files_are_decoded_as_any_other_value(
    version: int, sizes: list[int], changes: list[tuple[int, int]]
) -> None:
    tree = WrittenTree()
    for number, size in enumerate(sizes):
        tree.check_path(f"d/{number}")
        tree.put(f"d/{number}", WrittenFile(size, number * 512, ""))
    encoder = Encoder(version)
    encoder.tuple_header(1)
    encoder.symbol("children")
    encode_children(encoder, tree.root)
    for at, byte in changes:
        encoder.data[at % len(encoder.data)] = byte
    data = bytes(encoder.data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "file_node_pattern", lambda *_: re.compile(b"(?!)"))
        part_by_part = decoded(data, version)
    assert decoded(data, version) == part_by_part
    if not changes and sizes:
        assert str(sizes[0]) in part_by_part
