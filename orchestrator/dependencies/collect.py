"""The lock files of the sources, and every package that they name: fetched side by side, or taken from the cache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final, get_args

from orchestrator.dependencies.cargo import read_cargo_lock
from orchestrator.dependencies.go import read_go_sum
from orchestrator.dependencies.npm import MOST_BYTES, read_package_lock
from orchestrator.dependencies.packages import (
    MOST,
    LockedPackages,
    LockFile,
    LockFileError,
    Package,
    PackageFile,
    TakenPackages,
    words_for,
)
from orchestrator.dependencies.pip import read_requirements
from orchestrator.documents import DocumentError, read_bounded
from orchestrator.errors import InputError
from orchestrator.events import Event, StepFinished, StepProgress
from orchestrator.inputs.access import Access, FetchStep
from orchestrator.inputs.store import MismatchError
from orchestrator.package_locks import Kind, lock_kind, unread_locks

_WORKERS: Final = 8
_SHOWN: Final = 3
_READERS: Final[Mapping[Kind, Callable[[str], LockedPackages]]] = {
    "cargo": read_cargo_lock,
    "go": read_go_sum,
    "npm": read_package_lock,
    "pip": read_requirements,
}
# What lies in these was brought by a package manager, with lock files that nothing reads.
_BROUGHT: Final = {"node_modules", "vendor", "site-packages", ".git"}


def find_lock_files(files: Iterable[tuple[str, Path]]) -> list[LockFile]:
    """The lock files among the sources' files, each given by its path in the context and the host's file."""
    lock_files = []
    for path, source in files:
        parts = PurePosixPath(path)
        kind = lock_kind(parts.name)
        if kind is not None and not _BROUGHT.intersection(parts.parts):
            lock_files.append(LockFile(path=path, source=source, kind=kind))
    return sorted(lock_files, key=lambda lock_file: lock_file.path)


def find_unread(files: Iterable[tuple[str, Path]]) -> list[tuple[str, str]]:
    """The lock files among the sources' files that nothing reads, each with what to do instead."""
    return list(unread_locks(path for path, _ in files if not _BROUGHT.intersection(PurePosixPath(path).parts)))


def take_dependencies(access: Access, lock_files: Sequence[LockFile]) -> list[TakenPackages]:
    """Everything that the lock files name, by kind; see `TakenPackages` for what could not be had.

    Errors: MismatchError for a package that is not the one that was locked.
    """
    taken = []
    for kind in get_args(Kind):
        of_kind = [lock_file for lock_file in lock_files if lock_file.kind == kind]
        if of_kind:
            taken.append(_take(access, kind, of_kind))
    return taken


def _take(access: Access, kind: Kind, lock_files: Sequence[LockFile]) -> TakenPackages:
    nothing = TakenPackages(kind=kind, lock_files=tuple(lock_file.path for lock_file in lock_files))
    try:
        contents = _read(lock_files)
    except InputError as error:
        return replace(nothing, failure=error)
    nothing = replace(nothing, refused=contents.refused, packages=len(contents.packages))
    if not contents.packages:
        return nothing
    title = f"{'look for' if access.offline else 'fetch'} {nothing.words} of {nothing.named}"
    try:
        with access.step(title) as step:
            placed, missing = _take_all(access, tuple(contents.packages.values()), step)
    except MismatchError:
        raise
    except InputError as error:
        return replace(nothing, failure=error)
    if missing:
        return replace(nothing, failure=_lacks(nothing, missing))
    entries = {file.path: file.entry for file in placed if file.entry is not None}
    return replace(
        nothing,
        files={path: entry.path for path, entry in entries.items()},
        texts={**contents.texts, **{file.path: file.data for file in placed if file.entry is None}},
        keys=tuple(sorted({entry.key for entry in entries.values()})),
        size=sum({entry.key: entry.size for entry in entries.values()}.values()),
    )


def _read(lock_files: Sequence[LockFile]) -> LockedPackages:
    """What all of them say together. InputError for one that can't be understood."""
    packages: dict[str, Package] = {}
    texts: dict[str, bytes] = {}
    refused: dict[str, None] = {}
    for lock_file in lock_files:
        try:
            contents = _READERS[lock_file.kind](read_bounded(lock_file.source, MOST_BYTES).decode("utf-8"))
        # The nesting of TOML is only bounded by the interpreter's stack.
        except (ValueError, RecursionError, DocumentError) as error:
            reason = str(error) if isinstance(error, LockFileError) else f"is not a lock file ({error})"
            raise InputError(f"{lock_file.path}: {reason}", remedy="regenerate it with its package manager") from error
        except OSError as error:
            raise InputError(f"{lock_file.path}: {error.strerror}", remedy="make it readable") from error
        packages |= contents.packages
        texts |= contents.texts
        refused |= dict.fromkeys(f"{lock_file.path}: {text}" for text in contents.refused)
        if len(packages) > MOST:
            raise InputError(
                f"{lock_file.path}: names more than {MOST} packages", remedy="set `build.dependencies: never`"
            )
    return LockedPackages(packages=packages, texts=texts, refused=tuple(refused))


def _lacks(taken: TakenPackages, missing: Sequence[str]) -> InputError:
    names = ", ".join(missing[:_SHOWN]) + (" …" if len(missing) > _SHOWN else "")
    return InputError(
        f"the input cache lacks {len(missing)} of {taken.packages} {words_for(taken.kind)} of {taken.named} ({names})",
        remedy="import a bundle that contains them (`orchestrator bundle export PROJECT.YAML`, with a network)",
    )


def _files_of(package: Package, access: Access) -> list[PackageFile]:
    return list(package.take(access))


def _take_all(access: Access, packages: Sequence[Package], step: FetchStep) -> tuple[list[PackageFile], list[str]]:
    """The files of all packages, and, offline, the titles of those that the cache lacks."""
    step.cached = True

    def seen(event: Event) -> None:
        if isinstance(event, StepFinished) and not event.cached:
            step.cached = False

    # Single downloads aren't steps of their own; one that fails ends the others, and nothing else.
    stop = threading.Event()
    quiet = replace(access, emit=seen, cancelled=stop)
    placed: list[PackageFile] = []
    missing: list[str] = []
    pool = ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="package")
    try:
        futures = {pool.submit(_files_of, package, quiet): package for package in packages}
        for done, future in enumerate(as_completed(futures), start=1):
            try:
                files = future.result()
            except MismatchError:
                raise
            except InputError:
                if not access.offline:
                    raise
                missing.append(futures[future].title)
                continue
            placed += files
            access.emit(StepProgress(id=step.id, done=done, total=len(packages), unit="packages"))
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return placed, sorted(missing)
