"""A few seconds of what fuzz_image.py does for longer: damaged images give ImageError or are read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .fuzz_image import SEEDS, build, exercise

PATCHES = st.lists(st.tuples(st.integers(0, 4), st.binary(min_size=11, max_size=11)), max_size=3).map(
    lambda patches: b"".join(bytes([place]) + data for place, data in patches)
)


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_seeds_are_valid(seed: int) -> None:
    assert exercise(SEEDS[seed])


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, len(SEEDS) - 1), kind=st.sampled_from([2, 3]), patches=PATCHES)
def test_patched_images(seed: int, kind: int, patches: bytes) -> None:
    exercise(build(bytes([seed, kind]) + patches))


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from([0, 1]), seed=st.integers(0, 1), data=st.binary(max_size=600))
def test_random_logs_and_tuples(kind: int, seed: int, data: bytes) -> None:
    exercise(build(bytes([seed, kind]) + data))


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_images_cut_short_at_every_sector(seed: int) -> None:
    image = SEEDS[seed]
    for end in range(0, min(len(image), 150 * 512), 512):
        assert not exercise(image[:end]) or seed == len(SEEDS) - 1  # a bare file system may lose its free end
