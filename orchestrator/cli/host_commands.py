"""Commands about this machine: doctor, clean."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.amounts import size
from orchestrator.cli.console import answer, answer_json, say
from orchestrator.cli.parameters import DIRECTORY, engine_option, json_failures, json_option
from orchestrator.errors import EngineError, ExitCode
from orchestrator.events import ignore

if TYPE_CHECKING:
    from orchestrator.engine.base import Leftover


@click.command(short_help="Check this machine and suggest fixes.")
@json_option
@json_failures
def doctor(as_json: bool) -> None:
    """Check engines, runtimes, tools, disk, proxies, certificates and QEMU on this machine, and suggest fixes."""
    from orchestrator.doctor import check_host

    report = check_host()
    checks = report.checks
    usable = all(check.status != "error" for check in checks)
    if as_json:
        engines = [{**asdict(info), "capabilities": asdict(can)} for info, can in report.engines]
        answer_json({"ok": usable, "checks": [asdict(check) for check in checks], "engines": engines})
    for check in () if as_json else checks:
        mark = {"ok": "ok", "absent": "-", "warning": "warning", "error": "ERROR"}[check.status]
        answer(f"{mark:<7} {check.name + ':':<22} {check.detail}")
        if check.remedy:
            answer(f"        {'':<22} {check.remedy}")
    if not usable:
        sys.exit(int(ExitCode.ENGINE))


@click.command(short_help="Remove what builds left in engines, and temporary files.")
@click.argument("directory", type=DIRECTORY, default=Path("target"), metavar="[DIR]")
@engine_option
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also remove bases made from Debian packages, and records of contexts that BuildKit keeps.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing.")
@json_option
@json_failures
def clean(directory: Path, engine: str, everything: bool, dry_run: bool, as_json: bool) -> None:
    """Remove what builds left behind: in engines, temporary files in DIR and of commands that were killed.

    Images and receipts stay, and what a running build uses.
    """
    from orchestrator.clean import clean_directory, clean_engine, clean_records, clean_temporary
    from orchestrator.engine.select import connect

    of_directory = clean_directory(directory, dry_run=dry_run)
    files = (*of_directory.removed, *clean_temporary(dry_run=dry_run).removed)
    if everything:
        files += clean_records(dry_run=dry_run).removed
    removed: list[Leftover] = []
    kept: list[tuple[Leftover, str]] = []
    for spec in ("docker", "podman") if engine == "auto" else (engine,):
        try:
            with closing(connect(spec, emit=ignore)) as connected:
                cleaned = clean_engine(connected, bases=everything, dry_run=dry_run)
        except EngineError as error:
            if engine != "auto":
                raise
            say(f"note: {spec}: {error.message}")
            continue
        removed += cleaned.removed
        kept += cleaned.kept
    _say_kept(of_directory.kept, kept)
    if as_json:
        rows = [asdict(leftover) for leftover in removed]
        answer_json({"dry_run": dry_run, "files": [str(path) for path in files], "engine": rows})
        return
    verb = "would remove" if dry_run else "removed"
    for path in files:
        answer(f"{verb} {path}")
    layers = [leftover for leftover in removed if leftover.kind == "image" and not leftover.name]
    for leftover in removed:
        if leftover not in layers:
            amount = f" ({size(leftover.size)})" if leftover.size else ""
            answer(f"{verb} {leftover.kind} {leftover.name or leftover.id}{amount}")
    if layers:
        answer(f"{verb} {len(layers)} cached layers")
    if not files and not removed:
        answer("nothing to remove")


def _say_kept(files: Iterable[Path], leftovers: Sequence[tuple[Leftover, str]]) -> None:
    """What stays, and why."""
    from orchestrator.clean import IN_USE

    for path in files:
        say(f"note: {path} stays: a running build uses it")
    others = [(leftover, reason) for leftover, reason in leftovers if reason != IN_USE]
    if used := sum(1 for _, reason in leftovers if reason == IN_USE):
        say(f"note: {used} containers and images stay: a running build may use them")
    for leftover, reason in others:
        say(f"warning: {leftover.kind} {leftover.name or leftover.id} stays: {reason}")


COMMANDS = (doctor, clean)
