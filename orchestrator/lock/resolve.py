"""Resolving under a lock: what it names is taken, what it doesn't is resolved and written to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from orchestrator.errors import InputError, UsageError
from orchestrator.events import Emit, Notice
from orchestrator.files import write_text
from orchestrator.inputs.debs import fetch_debs, locked_packages
from orchestrator.inputs.grounds import believed
from orchestrator.inputs.images import ImageStore
from orchestrator.inputs.nominal import nominal_inputs
from orchestrator.inputs.requests import Request, requests_of, wanted_packages
from orchestrator.inputs.resolve import ResolveOptions, access_of, resolve_inputs
from orchestrator.lock.changes import Change, changes
from orchestrator.lock.project_lock import ProjectLock, lock_of, lock_text, read_lock
from orchestrator.project.load import LoadedProject, lock_path
from orchestrator.resolved import FILE_PREFIX, Input, InputName, Inputs, Pin

FINISHED: Final = "image"
"""The input that is a finished image with the program in it."""
_NOT_LOCKED = "not locked"
_FIELDS = {
    "gevulot-base": "gevulot.base",
    "gevulot-packages": "gevulot",
    "nanos-common": "nanos",
    "packages": "build.packages",
    "image": "build.image",
    "containerfile": "build.containerfile",
}
"""Where project.yaml asks for an input, by its name, where that is another place."""


@dataclass(frozen=True, kw_only=True)
class LockPolicy:
    """`locked`: the lock must be there and say everything; `offline`: nothing is fetched. `options`: for tests."""

    locked: bool = False
    offline: bool = False
    options: ResolveOptions = field(default_factory=ResolveOptions)


@dataclass(frozen=True, kw_only=True)
class LockUpdate:
    """What `update_lock` did: the file, the differences to the lock before (None: there was none), the inputs.

    `first`: those that were believed now, as no lock said what they must be, or it was asked not to.
    """

    path: Path
    before: ProjectLock | None
    changes: Sequence[Change]
    inputs: Inputs
    first: Sequence[Input]


def resolve_locked(
    loaded: LoadedProject, engine: ImageStore | None, emit: Emit, policy: LockPolicy | None = None
) -> Inputs:
    """Every input, as the lock beside the project says. A lock that is missing or lacks something is written.

    With `locked` it is a UsageError instead, and a local file that isn't as it was is an InputError. Without an engine
    (`render`) nothing is written: the bases would be missing. Errors else: those of `resolve_inputs`.
    """
    policy = policy or LockPolicy()
    path = lock_path(loaded.path)
    lock = read_lock(path)
    if lock is None and policy.locked:
        raise UsageError(
            f"{path} does not exist, and --locked requires it", remedy=f"`orchestrator lock {loaded.path}`"
        )
    stale = _stale(loaded, lock) if lock is not None else []
    if stale and policy.locked:
        raise _not_of_this_project(loaded, path, stale)
    pins = lock.pins() if lock is not None else {}
    asked_anew = {change.input for change in stale} | _local_image(pins, policy)
    options = replace(
        policy.options,
        offline=policy.offline,
        pins={name: pin for name, pin in pins.items() if name not in asked_anew},
    )
    inputs = resolve_inputs(loaded, engine, emit, options)
    if lock is not None:
        stale += _moved_image(lock, inputs, emit)
        _local_changes(loaded, lock, inputs, emit, policy)
    if engine is not None and (lock is None or stale):
        _update(path, lock or ProjectLock(), lock_of(loaded, inputs), inputs, emit, stale)
    return inputs


def lock_staged_files(loaded: LoadedProject, inputs: Inputs, emit: Emit) -> None:
    """Write to the lock what it does not say yet of the files of `stage.files`, and nothing else; `inputs` are all."""
    path = lock_path(loaded.path)
    lock = read_lock(path) or ProjectLock()
    stale = [change for change in _stale(loaded, lock) if change.input.startswith(FILE_PREFIX)]
    if not stale:
        return
    new, names = lock_of(loaded, inputs).entries, {change.input for change in stale}
    kept = {name: entry for name, entry in lock.entries.items() if name not in names}
    now = {name: entry for name, entry in new.items() if name in names}
    _update(path, lock, ProjectLock(entries={**kept, **now}), inputs, emit, stale)


def _update(
    path: Path, before: ProjectLock, after: ProjectLock, inputs: Inputs, emit: Emit, stale: Sequence[Change]
) -> None:
    _write(path, after, emit, stale)
    if first := believed(resolved for resolved in inputs if _is_new(before, after, resolved)):
        emit(Notice(text=f"trusted on first use: {first}"))


def _local_image(pins: Mapping[str, Pin], policy: LockPolicy) -> set[str]:
    """A finished image that only this machine's engine has is the user's own, and taken as it is now."""
    pin = pins.get(FINISHED)
    return {FINISHED} if pin is not None and pin.ground == "engine" and not (policy.locked or policy.offline) else set()


def _moved_image(lock: ProjectLock, inputs: Inputs, emit: Emit) -> list[Change]:
    """How the user's own image differs from the one that the lock names."""
    entry, image = lock.entries.get(FINISHED), inputs.image
    if entry is None or image is None or dict(entry.resolved) == dict(image.pin):
        return []
    emit(Notice(text=f"{image.source} of this machine's engine has changed since it was locked"))
    before, after = entry.resolved.get("digest", ""), image.pin.get("digest", "")
    return [Change(input=FINISHED, what="digest", before=before, after=after)]


