"""A program that comes in a finished image: the user's Containerfile is built, and what its image says taken over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from orchestrator.build.container_build import run_request
from orchestrator.build.failed_state import open_shell
from orchestrator.build.kept_program import STAGE, load_program, program_tag
from orchestrator.build.shared_stage import SharedStages, is_shareable
from orchestrator.build.state import BuildJob, StageImage, phase
from orchestrator.containerfile.assemble import assemble_own, proxy_arguments
from orchestrator.containerfile.context import CONTAINERFILE
from orchestrator.containerfile.render_directory import own_tag_by_hand
from orchestrator.engine.base import BuildRequest, BuildSecret, StepFailedError
from orchestrator.errors import BuildStepError, UsageError
from orchestrator.events import Notice, ignore
from orchestrator.image_kind import GuestSettings
from orchestrator.inputs.store import key_of
from orchestrator.label import BASE
from orchestrator.network import CA_SECRET
from orchestrator.plan.make import make_plan
from orchestrator.plan.plan import Plan
from orchestrator.project.finished import with_image
from orchestrator.project.load import LoadedProject
from orchestrator.receipt.receipt import TakenStage
from orchestrator.resolved import Inputs, identity

PLATFORM = "linux/amd64"
_CERTIFICATES = f"--mount=type=secret,id={CA_SECRET},target=/etc/ssl/certs/ca-certificates.crt"
_UNTRUSTED = re.compile(
    r"certificate verify failed|SSL certificate problem|unable to get (?:local )?issuer certificate|x509: certificate"
    r"|self[- ]signed certificate|invalid peer certificate|UnknownIssuer|unable to locally verify the issuer",
    re.IGNORECASE,
)
"""What OpenSSL (curl, git, Python, Node, apt's GnuTLS too), Go and rustls say where they lack a proxy's certificate."""


def with_finished_image(job: BuildJob) -> BuildJob:
    """The job whose project is completed by what the program's image says, and whose plan begins with that image.

    Errors: BuildStepError from the user's own Containerfile; UsageError for an image that starts no program.
    """
    order, taken = job.order, tuple[TakenStage, ...]()
    reference = job.plan.program_image
    if not reference:
        reference, taken = _own_image(job)
    with phase(order.emit, "program", "read what the program's image says"):
        settings = order.engine.image_settings(reference)
        if settings.platform != PLATFORM:
            raise _of_other_platform(job, settings.platform)
        loaded = with_image(order.loaded, settings, lambda path: _has_file(job, reference, path))
    order = replace(order, loaded=loaded, settings=order.kind.read_settings(loaded))
    plan = replace(make_plan(loaded, order.settings, job.inputs), shim=job.plan.shim, program_image=reference)
    return replace(job, order=order, plan=plan, taken_stages=(*job.taken_stages, *taken))


def nominal_plan(loaded: LoadedProject, settings: GuestSettings, inputs: Inputs) -> Plan:
    """The plan as far as it is known without an engine, which alone knows what an image says of its program.

    UsageError where project.yaml doesn't name the program either.
    """
    build = loaded.project.build
    if build.finished and not build.program:
        findings = loaded.findings()
        message = "is needed here: no engine is asked what the image starts"
        findings.error("missing-key", "build.program", message, "name the program's path in the image, as /app/prover")
        raise findings.failure()
    plan = make_plan(loaded, settings, inputs)
    own = plan.finished and not plan.program_image
    return replace(plan, program_image=own_tag_by_hand(loaded)) if own else plan


def own_key(job: BuildJob) -> str:
    """The cache key of what the user's own Containerfile makes: all that it is given, and what its images are."""
    build, images = job.order.loaded.project.build, job.inputs.containerfile
    digests = dict(line.split(" ")[:2] for line in images.packages) if images is not None else {}
    base = {image: identity(job.inputs.base) for image in _references(job)} if job.inputs.base is not None else {}
    made = assemble_own(job.order.loaded, job.plan, {**base, **digests}, labelled=False, emit=ignore)
    asked = [build.target or "", *(f"{name}={value}" for name, value in sorted(build.args.items()))]
    return key_of("program", "own", made.containerfile, made.context.digest(), *asked, PLATFORM)


def _references(job: BuildJob) -> Mapping[str, str]:
    return job.inputs.containerfile.references if job.inputs.containerfile is not None else {}


def _own_image(job: BuildJob) -> tuple[str, tuple[TakenStage, ...]]:
    """The image of the user's own Containerfile: kept by the engine, brought by a bundle or from a shared cache, or
    built now; and whether another machine made it."""
    order, key = job.order, own_key(job)
    own, name = order.loaded.containerfile, order.loaded.project.build.containerfile
    if own is not None and own.unpinned:
        text = f"{name} takes {', '.join(own.unpinned)} from outside, which project.lock cannot pin"
        order.emit(Notice(text=text, level="warning"))
    shared, image = SharedStages.of(order), StageImage(stage=STAGE, key=key, tag=program_tag(key))
    if not order.options.runs_again("program"):
        if kept := load_program(order.store, order.engine, key):
            with phase(order.emit, "program", f"take what {name} makes from an earlier build"):
                return kept, shared.taken(image)
        if is_shareable(order) and shared.take(image):
            return image.tag, shared.taken(image)
    with order.store.lock(f"own-{order.engine.info.kind}-{key}"):
        tag = _build_own(job, image.tag)
    shared.forget_taken(image)
    # What was read while it ran may not be what was there when its key was made.
    if is_shareable(order) and own_key(job) == key:
        shared.offer(image)
    return tag, ()


def _build_own(job: BuildJob, tag: str) -> str:
    """Build the user's own Containerfile; `tag`, which names the image then. BuildStepError."""
    order, build, references = job.order, job.order.loaded.project.build, _references(job)
    labelled = not order.engine.capabilities.buildkit
    made = assemble_own(order.loaded, job.plan, references, labelled=labelled, emit=order.emit)
    secrets = [BuildSecret(id=name, data=value) for name, value in order.secrets.values.items()]
    if order.engine.capabilities.mounts:
        secrets.append(BuildSecret(id=CA_SECRET, data=made.certificates, hide=False))
    request = BuildRequest(
        context=(),
        containerfile=build.containerfile or CONTAINERFILE,
        tag=tag,
        build_id=BASE,
        place=f"{order.loaded.root}\0{job.plan.name}\0{build.containerfile}",
        target=build.target or "",
        build_args={**({} if order.options.offline else proxy_arguments(order.loaded)), **build.args},
        no_cache=order.options.runs_again("program"),
        offline=order.options.offline,
        images=tuple(references.values()),
        secrets=tuple(secrets),
        ssh=order.secrets.agent,
        cache_from=order.options.layers.of(order.loaded.project.name).sources,
    )
    try:
        run_request(order.engine, request, made, order.emit)
    except StepFailedError as failure:
        open_shell(order, request, made, failure)
        raise _explain(job, failure) from failure
    return tag


def _explain(job: BuildJob, failure: StepFailedError) -> BuildStepError:
    name = job.order.loaded.project.build.containerfile
    status = f" with status {failure.status}" if failure.status is not None else ""
    message = f"`{failure.instruction}` of {name} failed{status}" if failure.instruction else failure.message
    remedy = "its last lines are above; correct it and build again (finished steps are cached)"
    if _UNTRUSTED.search(failure.tail):
        remedy = (
            f"give the step this machine's CA certificates, as `RUN {_CERTIFICATES} …`, or where its tool wants them"
        )
    finding = job.order.loaded.findings().error("build-step", "build.containerfile", message, remedy)
    return BuildStepError(message, remedy=remedy, findings=(finding,), detail=failure.tail)


def _has_file(job: BuildJob, reference: str, path: str) -> bool:
    try:
        with job.order.engine.open_archive(reference, path, job.order.build_id):
            return True
    except BuildStepError:
        return False


def _of_other_platform(job: BuildJob, platform: str) -> UsageError:
    findings, build = job.order.loaded.findings(), job.order.loaded.project.build
    field = "build.image" if build.image else "build.containerfile"
    findings.error(
        "platform", field, f"the image is for {platform}", f"give or build one for {PLATFORM}, as the node is"
    )
    return findings.failure()
