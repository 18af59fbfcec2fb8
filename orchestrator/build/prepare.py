"""Everything that a build needs before its own Containerfile runs: inputs, plan, the finished shim, the context."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from orchestrator.build.container_build import forget, run_containerfile
from orchestrator.build.kept_program import load_program, program_key
from orchestrator.build.kept_shim import RESULT as SHIM_RESULT
from orchestrator.build.kept_shim import STAGE as SHIM_STAGE
from orchestrator.build.kept_shim import NotKeptError, shim_name, take_shim, with_shim
from orchestrator.build.state import BuildJob, BuildOrder, phase
from orchestrator.containerfile.assemble import AssembledContext, BuilderCapabilities, assemble, assemble_shim
from orchestrator.engine.base import Engine
from orchestrator.errors import EngineError, VerificationError
from orchestrator.events import Notice
from orchestrator.gpu.compatibility import GPU_KLIB
from orchestrator.gpu.directory import check_assets
from orchestrator.inputs.resolve import ResolveOptions
from orchestrator.lock.resolve import LockPolicy, resolve_locked
from orchestrator.plan.make import make_plan
from orchestrator.project.load import LoadedProject
from orchestrator.project.secrets import ProjectSecrets, read_secrets
from orchestrator.receipt.receipt import ShimUsed
from orchestrator.resolved import Inputs


def read_usable_secrets(loaded: LoadedProject, engine: Engine) -> ProjectSecrets:
    """What `read_secrets` reads; EngineError when the engine cannot pass it to a build step."""
    build, info = loaded.project.build, engine.info
    for name, asked, can in (("secrets", bool(build.secrets), info.mounts), ("ssh", build.ssh, bool(info.ssh))):
        if asked and not can:
            message = f"{info.kind} {info.version} ({info.builder}) at {info.endpoint} cannot pass it to a build step"
            remedy = "use Docker with BuildKit (unset DOCKER_BUILDKIT), or a Podman of this machine (--engine podman)"
            finding = loaded.findings().error("engine", f"build.{name}", message, remedy)
            raise EngineError(message, remedy=remedy, findings=(finding,))
    return read_secrets(loaded)


def prepare(order: BuildOrder) -> BuildJob:
    """Inputs resolved, plan made, and the shim built or taken; offline also the build step that a bundle brought."""
    options = order.options
    policy = LockPolicy(locked=options.locked, offline=options.offline, options=ResolveOptions(store=order.store))
    inputs = resolve_locked(order.loaded, order.engine, order.emit, policy)
    _check_gpu_assets(order, inputs)
    plan = make_plan(order.loaded, order.manifest, inputs)
    job = BuildJob(order=order, inputs=inputs, plan=plan)
    if plan.shim is not None:
        job = _with_shim(job)
    return _with_kept_program(job) if options.offline else job


def _check_gpu_assets(order: BuildOrder, inputs: Inputs) -> None:
    """VerificationError for GPU assets that no image could work with: said before the build, not after it."""
    if inputs.gpu_assets is None:
        return
    assets, nanos = inputs.gpu_assets.local, inputs.nanos.path
    klibs = [assets / GPU_KLIB, *([nanos / "klibs" / GPU_KLIB] if nanos else [])]
    kernel = nanos / "kernel.img" if nanos else None
    with phase(order.emit, "inputs", "check that the GPU assets fit together"):
        findings = check_assets(
            assets,
            order.loaded.project.gpu_families,
            kernel=kernel if kernel is not None and kernel.is_file() else None,
            klib=next((klib for klib in klibs if klib.is_file()), None),
        )
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
        made = assemble_shim(job.order.loaded, job.plan, job.inputs, dialect=_dialect(job), emit=job.order.emit)
        image_id = run_containerfile(job, made, SHIM_STAGE)
        try:
            with job.order.engine.open_archive(image_id, SHIM_RESULT, job.order.build_id) as stream:
                yield stream
        finally:
            forget(job, image_id)

    try:
        entry = take_shim(
            job.order.store, name, open_result, newer_than=time.time() if job.order.options.no_cache else 0.0
        )
    except NotKeptError as error:
        # It is built beside the program then, every time.
        job.order.emit(Notice(text=f"the built shim was not cached: {error.message}"))
        return job
    if not built:
        with phase(job.order.emit, "shim", "take the finished shim from the cache"):
            pass
    used = ShimUsed(key=entry.key, sha256=entry.sha256, reused=not built)
    return replace(job, plan=with_shim(job.plan, entry), shim=used)


def _with_kept_program(job: BuildJob) -> BuildJob:
    """Offline: the job with the image that a bundle brought for its build step, when it is of the very same step."""
    key = program_key(job.order.loaded, job.plan, job.inputs)
    with phase(job.order.emit, "inputs", "look for the finished build step"):
        image = load_program(job.order.store, job.order.engine, key)
    if image is None:
        job.order.emit(Notice(text="no bundle contains the result of this build step; it runs without a network"))
        return job
    return replace(job, plan=replace(job.plan, program_image=image))


def assemble_context(job: BuildJob) -> AssembledContext:
    """The Containerfile and its context, as the engine wants them."""
    return assemble(job.order.loaded, job.plan, job.inputs, dialect=_dialect(job), emit=job.order.emit)


def _dialect(job: BuildJob) -> BuilderCapabilities:
    return BuilderCapabilities(mounts=job.order.engine.info.mounts, ssh=job.order.engine.info.ssh)
