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
from orchestrator.build.kept_shim import NotKept, shim_name, take_shim, with_shim
from orchestrator.build.state import Job, Order, phase
from orchestrator.containerfile.assemble import Assembled, Dialect, assemble, assemble_shim
from orchestrator.engine.base import Engine
from orchestrator.errors import EngineError, Finding, Severity, VerificationError
from orchestrator.events import Notice
from orchestrator.gpu.compatibility import GPU_KLIB
from orchestrator.gpu.directory import check_assets
from orchestrator.inputs.model import Inputs
from orchestrator.inputs.resolve import Options
from orchestrator.lock.resolve import Policy, resolve_locked
from orchestrator.plan.make import make_plan
from orchestrator.project.load import LoadedProject
from orchestrator.project.secrets import ProjectSecrets, read_secrets
from orchestrator.receipt.document import ShimUsed


def usable_secrets(loaded: LoadedProject, engine: Engine) -> ProjectSecrets:
    """What `read_secrets` reads; EngineError when the engine can't give it to a build step."""
    build, info = loaded.project.build, engine.info
    for name, asked, can in (("secrets", bool(build.secrets), info.mounts), ("ssh", build.ssh, bool(info.ssh))):
        if asked and not can:
            message = f"{info.kind} {info.version} ({info.builder}) at {info.endpoint} can't give it to a build step"
            remedy = "use Docker with BuildKit (unset DOCKER_BUILDKIT), or a Podman of this machine (--engine podman)"
            finding = Finding(
                severity=Severity.ERROR, code="engine", message=message, remedy=remedy, file=str(loaded.path),
                line=loaded.line(f"build.{name}"), field=f"build.{name}",
            )  # fmt: skip
            raise EngineError(message, remedy=remedy, findings=(finding,))
    return read_secrets(loaded)


def prepared(order: Order) -> Job:
    """Inputs resolved, plan made, and the shim built or taken; offline also the build step that a bundle brought."""
    options = order.options
    policy = Policy(locked=options.locked, offline=options.offline, options=Options(store=order.store))
    inputs = resolve_locked(order.loaded, order.engine, order.emit, policy)
    _check_gpu_assets(order, inputs)
    plan = make_plan(order.loaded, order.manifest, inputs)
    job = Job(**vars(order), inputs=inputs, plan=plan)
    if plan.shim is not None:
        job = _with_shim(job)
    return _with_kept_program(job) if options.offline else job


def _check_gpu_assets(order: Order, inputs: Inputs) -> None:
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
            klib=next((each for each in klibs if each.is_file()), None),
        )
        line = order.loaded.line("gpu-assets")
        placed = [replace(each, file=str(order.loaded.path), line=line, field="gpu-assets") for each in findings]
        errors = [each for each in placed if each.severity is Severity.ERROR]
        if errors:
            raise VerificationError(errors[0].message, remedy=errors[0].remedy, findings=errors)
    for each in placed:
        order.emit(Notice(text=str(each)))


def _with_shim(job: Job) -> Job:
    """The job with a finished shim: from the cache, or built now and kept there for every project on this machine."""
    name = shim_name(job.plan, job.inputs)
    built = False

    @contextmanager
    def open_result() -> Iterator[BinaryIO]:
        nonlocal built
        built = True
        made = assemble_shim(job.loaded, job.plan, job.inputs, dialect=_dialect(job), emit=job.emit)
        image_id = run_containerfile(job, made, SHIM_STAGE)
        try:
            with job.engine.open_archive(image_id, SHIM_RESULT, job.build_id) as stream:
                yield stream
        finally:
            forget(job, image_id)

    try:
        entry = take_shim(job.store, name, open_result, newer_than=time.time() if job.options.no_cache else 0.0)
    except NotKept as error:
        # It is built beside the program then, every time.
        job.emit(Notice(text=f"the built shim is not kept: {error.message}"))
        return job
    if not built:
        with phase(job.emit, "shim", "take the finished shim from the cache"):
            pass
    used = ShimUsed(key=entry.key, sha256=entry.sha256, reused=not built)
    return replace(job, plan=with_shim(job.plan, entry), shim=used)


def _with_kept_program(job: Job) -> Job:
    """Offline: the job with the image that a bundle brought for its build step, when it is of the very same step."""
    key = program_key(job.loaded, job.plan, job.inputs)
    with phase(job.emit, "inputs", "look for the finished build step"):
        image = load_program(job.store, job.engine, key)
    if image is None:
        job.emit(Notice(text="no bundle holds the result of this build step; it runs without a network"))
        return job
    return replace(job, plan=replace(job.plan, program_image=image))


def assembled(job: Job) -> Assembled:
    """The Containerfile and its context, as the engine wants them."""
    return assemble(job.loaded, job.plan, job.inputs, dialect=_dialect(job), emit=job.emit)


def _dialect(job: Job) -> Dialect:
    return Dialect(mounts=job.engine.info.mounts, ssh=job.engine.info.ssh)
