"""A few seconds of what fuzz_archives.py and fuzz_terminal.py do for longer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .fuzz_archives import READERS, SEEDS, build, exercise
from .fuzz_terminal import SEEDS as TEXTS
from .fuzz_terminal import exercise as exercise_text


@pytest.mark.parametrize(("reader", "seed"), [(0, 0), (0, 1), (0, 2), (0, 5), (2, 4), (3, 0), (3, 1)])
def test_seeds_are_taken(reader: int, seed: int) -> None:
    assert exercise(reader, SEEDS[seed])


def test_found_by_the_fuzzer() -> None:
    exercise(*build(bytes.fromhex("03000303000031")))  # an engine's tar that ends within a member


@settings(max_examples=250, deadline=None)
@given(
    reader=st.integers(0, READERS - 1), packer=st.integers(0, 255), seed=st.integers(0, len(SEEDS) - 1),
    patches=st.lists(st.tuples(st.integers(0, 30), st.binary(min_size=3, max_size=35)), max_size=4),
)  # fmt: skip
def test_patched_archives(reader: int, packer: int, seed: int, patches: list[tuple[int, bytes]]) -> None:
    rest = b"".join(bytes([block]) + data for block, data in patches)
    exercise(*build(bytes([reader, packer, seed]) + rest))


@pytest.mark.parametrize("text", TEXTS)
def test_texts(text: bytes) -> None:
    exercise_text(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(TEXTS), st.binary(max_size=12)), max_size=6))
def test_texts_together(texts: list[bytes]) -> None:
    exercise_text(b"".join(texts))