def nominal_locked(loaded: LoadedProject) -> Inputs:
    """The inputs as project.yaml names them, with the Debian packages that the lock has for images. Fetches nothing."""
    lock = read_lock(lock_path(loaded.path))
    inputs = nominal_inputs(loaded)
    if lock is None or _stale(loaded, lock):
        return inputs
    locked = {
        name: locked_packages(lock.pins(), names, name, base)
        for name, base, names in wanted_packages(loaded.project)
        if names
    }
    return replace(inputs, packages=locked.get("packages"), gevulot_packages=locked.get("gevulot-packages"))


def update_lock(
    loaded: LoadedProject,
    engine: ImageStore,
    emit: Emit,
    *,
    upgrade: frozenset[str] = frozenset(),
    write: bool = True,
    options: ResolveOptions | None = None,
) -> LockUpdate:
    """Resolve; the inputs named in `upgrade`, and those that the lock lacks, are asked for anew. Writes the lock.

    With `write` False only the differences are found out; else the files of Debian packages are fetched too. Errors:
    UsageError for a name that isn't an input.
    """
    path = lock_path(loaded.path)
    before = read_lock(path)
    known_names(loaded, upgrade)
    old = before or ProjectLock()
    stale = {change.input for change in _stale(loaded, before)} if before else set()
    pins = {name: pin for name, pin in old.pins().items() if name not in upgrade | stale}
    options = replace(options or ResolveOptions(), pins=pins, refresh=bool(upgrade))
    inputs = resolve_inputs(loaded, engine, emit, options)
    after = _settled(old, lock_of(loaded, inputs))
    if write:
        access = access_of(loaded, emit, options)
        for packages in (inputs.packages, inputs.gevulot_packages):
            if packages is not None:
                fetch_debs(access, packages)
    if write and (before is None or lock_text(after) != lock_text(before)):
        write_text(path, lock_text(after))
    first = [resolved for resolved in inputs if _is_new(old, after, resolved)]
    return LockUpdate(path=path, before=before, changes=changes(old, after), inputs=inputs, first=first)


def _is_new(old: ProjectLock, after: ProjectLock, resolved: Input) -> bool:
    """Whether the lock says of an input what no lock said before: another content, or another ground."""
    before, now = old.entries.get(resolved.name), after.entries.get(resolved.name)
    return now is not None and (before is None or (before.resolved, before.ground) != (now.resolved, now.ground))


def _settled(before: ProjectLock, after: ProjectLock) -> ProjectLock:
    """`after`, with the entries of `before` whose Debian packages were looked up anew and are the same."""
    same = {
        name: old
        for name, old in before.entries.items()
        if (new := after.entries.get(name)) is not None
        and new.kind == old.kind == "debs"
        and (new.packages, new.requested, new.resolved["base"]) == (old.packages, old.requested, old.resolved["base"])
    }
    return ProjectLock(entries={**after.entries, **same})


