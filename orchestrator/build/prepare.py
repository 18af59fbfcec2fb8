"""Everything that a build needs before its own Containerfile runs: inputs, plan, the finished shim, the context."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from orchestrator.build.container_build import forget, run_containerfile
from orchestrator.build.dependencies import with_dependencies
from orchestrator.build.finished_image import with_finished_image
from orchestrator.build.kept_program import STAGE as PROGRAM_STAGE
from orchestrator.build.kept_program import load_program, program_key, program_tag
from orchestrator.build.kept_shim import RESULT as SHIM_RESULT
from orchestrator.build.kept_shim import STAGE as SHIM_STAGE
from orchestrator.build.kept_shim import NotKeptError, shim_name, take_shim, with_shim
from orchestrator.build.packages import capabilities_of, package_lister, with_packages, with_shim_packages
from orchestrator.build.script_program import with_script
from orchestrator.build.shared_stage import SharedStages, is_shareable
from orchestrator.build.state import BuildJob, BuildOrder, StageImage, phase
from orchestrator.containerfile.assemble import AssembledContext, assemble, assemble_shim
from orchestrator.containerfile.sources import has_climbing_links, list_sources
from orchestrator.engine.base import Engine
from orchestrator.errors import EngineError, VerificationError
from orchestrator.events import Notice
from orchestrator.inputs.resolve import ResolveOptions
from orchestrator.lock.resolve import LockPolicy, resolve_locked
from orchestrator.plan.make import make_plan
from orchestrator.project.load import LoadedProject
from orchestrator.project.secrets import ProjectSecrets, read_secrets
from orchestrator.receipt.receipt import ShimUsed
from orchestrator.resolved import Inputs


def read_usable_secrets(loaded: LoadedProject, engine: Engine) -> ProjectSecrets:
    """What `read_secrets` reads; EngineError when the engine cannot pass it to a build step."""
    build, info, able = loaded.project.build, engine.info, engine.capabilities
    for name, asked, can in (("secrets", bool(build.secrets), able.mounts), ("ssh", build.ssh, bool(able.ssh))):
        if asked and not can:
            message = f"{info.kind} {info.version} ({info.builder}) at {info.endpoint} cannot pass it to a build step"
            remedy = "use Docker with BuildKit (unset DOCKER_BUILDKIT), or a Podman of this machine (--engine podman)"
            finding = loaded.findings().error("engine", f"build.{name}", message, remedy)
            raise EngineError(message, remedy=remedy, findings=(finding,))
    return read_secrets(loaded)


def prepare(order: BuildOrder) -> BuildJob:
    """Inputs resolved, plan made, the shim built or taken, and, offline, the build step that a bundle brought.

    The step that is to run has its packages then, where they are not its own affair.
    """
    options = order.options
    lister = package_lister(order.loaded, order.engine)
    policy = LockPolicy(
        locked=options.locked, offline=options.offline, options=ResolveOptions(store=order.store, lister=lister)
    )
    inputs = resolve_locked(order.loaded, order.engine, order.emit, policy)
    _check_gpu_assets(order, inputs)
    plan = make_plan(order.loaded, order.settings, inputs)
    job = BuildJob(order=order, inputs=inputs, plan=plan)
    if plan.shim is not None:
        job = _with_shim(job)
    if plan.finished:
        return with_script(with_packages(with_finished_image(job)))
    # Not before: a shim may have taken its time.
    sources = list_sources(order.loaded)
    job = replace(job, sources=sources, plan=replace(job.plan, climbing_links=has_climbing_links(sources)))
    if options.offline:
        job = _with_kept_program(job)
    if options.results is not None and not job.plan.program_image:
        job = _with_shared_program(job)
    return with_script(job if job.plan.program_image else with_dependencies(with_packages(job)))


def _check_gpu_assets(order: BuildOrder, inputs: Inputs) -> None:
    """VerificationError for GPU assets that no image could work with: said before the build, not after it."""
    if inputs.gpu_assets is None:
        return
    with phase(order.emit, "inputs", "check that the GPU assets fit together"):
        findings = order.kind.check_gpu_assets(order.loaded.project, inputs)
        placed = order.loaded.findings()
        for finding in findings:
            placed.locate(finding, "gpu-assets")
        if errors := placed.errors:
            raise VerificationError(errors[0].message, remedy=errors[0].remedy, findings=errors)
    for finding in placed.collected:
        order.emit(Notice(text=str(finding)))


def _with_shim(job: BuildJob) -> BuildJob:
    """The job with a finished shim: from the cache, or built now and kept there for every project on this machine."""
    name = shim_name(job.plan, job.inputs)
    built = False

    @contextmanager
    def open_result() -> Iterator[BinaryIO]:
        nonlocal built
        built = True
        plan = with_shim_packages(job).plan
        made = assemble_shim(
            job.order.loaded, plan, job.inputs, capabilities=capabilities_of(job.order.engine), emit=job.order.emit
        )
        image_id = run_containerfile(job, made, SHIM_STAGE)
        try:
            with job.order.engine.open_archive(image_id, SHIM_RESULT, job.order.build_id) as stream:
                yield stream
        finally:
            forget(job, image_id)

    options = job.order.options
    stages, shared = SharedStages.of(job.order), StageImage(stage=SHIM_STAGE, key=name, tag="")
    try:
        if options.results is not None and not options.runs_again("gevulot"):
            from orchestrator.build.shared_shim import bring_shim

            if (result := bring_shim(job.order.store, name, options.results)) is not None:
                stages.remember_taken(shared, options.results, result)
        newer_than = time.time() if options.runs_again("gevulot") else 0.0
        entry = take_shim(job.order.store, name, open_result, newer_than=newer_than)
    except NotKeptError as error:
        # It is built beside the program then, every time.
        job.order.emit(Notice(text=f"the built shim was not cached: {error.message}"))
        return with_shim_packages(job)
    if built:
        stages.forget_taken(shared)
    else:
        with phase(job.order.emit, "shim", "take the finished shim from the cache"):
            pass
    if options.results is not None:
        from orchestrator.build.shared_shim import offer_shim

        offer_shim(name, entry, options.results)
    used = ShimUsed(key=entry.key, sha256=entry.sha256, reused=not built)
    return replace(job, plan=with_shim(job.plan, entry), shim=used, taken_stages=stages.taken(shared))


def _with_kept_program(job: BuildJob) -> BuildJob:
    """Offline: the job with the image that a bundle brought for its build step, when it is of the very same step."""
    key = program_key(job.order.loaded, job.plan, job.inputs)
    with phase(job.order.emit, "inputs", "look for the finished build step"):
        image = load_program(job.order.store, job.order.engine, key)
    if image is None:
        job.order.emit(Notice(text="no bundle contains the result of this build step; it runs without a network"))
        return job
    return replace(job, plan=replace(job.plan, program_image=image))


def program_stage(job: BuildJob) -> StageImage:
    """The stage `program` of a job, as a shared cache knows it. Reads every source file."""
    key = program_key(job.order.loaded, job.plan, job.inputs)
    return StageImage(stage=PROGRAM_STAGE, key=key, tag=program_tag(key))


def _with_shared_program(job: BuildJob) -> BuildJob:
    """The job with the image of its build step that another machine's engine made, when it is of the very same step.

    Not where this machine's engine has run it: it has the layers, and is faster than any transfer.
    """
    order = job.order
    if not is_shareable(order):
        return job
    shared, stage = SharedStages.of(order), program_stage(job)
    runs_here = replace(job, program_stage=stage)
    if order.options.runs_again("program") or shared.has_run(stage):
        return runs_here
    if shared.taken(stage) and order.engine.image_digest(stage.tag) is not None:
        with phase(order.emit, "program", "take the finished build step from an earlier build"):
            pass
    elif not shared.take(stage):
        return runs_here
    taken = (*job.taken_stages, *shared.taken(stage))
    return replace(job, plan=replace(job.plan, program_image=stage.tag), taken_stages=taken)


def assemble_context(job: BuildJob) -> AssembledContext:
    """The Containerfile and its context, as the engine wants them."""
    order, can = job.order, capabilities_of(job.order.engine)
    return assemble(order.loaded, job.plan, job.inputs, capabilities=can, sources=job.sources, emit=order.emit)
