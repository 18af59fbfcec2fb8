"""The order of the steps, from project.yaml to receipt. This module knows it, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from orchestrator.build.ahead import importing_ahead
from orchestrator.build.check import CheckedProject
from orchestrator.build.container_build import (
    STAGING_STAGE,
    forget,
    only_such_step,
    packed_stage,
    run_containerfile,
)
from orchestrator.build.dependencies import StepPackages, plan_nominally, plan_packages, take_for_bundle, take_for_step
from orchestrator.build.finish import only_build_of, pack
from orchestrator.build.finished_image import nominal_plan, own_key
from orchestrator.build.kept_program import STAGE as PROGRAM_STAGE
from orchestrator.build.kept_program import keep_program, program_key, program_tag
from orchestrator.build.packages import with_package_files
from orchestrator.build.prepare import assemble_context, prepare, program_stage, read_usable_secrets
from orchestrator.build.result import Result
from orchestrator.build.room import check_fits
from orchestrator.build.script_program import needs_engine, only_an_engine_knows
from orchestrator.build.shared_stage import SharedStages
from orchestrator.build.state import BuildJob, BuildOptions, BuildOrder, StageImage, engine_used, phase
from orchestrator.build.write_image import ImageTarget, Recorder, TreeOrigin, write_image
from orchestrator.containerfile.assemble import BuilderCapabilities, assemble, assemble_own
from orchestrator.containerfile.render import render_containerfile
from orchestrator.containerfile.sources import has_climbing_links, list_sources
from orchestrator.engine.base import Engine
from orchestrator.errors import InputError
from orchestrator.events import Emit
from orchestrator.image_kind import Packing
from orchestrator.inputs.store import Store
from orchestrator.label import CACHE
from orchestrator.lock.resolve import nominal_locked, resolve_locked
from orchestrator.receipt.record import FinishedBuild, Warnings
from orchestrator.staged import OpenArchive

if TYPE_CHECKING:
    from orchestrator.build.bundle import Bundled
    from orchestrator.build.reproduce import Reproduction
    from orchestrator.provenance.dsse import SigningKey
    from orchestrator.provenance.records import Records


@dataclass(frozen=True, kw_only=True)
class Staging:
    """The stage that gathers the image's files. `directories` (globs) are where it looks for libraries first."""

    open_archive: OpenArchive
    directories: tuple[str, ...]


def render_text(checked: CheckedProject) -> str:
    """The Containerfile alone: nothing is fetched, bases and sources are named as in project.yaml."""
    plan = nominal_plan(checked.loaded, checked.settings, nominal_locked(checked.loaded))
    plan = replace(plan, asks_for_script=needs_engine(checked.loaded))
    links = has_climbing_links(list_sources(checked.loaded))
    return render_containerfile(replace(plan, dependencies=plan_nominally(checked.loaded), climbing_links=links))


def render_context(checked: CheckedProject, *, output: Path, emit: Emit) -> list[tuple[str, ...]]:
    """Write the Containerfile and all that it copies into `output`; the commands that build it by hand.

    Outside inputs are fetched, no engine is asked.
    """
    from orchestrator.containerfile.render_directory import OWN, check_room, clear_earlier, commands_by_hand

    check_room(output)
    if needs_engine(checked.loaded):
        raise only_an_engine_knows(checked.loaded)
    inputs = with_package_files(checked.loaded, resolve_locked(checked.loaded, None, emit), emit)
    inputs = replace(inputs, image=nominal_locked(checked.loaded).image)
    plan = nominal_plan(checked.loaded, checked.settings, inputs)
    used = take_for_step(StepPackages(loaded=checked.loaded, store=Store(emit=emit), emit=emit))
    sources = list_sources(checked.loaded, (output,))
    links = has_climbing_links(sources)
    plan = replace(plan, dependencies=plan_packages(used), climbing_links=links)
    made = assemble(checked.loaded, plan, inputs, capabilities=BuilderCapabilities(), sources=sources, emit=emit)
    clear_earlier(output)
    made.context.write_to(output)
    if checked.loaded.containerfile is not None:
        own = assemble_own(checked.loaded, plan, {}, labelled=False, emit=emit)
        own.context.write_to(output / OWN)
    return commands_by_hand(checked.loaded, plan, made, output)


def build_project(
    checked: CheckedProject,
    engine: Engine,
    *,
    output: Path,
    emit: Emit,
    options: BuildOptions | None = None,
    sign: SigningKey | None = None,
) -> Result:
    """Build, verify and write `output/NAME.img`, its receipt and what it names, or leave all as they were."""
    recorder = Recorder(warned=Warnings(checked.findings))
    ahead = importing_ahead(checked.kind, recorder.listening(emit))
    order = _order(checked, engine, options or BuildOptions(), ahead)
    with (
        only_build_of(output, checked.loaded.project.name, order.emit),
        order.store.in_use(),
        engine.protect(order.build_id),
    ):
        job = prepare(order)
        made = assemble_context(job)
        check_fits(job, made, output)
        with only_such_step(job):
            image_id = run_containerfile(job, made, packed_stage(job.plan))

        def pack_into(target: Path, ready: Callable[[int], None]) -> tuple[Packing, Records]:
            packed = pack(job, image_id, target, ready)
            forget(job, image_id)
            return packed

        origin = TreeOrigin(
            engine=engine_used(engine.info),
            containerfile=made.containerfile,
            manifest=made.manifest,
            context_sha256=lambda _packing: made.context.digest(),
            context=made.context.lines,
            shim=job.shim,
            taken_stages=job.taken_stages,
        )
        target = ImageTarget(directory=output, sign=sign)
        result = write_image(job, origin, recorder, target, pack_into, partial(_compare, job))
        if job.program_stage is not None:
            _share_program(job, job.program_stage)
        return result


