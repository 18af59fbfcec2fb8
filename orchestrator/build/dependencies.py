"""Packages of the sources' lock files, for the build step and for bundles: when they are taken, and what is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.build.state import Job
from orchestrator.containerfile.assemble import SOURCES, program_parts
from orchestrator.containerfile.context import BuildContext
from orchestrator.dependencies.collect import find_lock_files, take_dependencies
from orchestrator.dependencies.model import Taken, words_for
from orchestrator.errors import InputError
from orchestrator.events import Notice
from orchestrator.inputs.access import Access
from orchestrator.plan.model import DependenciesPlan

FIELD = "build.dependencies"
SHOWN = 5
"""Packages that are named one by one when nothing can be done about them."""


def with_dependencies(job: Job) -> Job:
    """The job whose step gets the packages: with `always`, and in an offline build those that are there.

    Errors: MismatchError; with `always` InputError for any that can't be had.
    """
    setting = job.order.loaded.project.build.dependencies
    if setting == "off" or (setting == "auto" and not job.order.options.offline):
        return job
    taken = _taken(job)
    for each in taken:
        if each.failure is not None:
            if setting == "always":
                raise _failed(job, each.failure)
            text = f"the build step gets no {words_for(each.kind)}: {each.failure.message}"
            job.order.emit(Notice(text=text))
    used = [each for each in taken if each.failure is None and each.files]
    _say_refused(job, used, "the build step has to get them itself")
    plan = DependenciesPlan(
        kinds=tuple(each.kind for each in used),
        files={f"{each.kind}/{place}": path for each in used for place, path in each.files.items()},
        texts={f"{each.kind}/{place}": data for each in used for place, data in each.texts.items()},
    )
    return replace(job, plan=replace(job.plan, dependencies=plan if used else None), dependencies=tuple(used))


def for_bundle(job: Job) -> tuple[Taken, ...]:
    """What a bundle carries of the packages, fetched where the cache lacks it. A warning says what it does not carry.

    Errors: MismatchError.
    """
    if job.order.loaded.project.build.dependencies == "off":
        return ()
    taken = _taken(job)
    consequence = "if the sources change, the build step needs a network there"
    for each in taken:
        if each.failure is not None:
            text = f"the bundle does not contain the packages of {each.named}: {each.failure.message}; {consequence}"
            job.order.emit(Notice(text=text, level="warning"))
    _say_refused(job, taken, f"the bundle does not contain them, and {consequence}")
    return tuple(each for each in taken if each.failure is None and each.files)


def _taken(job: Job) -> list[Taken]:
    loaded, options = job.order.loaded, job.order.options
    access = Access(
        store=job.order.store,
        emit=job.order.emit,
        mirrors=loaded.project.mirrors,
        own_mirrors=loaded.own_mirrors,
        offline=options.offline,
    )
    return take_dependencies(access, find_lock_files(_sources(job)))


def _sources(job: Job) -> Iterator[tuple[str, Path]]:
    """The files that the build step finds among the sources, with their paths there."""
    context = BuildContext(parts=program_parts(job.order.loaded, job.plan, job.inputs))
    for member in context.members():
        if member.source is not None and member.path.startswith(f"{SOURCES}/"):
            yield member.path.removeprefix(f"{SOURCES}/"), member.source


def _say_refused(job: Job, taken: Sequence[Taken], consequence: str) -> None:
    refused = [text for each in taken for text in each.refused]
    if refused:
        more = f" and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
        text = f"packages without a checksum to fetch them by: {'; '.join(refused[:SHOWN])}{more}: {consequence}"
        job.order.emit(Notice(text=text, level="warning"))


def _failed(job: Job, error: InputError) -> InputError:
    finding = job.order.loaded.findings().error("dependencies", FIELD, error.message, error.remedy)
    return InputError(error.message, remedy=error.remedy, findings=(finding,))
