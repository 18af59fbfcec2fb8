"""Commands about inputs: lock, cache, bundle."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.amounts import size
from orchestrator.cli.console import answer, answer_json, say, say_warnings
from orchestrator.cli.parameters import (
    PATH,
    PROJECT,
    engine_option,
    json_failures,
    json_option,
    progress_option,
    project_argument,
    trust_option,
)
from orchestrator.errors import UsageError
from orchestrator.resolved import is_input_name

if TYPE_CHECKING:
    from orchestrator.lock.resolve import LockUpdate

ALL = "*"
SHOWN_CHANGES = 40


@click.command()
@click.argument("project", type=PROJECT, metavar="PROJECT.YAML", required=False)
@click.option(
    "--upgrade",
    is_flag=False,
    flag_value=ALL,
    metavar="[NAME]",
    help="Re-resolve every input, or only NAME: gevulot, base, nanos, ops …",
)
@click.option("--diff", is_flag=True, help="Show what has changed upstream; write nothing.")
@engine_option
@progress_option
@json_option
@json_failures
def lock(project: Path | None, upgrade: str | None, diff: bool, engine: str, progress: str, as_json: bool) -> None:
    """Pin every outside input in project.lock.

    Each is pinned by commit, digest or sha256, in the file beside PROJECT.YAML.
    """
    from orchestrator.build.check import check_project
    from orchestrator.build.packages import package_lister
    from orchestrator.cli.progress import make_progress
    from orchestrator.engine.select import connect
    from orchestrator.inputs.resolve import ResolveOptions
    from orchestrator.lock.resolve import known_names, update_lock

    # NAME is one of a few words, and PROJECT.YAML is needed: in `lock --upgrade project.yaml` it is the project.
    if project is None and upgrade is not None and upgrade != ALL and not is_input_name(upgrade):
        project, upgrade = PROJECT.convert(upgrade, None, None), ALL
    if project is None:
        raise UsageError("give the project", remedy="orchestrator lock PROJECT.YAML [--upgrade [NAME]]")
    checked = check_project(project)
    say_warnings(checked.findings)
    one = frozenset([upgrade]) if upgrade not in (None, ALL) else frozenset[str]()
    every = known_names(checked.loaded, one)
    names = every if (diff or upgrade == ALL) and not one else one
    with make_progress(progress) as shown, closing(connect(engine, emit=shown.emit)) as connected:
        options = ResolveOptions(lister=package_lister(checked.loaded, connected))
        updated = update_lock(checked.loaded, connected, shown.emit, upgrade=names, write=not diff, options=options)
    if as_json:
        rows = [asdict(change) for change in updated.changes]
        first = [
            {"input": resolved.name, "source": resolved.source, "ground": resolved.ground} for resolved in updated.first
        ]
        answer_json({"path": str(updated.path), "written": not diff, "changes": rows, "first": first})
        return
    _say_changes(updated, diff)


def _say_changes(updated: LockUpdate, diff: bool) -> None:
    tell = answer if diff else say
    if updated.before is None and not diff:
        say(f"wrote {updated.path}; keep it with the project")
    else:
        for change in updated.changes[:SHOWN_CHANGES]:
            tell(str(change))
        if len(updated.changes) > SHOWN_CHANGES:
            say(f"… and {len(updated.changes) - SHOWN_CHANGES} more (--json has all)")
    _say_grounds(updated, diff)
    if diff:
        say("nothing was written; run `lock --upgrade` to accept these changes" if updated.changes else "nothing moved")
        return
    if updated.before is not None and not updated.changes:
        say("nothing changed")
    answer(str(updated.path))


def _say_grounds(updated: LockUpdate, diff: bool) -> None:
    """What nothing pinned before, and why it was trusted."""
    from orchestrator.inputs.grounds import WORDS

    rows = [resolved for resolved in updated.first if resolved.ground]
    if rows:
        say("--upgrade would trust:" if diff else "trusted on first use, and pinned from now on:")
    for resolved in rows:
        if resolved.ground:
            say(f"  {resolved.name:<13} {resolved.source}: {WORDS[resolved.ground]}")


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


@click.group()
def cache() -> None:
    """List, shrink, export or import the cache."""


@cache.command(name="ls")
@json_option
@json_failures
def cache_ls(as_json: bool) -> None:
    """List every entry: size, last use and contents."""
    from orchestrator.inputs.gc import items
    from orchestrator.inputs.store import Store

    store = Store()
    by_size = sorted(items(store), key=lambda item: (-item.size, item.key))
    if as_json:
        answer_json({"root": str(store.root), "items": [asdict(item) for item in by_size]})
        return
    for item in by_size:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.used))
        answer(f"{size(item.size):>10}  {used}  {item.key}  {item.source}".rstrip())
    answer(f"{size(sum(item.size for item in by_size)):>10}  in {_entries(len(by_size))} in {store.root}")


@cache.command(name="gc")
@click.option("--keep", required=True, metavar="SIZE", help="How much to keep, such as 20G; 0 removes everything.")
@json_option
@json_failures
def cache_gc(keep: str, as_json: bool) -> None:
    """Remove the least recently used entries to keep at most SIZE."""
    from orchestrator.inputs.gc import collect, parse_size
    from orchestrator.inputs.store import Store

    done = collect(Store(), parse_size(keep))
    if as_json:
        answer_json(asdict(done))
        return
    for item in done.removed:
        say(f"removed {item.key} ({size(item.size)})")
    if done.spared:
        say("builds are running: entries used within the last day are kept")
    freed = size(sum(item.size for item in done.removed))
    answer(f"removed {_entries(len(done.removed))}, {freed}; {size(done.kept)} stay")


@cache.command(name="export")
@click.argument("file", type=PATH, metavar="FILE")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
def cache_export(file: Path, keys: tuple[str, ...]) -> None:
    """Write entries (default: all) to the tar archive FILE.

    It is compressed if its name ends in .zst.
    """
    from orchestrator.inputs.store import Store
    from orchestrator.inputs.transfer import export_entries

    store = Store()
    with store.in_use():
        entries = export_entries(store, keys or [entry.key for entry in store.list()], file)
    say(f"wrote {_entries(len(entries))}, {size(sum(entry.size for entry in entries))}")
    answer(str(file))


@cache.command(name="import")
@click.argument("file", type=PATH, metavar="FILE")
def cache_import(file: Path) -> None:
    """Import the entries of FILE into the cache.

    Files must match their SHA-256, and sources their object ids. Images are used only if project.lock names them.
    What was built (the shim, the result of the build step) is as trustworthy as whoever made FILE, and only
    `build --offline` uses it. Unpacked archives are left out and unpacked again when needed.
    """
    from orchestrator.inputs.store import Store
    from orchestrator.inputs.transfer import import_entries

    store = Store()
    with store.in_use():
        done = import_entries(store, file)
    for key in done.unproven:
        say(f"{key}: only {file} vouches for it; used only if project.lock names it, or by `build --offline`")
    for key in done.left_out:
        say(f"{key}: left out; it is made again when needed")
    answer(f"{len(done.new)} new {'entry' if len(done.new) == 1 else 'entries'}, {len(done.known)} known")


@click.group()
def bundle() -> None:
    """Pack everything an offline build needs."""


@bundle.command(name="export")
@project_argument
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", required=True, help="Write the bundle here, such as air-gap.tar.zst."
)
@engine_option
@progress_option
@trust_option
def bundle_export(project: Path, output: Path, engine: str, progress: str, trust_project: bool) -> None:
    """Write a bundle for an offline build to FILE.

    It contains the inputs, the shim, images, the result of the build step, and the packages that the sources' lock
    files name, so that the step can run again there when the sources have changed.

    On the other machine: `orchestrator cache import FILE`, then `orchestrator build --offline --locked PROJECT.YAML`.
    """
    from orchestrator.build.check import check_project
    from orchestrator.build.pipeline import export_bundle
    from orchestrator.cli.progress import make_progress
    from orchestrator.engine.select import connect

    checked = check_project(project, trust=trust_project)
    say_warnings(checked.findings)
    with make_progress(progress) as shown, closing(connect(engine, emit=shown.emit)) as connected:
        bundled = export_bundle(checked, connected, target=output, emit=shown.emit)
    for entry in bundled.entries:
        say(f"{size(entry.size):>10}  {entry.key}  {entry.info.get('source', '')}".rstrip())
    for taken in bundled.packages:
        say(f"{size(taken.size):>10}  {taken.words} of {taken.named}")
    say(f"copy {output}, {project} and the files it names; there run `orchestrator cache import {output.name}`,")
    say(f"  then `orchestrator build --offline --locked {project.name}`")
    answer(str(output))


COMMANDS = (lock, cache, bundle)