def known_names(loaded: LoadedProject, names: frozenset[str]) -> frozenset[str]:
    """The names of the project's locked inputs. UsageError when one of `names` is none of them."""
    known = frozenset[str](_asked(loaded))
    for name in sorted(names - known):
        raise UsageError(
            f"{name!r} is not a locked input of {loaded.path}", remedy=f"it has {', '.join(sorted(known))}"
        )
    return known


def is_of(lock: ProjectLock, loaded: LoadedProject) -> bool:
    """Whether a lock says everything that the project asks for: what `--locked` requires."""
    return not _stale(loaded, lock)


def _asked(loaded: LoadedProject) -> dict[InputName, Request]:
    return {name: asked for name, asked in requests_of(loaded).items() if name not in loaded.unused_inputs}


def _stale(loaded: LoadedProject, lock: ProjectLock | None) -> list[Change]:
    """How what project.yaml asks for differs from what it asked for when the lock was written."""
    if lock is None:
        return []
    asked = _asked(loaded)
    differences: list[Change] = []
    for name in sorted({*asked, *lock.entries}):
        entry = lock.entries.get(name)
        if name not in asked:
            differences.append(Change(input=name, what="asked", before="locked", after=""))
        elif entry is None:
            differences.append(Change(input=name, what="asked", before="", after=_NOT_LOCKED))
        elif entry.requested != asked[name]:
            new = entry.model_copy(update={"requested": dict(asked[name])})
            differences += changes(ProjectLock(entries={name: entry}), ProjectLock(entries={name: new}))
    return differences


def _not_of_this_project(loaded: LoadedProject, path: Path, stale: Sequence[Change]) -> UsageError:
    findings, remedy = loaded.findings(), f"run `orchestrator lock {loaded.path}` to accept the change"
    for change in stale:
        message = f"differs from {path.name} ({change.what}: {change.before or 'none'} -> {change.after or 'none'})"
        if change.after == _NOT_LOCKED:
            message = f"is not in {path.name}"
        findings.error("lock-stale", _field(change.input), message, remedy)
    return UsageError(f"{path} does not match {loaded.path} as it is now", findings=findings.collected)


def _field(name: str) -> str:
    return _FIELDS.get(name, "stage.files" if name.startswith(FILE_PREFIX) else name)


def _local_changes(loaded: LoadedProject, lock: ProjectLock, inputs: Inputs, emit: Emit, policy: LockPolicy) -> None:
    """The user's own files and directories: changed ones are worth a word, or with --locked an error."""
    findings = loaded.findings()
    for name, entry in lock.entries.items():
        current = inputs.get(name)
        if not entry.local or current is None or dict(current.pin) == dict(entry.resolved):
            continue
        key = "tree-sha256" if "tree-sha256" in entry.resolved else "sha256"
        values = f"{key} is {current.pin.get(key, 'none')}, but the lock says {entry.resolved.get(key, 'none')}"
        remedy = f"`orchestrator lock {loaded.path} --upgrade {name}`"
        if policy.locked:
            findings.error("lock-changed", _field(name), f"{current.source} has changed: {values}", remedy)
        else:
            emit(
                Notice(
                    text=f"{name}: {current.source} has changed since it was locked (run {remedy} to accept the change)"
                )
            )
    findings.raise_if_errors("inputs differ from the lock", InputError)


def _write(path: Path, lock: ProjectLock, emit: Emit, stale: Sequence[Change]) -> None:
    try:
        write_text(path, lock_text(lock))
    except OSError as error:
        emit(Notice(text=f"{path} cannot be written ({error.strerror}), so the inputs are not locked", level="warning"))
        return
    if not stale:
        emit(Notice(text=f"wrote {path}, which pins the current inputs; keep it with the project"))
        return
    names = ", ".join(sorted({change.input for change in stale}))
    if all(change.after == _NOT_LOCKED for change in stale):
        emit(Notice(text=f"updated {path}, which now pins {names} too"))
    else:
        emit(Notice(text=f"updated {path}, because project.yaml asks for other inputs: {names}"))
