"""ELF layouts: what the kernel's own loader does to each is found, and nothing is found where nothing is lost.

The table says of each layout how it went on the real kernel; `tests/elf/layouts/measure.py` asks one again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.elf.nanos import check_kernel_loading

from .layouts.making import attributes, link, loader_of, missing, own_files
from .layouts.table import LAYOUTS, SHARED, Layout

# What shows in no header: a file's own bytes, read by the program, are those that it wrote to memory; and a program
# that asks for an executable stack seldom uses it, so that `verify` only warns.
UNSEEN = {"reads its own file", "executable stack, code runs on it"}
# Every layout that is damaged, and the plain ones of each linker: the rest differs from them in nothing that is read.
TRIED = [layout for layout in LAYOUTS if layout.codes or layout.passthrough or "-O1" in layout.build]


def codes_of(layout: Layout, folder: Path, version: str = "0.1.51") -> tuple[str, ...]:
    link(layout, folder)
    files = own_files(layout, folder)
    return tuple(finding.code for finding in check_kernel_loading(loader_of(files), attributes(layout, version)))


@pytest.mark.slow
@pytest.mark.parametrize("layout", TRIED, ids=lambda layout: layout.name)
def test_what_the_kernel_damages_is_found(layout: Layout, tmp_path: Path) -> None:
    absent = missing(layout)
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")
    assert codes_of(layout, tmp_path) == layout.codes


def test_every_layout_that_failed_on_the_kernel_is_found() -> None:
    assert {layout.name for layout in LAYOUTS if not layout.runs and not layout.codes} == UNSEEN
    assert not [layout.name for layout in LAYOUTS if layout.runs and layout.codes]


@pytest.mark.parametrize(
    ("version", "codes"),
    [("0.1.47", ()), ("0.1.48", (SHARED,)), ("0.1.51", (SHARED,)), ("0.1.52", ()), ("local", (SHARED,))],
)
def test_versions(version: str, codes: tuple[str, ...], tmp_path: Path) -> None:
    """Since 0.1.48, mended in 0.1.52; a kernel that says nothing of its version counts as 0.1.51."""
    (padded,) = [layout for layout in LAYOUTS if layout.name == "lld, PIE"]
    assert not missing(padded), "the package lld-19 is missing"
    assert codes_of(padded, tmp_path, version) == codes
