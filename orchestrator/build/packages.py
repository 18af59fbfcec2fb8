"""Debian packages on a base: asked for in a container of it, installed from files into an image that is kept."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from orchestrator import archive as reading
from orchestrator.build.container_build import PACKAGES_STAGES, forget_image, run_containerfile, run_request
from orchestrator.build.shared_stage import SharedStages
from orchestrator.build.state import BuildJob, StageImage, phase
from orchestrator.containerfile.assemble import (
    BuilderCapabilities,
    assemble_listing,
    assemble_packages,
    proxy_arguments,
)
from orchestrator.containerfile.context import CONTAINERFILE
from orchestrator.containerfile.render import INSTALL_PACKAGES, PackagesStage, render_packages, render_script
from orchestrator.engine.base import BuildRequest, BuildSecret, Engine, StepFailedError
from orchestrator.errors import EngineError, InputError
from orchestrator.events import Emit, ignore
from orchestrator.inputs.debs import Listed, PackageLister, fetch_debs
from orchestrator.inputs.resolve import ResolveOptions, access_of
from orchestrator.inputs.store import Store, key_of
from orchestrator.label import BASE
from orchestrator.network import CA_SECRET
from orchestrator.project.load import LoadedProject
from orchestrator.receipt.receipt import TakenStage
from orchestrator.resolved import Input, Inputs, checksums, identity

TAG = "localhost/orchestrator/packages"
LISTED = "/orchestrator/listed"
_LIMITS = reading.UnpackLimits(members=100)
_LONGEST = 16 * 2**20


def capabilities_of(engine: Engine) -> BuilderCapabilities:
    """What the engine's RUN understands."""
    return BuilderCapabilities(mounts=engine.capabilities.mounts, ssh=engine.capabilities.ssh)


def package_lister(loaded: LoadedProject, engine: Engine) -> PackageLister:
    """Asks apt in a container of the base, which reaches its mirror as every build step does."""

    def listed(base: Input, names: Sequence[str]) -> Listed:
        made = assemble_listing(loaded, base.reference, names, capabilities=capabilities_of(engine))
        secrets = (BuildSecret(id=CA_SECRET, data=made.certificates, hide=False),) if engine.capabilities.mounts else ()
        build_id = uuid4().hex
        request = BuildRequest(
            context=(),
            containerfile=CONTAINERFILE,
            tag=f"localhost/orchestrator/listed:{build_id[:12]}",
            build_id=build_id,
            build_args=proxy_arguments(loaded),
            # The step's text is always the same, and the mirror is not.
            no_cache=True,
            images=(base.reference,),
            secrets=secrets,
        )
        try:
            image = run_request(engine, request, made, ignore)
        except StepFailedError as failure:
            raise _not_listed(base, failure) from failure
        try:
            return _read(engine, image, build_id)
        finally:
            forget_image(engine, image, build_id)

    return listed


def _not_listed(base: Input, failure: StepFailedError) -> InputError:
    lines = [line for line in failure.tail.splitlines() if line.startswith(("E:", "Err:"))]
    said = "\n".join(lines[-8:]) or "\n".join(failure.tail.splitlines()[-4:]) or failure.message
    if "Unable to locate package" in said or "has no installation candidate" in said:
        remedy = "correct the name, or use a base whose package sources have it"
    else:
        remedy = "check the network, the proxy settings, and the package sources of the base"
    return InputError(f"apt on {base.source} could not work out what to install:\n{said}", remedy=remedy)


def _read(engine: Engine, image: str, build_id: str) -> Listed:
    files: dict[str, str] = {}
    try:
        with (
            engine.open_archive(image, LISTED, build_id) as stream,
            reading.translate_errors(),
            reading.read_tar(reading.Meter(stream=stream, limits=_LIMITS)) as archive,
        ):
            for member in archive:
                if member.isreg():
                    name = member.name.rpartition("/")[2]
                    files[name] = archive.small(member, _LONGEST).decode("utf-8", "replace")
    except reading.ArchiveError as error:
        raise EngineError(
            f"the engine's archive of {LISTED} is broken: {error}", remedy="check the engine's log and try again"
        ) from error
    return Listed(uris=files.get("uris", ""), records=files.get("records", ""), unlike=files.get("unlike", "").strip())


def with_packages(job: BuildJob) -> BuildJob:
    """The job whose plan begins with an image that has build.packages: kept by the engine, or made now."""
    debs, base = job.inputs.packages, job.inputs.base
    if debs is None or base is None:
        return job
    stage = PackagesStage(stage=PACKAGES_STAGES[0], base=job.plan.base, folder="program", names=job.plan.packages)
    tag, taken = _image(job, stage, debs, base)
    return replace(job, plan=replace(job.plan, packages_image=tag), taken_stages=(*job.taken_stages, *taken))


def with_shim_packages(job: BuildJob) -> BuildJob:
    """The same of the stage that builds the shim."""
    debs, base, shim = job.inputs.gevulot_packages, job.inputs.gevulot_base, job.plan.shim
    if debs is None or base is None or shim is None:
        return job
    stage = PackagesStage(stage=PACKAGES_STAGES[1], base=shim.base, folder="gevulot", names=shim.packages)
    tag, taken = _image(job, stage, debs, base)
    plan = replace(job.plan, shim=replace(shim, packages_image=tag))
    return replace(job, plan=plan, taken_stages=(*job.taken_stages, *taken))


def _image(job: BuildJob, stage: PackagesStage, debs: Input, base: Input) -> tuple[str, tuple[TakenStage, ...]]:
    """The reference of the base with the packages, and whether another machine made it. One build makes it, or takes it
    from a shared cache, and the others wait."""
    order = job.order
    if not debs.packages:
        return stage.base, ()
    text = render_packages(replace(stage, base=identity(base))), *render_script(INSTALL_PACKAGES).values()
    key = key_of("packages", *text, checksums(debs.debs), platform.machine())
    shared, image = (
        SharedStages.of(order),
        StageImage(stage=stage.stage, key=key, tag=f"{TAG}:{key.rpartition('-')[2][:12]}"),
    )
    again = order.options.runs_again("packages")
    with order.store.lock(f"import-{order.engine.info.kind}-{key}"):
        if not again and order.engine.image_digest(image.tag) is not None:
            with phase(order.emit, stage.stage, f"take {' '.join(stage.names)} from an earlier build"):
                pass
        elif again or not shared.take(image):
            fetched = fetch_debs(job.access, debs)
            made = assemble_packages(stage, fetched, capabilities=capabilities_of(order.engine))
            kept = replace(job, order=replace(order, build_id=BASE))
            run_containerfile(kept, made, stage.stage, image.tag)
            shared.forget_taken(image)
        shared.offer(image)
    return image.tag, shared.taken(image)


def with_package_files(loaded: LoadedProject, inputs: Inputs, emit: Emit, store: Store | None = None) -> Inputs:
    """The inputs with the files of their Debian packages, fetched if they must be."""
    access = access_of(loaded, emit, ResolveOptions(store=store))
    packages, shims = inputs.packages, inputs.gevulot_packages
    return replace(
        inputs,
        packages=fetch_debs(access, packages) if packages is not None else None,
        gevulot_packages=fetch_debs(access, shims) if shims is not None else None,
    )
