"""Removing what builds left: containers and images in an engine, temporary files in an output directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.engine.base import Engine, Leftover
from orchestrator.files import PARTIAL_PREFIX, PARTIAL_SUFFIX

BASES = "localhost/orchestrator/base"


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What was (or with a dry run would be) removed."""

    leftovers: tuple[Leftover, ...]
    files: tuple[Path, ...]


def clean_engine(engine: Engine, *, bases: bool, dry_run: bool) -> tuple[Leftover, ...]:
    """Remove containers first, then the images they were made of. `bases` takes bootstrapped bases too."""
    found = sorted(engine.leftovers(), key=lambda leftover: leftover.kind != "container")
    chosen = tuple(leftover for leftover in found if bases or not leftover.name.startswith(BASES))
    for leftover in () if dry_run else chosen:
        engine.remove(leftover)
    return chosen


def clean_directory(directory: Path, *, dry_run: bool) -> tuple[Path, ...]:
    """Remove what killed builds left under temporary names. Images and receipts stay."""
    patterns = (f"{PARTIAL_PREFIX}*{PARTIAL_SUFFIX}", f"{PARTIAL_PREFIX}*.lock", "*.img.rejected")
    found = tuple(sorted(path for pattern in patterns for path in directory.glob(pattern)))
    for path in () if dry_run else found:
        path.unlink(missing_ok=True)
    return found
