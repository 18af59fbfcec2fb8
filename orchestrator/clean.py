"""Removing what builds left: containers and images in an engine, temporary files in an output directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.engine.base import Engine, Leftover
from orchestrator.errors import EngineError
from orchestrator.files import PARTIAL_PREFIX, PARTIAL_SUFFIX
from orchestrator.label import BASE


@dataclass(frozen=True, kw_only=True)
class CleanReport:
    """What was removed from an engine (or with a dry run would be), and what could not be, with the reason."""

    removed: tuple[Leftover, ...]
    kept: tuple[tuple[Leftover, str], ...] = ()


def clean_engine(engine: Engine, *, bases: bool, dry_run: bool) -> CleanReport:
    """Remove containers, then images, the ones that others are made of last. `bases` takes bases made here too."""
    leftovers = sorted(engine.leftovers(), key=lambda leftover: leftover.kind != "container")
    waiting = [leftover for leftover in leftovers if bases or not _is_base(leftover)]
    if dry_run:
        return CleanReport(removed=tuple(waiting))
    removed: list[Leftover] = []
    refused: dict[Leftover, str] = {}
    while waiting:
        refused.clear()
        for leftover in waiting:
            try:
                engine.remove(leftover)
            except EngineError as error:
                refused[leftover] = error.message
            else:
                removed.append(leftover)
        if len(refused) == len(waiting):
            break  # what is left is in use
        waiting = list(refused)
    return CleanReport(removed=tuple(removed), kept=tuple(refused.items()))


def _is_base(leftover: Leftover) -> bool:
    """Whether the next build would find it: an image that was made again has lost its name to the new one."""
    return leftover.kind == "image" and leftover.build_id == BASE and leftover.name != ""


def clean_directory(directory: Path, *, dry_run: bool) -> tuple[Path, ...]:
    """Remove what killed builds left under temporary names. Images and receipts stay."""
    patterns = (f"{PARTIAL_PREFIX}*{PARTIAL_SUFFIX}", f"{PARTIAL_PREFIX}*.lock", "*.img.rejected", "*.img.rebuilt")
    partial_files = tuple(sorted(path for pattern in patterns for path in directory.glob(pattern)))
    for path in () if dry_run else partial_files:
        path.unlink(missing_ok=True)
    return partial_files
