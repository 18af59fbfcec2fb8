"""Removing what builds left: containers and images in an engine, temporary files in an output directory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from orchestrator.engine.base import Engine, Leftover
from orchestrator.engine.running import killed
from orchestrator.engine.sync_records import forget_all
from orchestrator.errors import EngineError
from orchestrator.files import PARTIAL_PREFIX, PARTIAL_SUFFIX, remove_unused
from orchestrator.label import BASE, CACHE
from orchestrator.temporary import sweep

IN_USE = "a running build may use it"
_RESULTS = (".rejected", ".rebuilt")


@dataclass(frozen=True, kw_only=True)
class CleanReport:
    """What was removed from an engine (or with a dry run would be), and what could not be, with the reason."""

    removed: tuple[Leftover, ...]
    kept: tuple[tuple[Leftover, str], ...] = ()


def clean_engine(engine: Engine, *, bases: bool, dry_run: bool) -> CleanReport:
    """Remove containers, then images, the ones that others are made of last. `bases` takes bases made here too.

    What is of a build that runs stays, and with it the images that it may begin with.
    """
    running = engine.in_use()
    leftovers = sorted(engine.leftovers(), key=lambda leftover: leftover.kind != "container")
    kept = {leftover: IN_USE for leftover in leftovers if running and _may_be_used(leftover, running)}
    waiting = [leftover for leftover in leftovers if leftover not in kept and (bases or not _is_base(leftover))]
    if dry_run:
        return CleanReport(removed=tuple(waiting), kept=tuple(kept.items()))
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
    engine.end_killed()
    return CleanReport(removed=tuple(removed), kept=tuple((kept | refused).items()))


def reap_engine(engine: Engine) -> CleanReport:
    """Remove what this machine's killed builds left in an engine, by their ids: nothing of other machines' builds.

    The layers that an engine keeps stay, and those that another build is made of by now. For who runs unasked, where
    `clean_engine` is a person's wish.
    """
    ids = {build.build_id for _, build in killed()} - {BASE, CACHE}
    engine.end_killed()  # first: their working containers hold their layers
    waiting = [leftover for leftover in engine.leftovers() if leftover.build_id in ids] if ids else []
    removed: list[Leftover] = []
    refused: dict[Leftover, str] = {}
    for leftover in sorted(waiting, key=lambda leftover: leftover.kind != "container"):
        try:
            engine.remove(leftover)
        except EngineError as error:
            refused[leftover] = error.message
        else:
            removed.append(leftover)
    return CleanReport(removed=tuple(removed), kept=tuple(refused.items()))


def _may_be_used(leftover: Leftover, running: Collection[str]) -> bool:
    """Whether one of these builds made it, or may take it from the cache at any moment."""
    return leftover.build_id in running or (leftover.kind == "image" and leftover.build_id in (BASE, CACHE))


def _is_base(leftover: Leftover) -> bool:
    """Whether the next build would find it: an image that was made again has lost its name to the new one."""
    return leftover.kind == "image" and leftover.build_id == BASE and leftover.name != ""


@dataclass(frozen=True, kw_only=True)
class CleanedFiles:
    """Files and directories that were removed (or with a dry run would be), and those that are in use."""

    removed: tuple[Path, ...]
    kept: tuple[Path, ...] = ()


def clean_directory(directory: Path, *, dry_run: bool) -> CleanedFiles:
    """Remove what killed builds left under temporary names. Images and receipts stay, and what a running one uses."""
    removed: list[Path] = []
    kept: list[Path] = []
    for lock in directory.glob(f"{PARTIAL_PREFIX}*.lock"):
        name = lock.name.removeprefix(PARTIAL_PREFIX).removesuffix(".lock")
        of_build = [lock, *(path for ending in _RESULTS if (path := directory / f"{name}.img{ending}").exists())]
        (removed if remove_unused(lock, dry_run=dry_run) else kept).extend(of_build)
    patterns = (f"{PARTIAL_PREFIX}*{PARTIAL_SUFFIX}", *(f"*.img{ending}" for ending in _RESULTS))
    for path in (path for pattern in patterns for path in directory.glob(pattern)):
        if path not in kept:
            (removed if remove_unused(path, dry_run=dry_run) else kept).append(path)
    return CleanedFiles(removed=tuple(sorted({*removed})), kept=tuple(sorted(kept)))


def clean_records(*, dry_run: bool) -> CleanedFiles:
    """Forget what BuildKit daemons keep of build contexts: the next build brings its own as the first one did."""
    return CleanedFiles(removed=tuple(forget_all(dry_run=dry_run)))


def clean_temporary(*, dry_run: bool) -> CleanedFiles:
    """Remove the temporary directories of commands that were killed, and end what these started."""
    return CleanedFiles(removed=tuple(sweep(dry_run=dry_run)))
