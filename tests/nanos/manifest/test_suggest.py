"""The nearest right name."""

from __future__ import annotations

import pytest

from orchestrator.nanos.manifest.schema import CONFIG, KERNEL_KEYS
from orchestrator.suggest import did_you_mean, nearest, shown


@pytest.mark.parametrize(
    ("word", "right"),
    [("Programm", "Program"), ("progam", "Program"), ("Mount", "Mounts"), ("kernal", "Kernel"), ("MAPDIRS", "MapDirs")],
)
def test_nearest(word: str, right: str) -> None:
    assert nearest(word, CONFIG) == right


def test_nothing_near() -> None:
    assert nearest("zzz", CONFIG) is None
    assert nearest("", CONFIG) is None
    assert nearest("x" * 10_000, CONFIG) is None


def test_the_guides_own_typo() -> None:
    assert nearest("radonly_rootfs", KERNEL_KEYS) == "readonly_rootfs"


def test_remedy_lists_the_names_when_none_is_near() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == "known here: a, b"
    assert did_you_mean("zzz", CONFIG) == ""


def test_shown_is_one_short_line() -> None:
    assert shown("a\nb\x1b[0m") == "a\\nb\\x1b[0m"
    assert len(shown("x" * 500)) == 60