def _compare(job: BuildJob, built: FinishedBuild, image: Path) -> FinishedBuild:
    """Build again where the project wants that, and compare."""
    if job.order.loaded.project.reproducible != "strict":
        return built
    from orchestrator.build.reproduce import rebuild_if_strict

    return rebuild_if_strict(job, built, image)


def reproduce_project(
    checked: CheckedProject, engine: Engine, receipt: Path, *, output: Path, emit: Emit, options: BuildOptions
) -> Reproduction:
    """Build again what `receipt` speaks of and compare; see `build.reproduce.reproduce`."""
    from orchestrator.build.reproduce import reproduce

    strict = replace(options, locked=True, no_cache=True)
    return reproduce(_order(checked, engine, strict, emit), receipt, output)


def export_bundle(checked: CheckedProject, engine: Engine, *, target: Path, emit: Emit) -> Bundled:
    """Write all that a build of the project needs to `target`, for a machine without a network; what it holds.

    That is every input, the finished shim, images that were pulled, and the result of the stage `program`: its step may
    download, so it is built here, or taken from the engine's cache. For other sources there, also the packages that the
    sources' lock files name. The lock stays beside project.yaml.
    """
    from orchestrator.build.bundle import Bundled, input_keys, keep_images
    from orchestrator.inputs.transfer import export_entries

    order = _order(checked, engine, BuildOptions(), emit)
    store = order.store
    with store.in_use(), engine.protect(order.build_id):
        job = prepare(order)
        packages = () if job.plan.finished else take_for_bundle(job)
        kept = _keep_program(job)
        with_package_files(checked.loaded, job.inputs, emit, store)
        with phase(emit, "bundle", "save the images"):
            keys = [*kept, *input_keys(store, job.inputs), *keep_images(store, engine, job.inputs)]
        if job.shim is not None:
            keys.append(job.shim.key)
        carried = {key for taken in packages for key in taken.keys}
        with phase(emit, "bundle", f"write {target.name}"):
            try:
                entries = export_entries(store, [*keys, *carried], target)
                return Bundled(entries=tuple(entry for entry in entries if entry.key not in carried), packages=packages)
            finally:
                for key in kept:  # large, of use on the other machine only, and saved again in seconds
                    store.remove(key)


def _keep_program(job: BuildJob) -> tuple[str, ...]:
    """The result of the stage `program`, built and saved in the cache: its key. Nothing of an image from outside."""
    order = replace(job.order, build_id="bundle")
    if job.plan.finished:
        keys = (own_key(job),) if order.loaded.containerfile is not None else ()
        for key in keys:
            keep_program(order.store, order.engine, key)
        return keys
    key = program_key(order.loaded, job.plan, job.inputs)
    with (
        order.store.lock(f"bundle-{key}"),
        _program_image(replace(job, order=order), program_tag(key)),
        phase(order.emit, "bundle", "save the program's image"),
    ):
        keep_program(order.store, order.engine, key)
    return (key,)


@contextmanager
def _program_image(job: BuildJob, tag: str) -> Iterator[None]:
    """While the context lasts, the engine has the result of the stage `program` under a name."""
    image = run_containerfile(job, assemble_context(job), PROGRAM_STAGE, tag)
    try:
        yield
    finally:
        forget(job, image)


def _share_program(job: BuildJob, stage: StageImage) -> None:
    """Put the result of the stage `program`, whose steps have just run, into the shared cache: for machines where only
    what follows is another."""
    order = replace(job.order, build_id=CACHE, options=replace(job.order.options, no_cache=False, begin=""))
    shared = replace(job, order=order)

    @contextmanager
    def made() -> Iterator[None]:
        with only_such_step(shared), _program_image(shared, stage.tag):
            if program_stage(shared) != stage:
                raise InputError("the sources have changed since the build began", remedy="build again")
            yield

    stages = SharedStages.of(order)
    stages.remember_run(stage)
    stages.offer(stage, made)


@contextmanager
def open_staging(checked: CheckedProject, engine: Engine, *, emit: Emit) -> Iterator[Staging]:
    """The container in which the image's files were gathered, from the engine's cache or built again.

    Errors are those of `build_project`, up to that step.
    """
    order = _order(checked, engine, BuildOptions(), emit)
    with order.store.in_use(), engine.protect(order.build_id):
        job = prepare(order)
        with only_such_step(job):
            image = run_containerfile(job, assemble_context(job), STAGING_STAGE)
        try:
            searched = tuple(value for option, value in job.plan.staging.arguments if option == "--search")
            yield Staging(
                open_archive=lambda path: engine.open_archive(image, path, job.order.build_id), directories=searched
            )
        finally:
            forget(job, image)


def _order(checked: CheckedProject, engine: Engine, options: BuildOptions, emit: Emit) -> BuildOrder:
    """Reads the secrets too: one that is missing shows before anything is written."""
    return BuildOrder(
        loaded=checked.loaded,
        kind=checked.kind,
        settings=checked.settings,
        engine=engine,
        store=Store(emit=emit, imported=options.offline, shared=options.shared),
        secrets=read_usable_secrets(checked.loaded, engine),
        options=options,
        build_id=uuid4().hex,
        emit=emit,
    )
