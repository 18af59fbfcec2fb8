"""What goes with what: GPU families, GSP firmware, drivers, CUDA, PTX. Each table says where its figures are from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestrator.families import Capability

Version = tuple[int, ...]
"""A dotted version as numbers, compared part by part."""


def firmware_files(card: Capability, branch: int | None) -> tuple[str, ...]:
    """Names of the GSP firmware of a card, any of which serves; of an unknown branch, that of today's.

    Before 525 one file served all; 525 brought gsp_tu10x and gsp_ad10x (its release notes; which of the two GA10x and
    GH100 load there is not said, so either will do); from 530 on it is gsp_tu10x for TU10x, TU11x and GA100, and
    gsp_ga10x for all later ones (open kernel modules, their packages' file lists).
    """
    old = card <= (8, 0)
    if branch is not None and branch < 525:
        return ("gsp.bin",)
    if branch is not None and branch < 530:
        return (
            ("gsp_tu10x.bin",) if old else ("gsp_ad10x.bin",) if card == (8, 9) else ("gsp_ad10x.bin", "gsp_tu10x.bin")
        )
    return ("gsp_tu10x.bin",) if old else ("gsp_ga10x.bin",)


# CUDA Toolkit Release Notes, table "CUDA Toolkit and Corresponding Driver Versions": the CUDA that each branch came
# with, which is the newest whose PTX its compiler takes.
DRIVER_CUDA: Final[Mapping[int, Version]] = {
    450: (11, 0), 455: (11, 1), 460: (11, 2), 465: (11, 3), 470: (11, 4), 495: (11, 5), 510: (11, 6), 515: (11, 7),
    520: (11, 8), 525: (12, 0), 530: (12, 1), 535: (12, 2), 545: (12, 3), 550: (12, 4), 555: (12, 5), 560: (12, 6),
    565: (12, 7), 570: (12, 8), 575: (12, 9), 580: (13, 0), 590: (13, 1),
}  # fmt: skip

# CUDA Compatibility, "Minor Version Compatibility": the oldest driver for any runtime of a major version.
MINIMUM_DRIVER: Final[Mapping[int, int]] = {11: 450, 12: 525, 13: 580}

# PTX ISA, "Release Notes": the CUDA that brought each version of PTX.
PTX_CUDA: Final[Mapping[tuple[int, int], Version]] = {
    (7, 0): (11, 0), (7, 1): (11, 1), (7, 2): (11, 2), (7, 3): (11, 3), (7, 4): (11, 4), (7, 5): (11, 5),
    (7, 6): (11, 6), (7, 7): (11, 7), (7, 8): (11, 8), (8, 0): (12, 0), (8, 1): (12, 1), (8, 2): (12, 2),
    (8, 3): (12, 3), (8, 4): (12, 4), (8, 5): (12, 5), (8, 6): (12, 7), (8, 7): (12, 8), (8, 8): (12, 9),
    (9, 0): (13, 0), (9, 1): (13, 1),
}  # fmt: skip

BOOT_OVERHEAD: Final = 512 * 1024
"""Bytes of the boot file system that its log takes, so that no file can."""


def driver_branch(version: str) -> int | None:
    """The branch of a driver's version, as 535 of 535.113.01; None for what is no version."""
    first = version.partition(".")[0]
    return int(first) if first.isascii() and first.isdigit() and len(first) <= 4 else None


def driver_cuda(branch: int) -> Version:
    """The newest CUDA whose PTX the branch's compiler takes; of a branch not listed, that of the one before it."""
    known = [number for number in DRIVER_CUDA if number <= branch]
    return DRIVER_CUDA[max(known)] if known else (0, 0)


def ptx_cuda(version: tuple[int, int]) -> Version:
    """The CUDA that a PTX version came with; of one newer than the table, a CUDA newer than all."""
    if version in PTX_CUDA:
        return PTX_CUDA[version]
    older = [number for number in PTX_CUDA if number <= version]
    if not older:
        return (0, 0)
    return (99, 0) if version > max(PTX_CUDA) else PTX_CUDA[max(older)]


def dotted(version: Version) -> str:
    """As people write it."""
    return ".".join(str(part) for part in version)
