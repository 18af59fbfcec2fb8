"""Packages of the sources' lock files, for the build step and for bundles: when they are taken, and what is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.build.state import BuildJob
from orchestrator.containerfile.context import BuildContext
from orchestrator.containerfile.sources import user_sources
from orchestrator.dependencies.collect import find_lock_files, find_unread, take_dependencies
from orchestrator.dependencies.packages import TakenPackages, words_for
from orchestrator.errors import InputError
from orchestrator.events import Emit, Notice, ignore
from orchestrator.inputs.resolve import ResolveOptions, access_of
from orchestrator.inputs.store import Store
from orchestrator.plan.plan import DependenciesPlan
from orchestrator.project.foresight import needs_fetched_crates
from orchestrator.project.load import LoadedProject

FIELD = "build.dependencies"
SHOWN = 5
"""Packages that are named one by one when nothing can be done about them."""


@dataclass(frozen=True, kw_only=True)
class StepPackages:
    """A build step that needs packages, and how they are reached."""

    loaded: LoadedProject
    store: Store
    emit: Emit
    offline: bool = False

    def take(self, *, say_unread: bool = True) -> list[TakenPackages]:
        """All that its lock files name, as far as it can be had. MismatchError.

        With `say_unread` a warning for each lock file that nothing reads.
        """
        access = access_of(self.loaded, self.emit, ResolveOptions(store=self.store, offline=self.offline))
        files = list(_sources(self.loaded))
        for path, remedy in find_unread(files) if say_unread else ():
            text = f"{path} is not read, so its packages are left to the build step; {remedy}"
            self.emit(Notice(text=text, level="warning"))
        return take_dependencies(access, find_lock_files(files))


def with_dependencies(job: BuildJob) -> BuildJob:
    """The job whose step gets the packages: with `always`, and in an offline build those that are there.

    Errors: MismatchError; with `always` InputError for any that can't be had.
    """
    used = take_for_step(_packages_of(job))
    return replace(job, plan=replace(job.plan, dependencies=plan_packages(used)), dependencies=used)


def plan_offline(job: BuildJob) -> DependenciesPlan | None:
    """What the step of this job is given in an offline build; nothing is fetched, nothing said. MismatchError."""
    return plan_packages(take_for_step(replace(_packages_of(job), offline=True, emit=ignore)))


def take_for_step(step: StepPackages) -> tuple[TakenPackages, ...]:
    """What the step is given instead of a registry; nothing where that is its own affair. Errors: see above."""
    setting = step.loaded.project.build.dependencies
    needed = needed_kinds(step.loaded) if setting == "auto" and not step.offline else frozenset()
    if setting == "never" or (setting == "auto" and not step.offline and not needed):
        return ()
    taken = [of_kind for of_kind in step.take(say_unread=not needed) if not needed or of_kind.kind in needed]
    used = []
    for of_kind in taken:
        if of_kind.failure is not None and (setting == "always" or "cargo" in needed):
            raise _failed(step.loaded, of_kind.failure)
        if of_kind.kind == "npm" and "npm" in needed and of_kind.refused:
            continue  # npm, if there is one, is told to look nowhere else
        if of_kind.failure is not None:
            text = f"the build step is not given {words_for(of_kind.kind)}: {of_kind.failure.message}"
            step.emit(Notice(text=text))
        elif of_kind.files:
            step.emit(Notice(text=f"the build step takes {of_kind.words} of {of_kind.named} from the cache"))
            used.append(of_kind)
    _say_refused(step.emit, taken, "the build step must fetch them itself")
    return tuple(used)


def needed_kinds(loaded: LoadedProject) -> frozenset[str]:
    """Of which package managers the step is given packages though it has a network: they can't fetch them by themselves
    in this base, or aren't there. The packages of other kinds stay the step's own affair.
    """
    build = loaded.project.build
    npm = build.language == "node" and not build.run and not build.finished
    kinds = {"cargo": needs_fetched_crates(loaded), "npm": npm}
    return frozenset(kind for kind, needed in kinds.items() if needed)


def plan_packages(used: Sequence[TakenPackages]) -> DependenciesPlan | None:
    """The plan's part about them."""
    if not used:
        return None
    return DependenciesPlan(
        kinds=tuple(packages.kind for packages in used),
        files={f"{packages.kind}/{relative}": path for packages in used for relative, path in packages.files.items()},
        texts={f"{packages.kind}/{relative}": data for packages in used for relative, data in packages.texts.items()},
    )


def plan_nominally(loaded: LoadedProject) -> DependenciesPlan | None:
    """What `plan_packages` would give, from the names of lock files alone."""
    setting = loaded.project.build.dependencies
    needed = needed_kinds(loaded) if setting == "auto" else frozenset()
    if setting != "always" and not needed:
        return None
    kinds = dict.fromkeys(sorted(lock_file.kind for lock_file in find_lock_files(_sources(loaded))))
    kinds = {kind: None for kind in kinds if not needed or kind in needed}
    return DependenciesPlan(kinds=tuple(kinds), files={}, texts={}) if kinds else None


def _sources(loaded: LoadedProject) -> Iterator[tuple[str, Path]]:
    """The files that the step finds in its directory, with their paths there."""
    sources = user_sources(loaded)
    for member in BuildContext(parts=[sources]).members():
        if member.source is not None:
            yield member.path.removeprefix(f"{sources.prefix}/"), member.source


def take_for_bundle(job: BuildJob) -> tuple[TakenPackages, ...]:
    """What a bundle carries of the packages, fetched where the cache lacks it. A warning says what it does not carry.

    Errors: MismatchError.
    """
    if job.dependencies or job.order.loaded.project.build.dependencies == "never":
        return job.dependencies
    taken, emit = _packages_of(job).take(), job.order.emit
    consequence = "if the sources change, the build step needs a network there"
    for of_kind in taken:
        if of_kind.failure is not None:
            text = (
                f"the bundle does not contain the packages of {of_kind.named}: {of_kind.failure.message}; {consequence}"
            )
            emit(Notice(text=text, level="warning"))
    _say_refused(emit, taken, f"the bundle does not contain them, and {consequence}")
    return tuple(of_kind for of_kind in taken if of_kind.failure is None and of_kind.files)


def _packages_of(job: BuildJob) -> StepPackages:
    order = job.order
    return StepPackages(
        loaded=order.loaded,
        store=order.store,
        emit=order.emit,
        offline=order.options.offline,
    )


def _say_refused(emit: Emit, taken: Sequence[TakenPackages], consequence: str) -> None:
    refused = [text for packages in taken for text in packages.refused]
    if refused:
        more = f" and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
        text = f"packages that no checksum identifies: {'; '.join(refused[:SHOWN])}{more}: {consequence}"
        emit(Notice(text=text, level="warning"))


def _failed(loaded: LoadedProject, error: InputError) -> InputError:
    finding = loaded.findings().error("dependencies", FIELD, error.message, error.remedy)
    return InputError(error.message, remedy=error.remedy, findings=(finding,))
