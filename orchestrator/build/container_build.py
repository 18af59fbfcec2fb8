"""A Containerfile run by the engine, and a failed step in words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orchestrator.build.context_request import with_context
from orchestrator.build.kept_shim import STAGE as SHIM_STAGE
from orchestrator.build.refusals import find_refusal
from orchestrator.build.state import BuildJob
from orchestrator.containerfile.assemble import AssembledContext, proxy_arguments
from orchestrator.containerfile.context import CONTAINERFILE
from orchestrator.containerfile.members import status_of
from orchestrator.containerfile.render import render_program
from orchestrator.engine.base import BuildRequest, BuildSecret, Engine, LayerLostError, Leftover, StepFailedError
from orchestrator.engine.build import MAKE_ROOM, is_full
from orchestrator.errors import BuildStepError, EngineError
from orchestrator.events import Emit, Notice
from orchestrator.network import CA_SECRET, FRESH_SECRET
from orchestrator.plan.origins import line_in_script, origin_of
from orchestrator.plan.plan import Plan
from orchestrator.project.load import LoadedProject

PACKAGES_STAGES = ("packages", "gevulot-packages")
"""The stages that install Debian packages: from files, without a network and without anything of the user's."""
RESULT_STAGE, STAGING_STAGE, SCRIPT_STAGE = "result", "staging", "script"
STAGING_SCRIPTS = ("stage-tree.sh", "find-interpreter.sh")
"""The scripts that gather what goes into the image: an `error:` line of theirs is a refusal, no accident."""
BUILD_ATTEMPTS = 3
"""Builds of others that end at the same time can take a layer away: twice in a row is bad luck enough."""


def packed_stage(plan: Plan) -> str:
    """The stage that the image is packed from."""
    return RESULT_STAGE if plan.image.template else STAGING_STAGE


def run_containerfile(job: BuildJob, made: AssembledContext, target: str, tag: str = "") -> str:
    """Build stage `target` of what was assembled; the image id. BuildStepError says where a failed step came from."""
    packages = target in PACKAGES_STAGES
    again = job.order.options.runs_again("packages" if packages else SHIM_STAGE if target == SHIM_STAGE else "program")
    # The user's own are for the user's step; the shim's sources come from elsewhere.
    own = target != SHIM_STAGE and not packages
    secrets = [BuildSecret(id=name, data=value) for name, value in job.order.secrets.values.items() if own]
    if job.order.engine.capabilities.mounts and not packages:
        secrets.append(BuildSecret(id=CA_SECRET, data=made.certificates, hide=False))
        if again and own:
            secrets.append(BuildSecret(id=FRESH_SECRET, data=b"fresh", hide=False))
    layers = job.order.options.layers.of(job.plan.name)
    offline = packages or job.order.options.offline
    request = BuildRequest(
        context=(),
        containerfile=CONTAINERFILE,
        tag=tag or f"localhost/orchestrator/{job.plan.name.lower()}:{target}-{job.order.build_id[:12]}",
        build_id=job.order.build_id,
        # What an engine keeps of a context is worth it for what the user changes.
        place=f"{job.order.loaded.root}\0{job.plan.name}\0{target}" if own else "",
        target=target,
        build_args={} if offline else proxy_arguments(job.order.loaded),
        no_cache=again,
        offline=offline,
        images=tuple(base.reference for base in (job.inputs.base, job.inputs.gevulot_base, job.inputs.image) if base),
        secrets=tuple(secrets),
        ssh=job.order.secrets.agent if own else "",
        cache_from=layers.sources if own else (),
        cache_to=layers.target if own else "",
    )
    try:
        return run_request(job.order.engine, request, made, job.order.emit)
    except StepFailedError as failure:
        # BuildKit names no stage where a Containerfile has but one.
        failure.stage = failure.stage or (target if target in (SHIM_STAGE, *PACKAGES_STAGES) else "")
        if own:
            from orchestrator.build.failed_state import open_shell

            open_shell(job.order, request, made, failure)
        raise _explain(failure, job, made) from failure


@contextmanager
def only_such_step(job: BuildJob) -> Iterator[None]:
    """One build of a build step at a time, so that the next takes it from the cache: BuildKit sees to that itself.

    Steps count as the same where their text, what is installed, and the sources' names and sizes are: to read all
    sources for a more exact answer would take longer than to wait for nothing now and then.
    """
    engine, options = job.order.engine, job.order.options
    if engine.capabilities.buildkit or options.runs_again("program") or job.plan.program_image:
        yield
        return
    told = hashlib.sha256(render_program(job.plan).encode())
    for member in job.sources.members if job.sources is not None else ():
        size = status_of(member.source).st_size if member.source is not None else 0
        told.update(f"{member.path}\0{size}\0".encode(errors="surrogateescape"))
    # So many locks, and not one for each state that sources ever had.
    with job.order.store.lock(f"step-{engine.info.kind}-{told.hexdigest()[:3]}", "runs the same build step"):
        yield


def run_request(engine: Engine, request: BuildRequest, made: AssembledContext, emit: Emit) -> str:
    """Run a build with the context of what was assembled, again where another's took a layer away; the image id."""
    for attempt in range(1, BUILD_ATTEMPTS + 1):
        try:
            return engine.build(with_context(request, made.context), emit)
        except LayerLostError as lost:
            if attempt == BUILD_ATTEMPTS:
                raise
            emit(Notice(text=f"{lost.message}; restarting the build"))
    raise AssertionError("unreachable")


def forget(job: BuildJob, image_id: str) -> None:
    """Remove an image of this build from the engine; its layers stay as the engine's cache."""
    forget_image(job.order.engine, image_id, job.order.build_id)


def forget_image(engine: Engine, image_id: str, build_id: str) -> None:
    """As `forget`, of any build."""
    with suppress(EngineError):
        engine.remove(Leftover(kind="image", id=image_id, name="", build_id=build_id))


def _is_staging(failure: StepFailedError) -> bool:
    return any(script in failure.instruction for script in STAGING_SCRIPTS)


def _explain(failure: StepFailedError, job: BuildJob, made: AssembledContext) -> BuildStepError:
    """A failed step in words: its last lines, where it came from in project.yaml, what to do."""
    loaded = job.order.loaded
    origin = origin_of(failure.stage, failure.instruction, job.plan)
    field = origin.field if origin is not None else ""
    line = origin.line if origin is not None else None
    known = job.plan.image.explain(field, failure.tail) if origin is not None else None
    refusal = find_refusal(failure.tail, loaded) if _is_staging(failure) else None
    if known is not None:
        message, remedy = known.message, known.remedy
    elif refusal is not None:
        message, remedy, field, line = refusal.message, refusal.remedy, refusal.field, loaded.line(refusal.field)
    else:
        message, remedy = _generic(failure, field, job, made)
    if field == "build.run":
        line = _line_of_run(loaded, failure.tail)
    finding = loaded.findings().error("build-step", field, message, remedy, line=line)
    return BuildStepError(message, remedy=remedy, findings=(finding,), detail=failure.tail)


def _generic(failure: StepFailedError, field: str, job: BuildJob, made: AssembledContext) -> tuple[str, str]:
    """Message and remedy for a step that nobody explains; what the user's own lacked is read from its last lines."""
    status = f" with status {failure.status}" if failure.status is not None else ""
    message = f"the build step failed{status}" if failure.instruction else failure.message
    if is_full(failure.tail):
        return message, MAKE_ROOM
    if "git_proxy_options" in failure.tail:
        message += "; Debian's cargo fetches no git dependency, because its libgit2 is older than it asks for"
        return message, "add a Cargo.lock with their https addresses: they are then fetched on this machine"
    loaded = job.order.loaded
    from orchestrator.build.needed_packages import find_lacks

    lacks = find_lacks(failure.tail, loaded.project.build.packages) if field == "build.run" else []
    if lacks:
        packages = dict.fromkeys(package for lack in lacks for package in lack.packages)
        message += f"; {' and '.join(lack.name for lack in lacks)} {'was' if len(lacks) == 1 else 'were'} not found"
        return message, f"add {', '.join(packages)} to build.packages"
    if is_full(failure.tail):
        return message, MAKE_ROOM
    remedy = "its last lines are above; correct it and build again (finished steps are cached)"
    return message, remedy + _about_program(loaded, made)


def _about_program(loaded: LoadedProject, made: AssembledContext) -> str:
    """What to know about a program that is there on this host and isn't in the context: "" when there is none."""
    context = (loaded.root / loaded.project.build.context).resolve()
    program = context / loaded.project.build.program  # an absolute one is no file of this host
    cache = next((cache_path for cache_path in made.context.caches if cache_path in program.parents), None)
    if cache is None or not program.is_file():
        return ""
    name, shown = loaded.project.build.program, cache.relative_to(context)
    return (
        f". {name} of this host was not used: {shown}/ is marked as a cache; to use it, add `!{name}` to .dockerignore"
    )


def _line_of_run(loaded: LoadedProject, tail: str) -> int:
    """The line of project.yaml at which the user's script failed, as far as the shell said; else where it begins."""
    if not loaded.project.build.run:  # what the language does by default
        return loaded.line("build.language") or 1
    inner = line_in_script(tail)
    script, text = loaded.project.build.run.split("\n"), loaded.text.split("\n")
    if inner is None or inner > len(script):
        return loaded.run_line
    line = loaded.run_line + inner - 1
    # Only a block scalar keeps the script's lines; in any other style they can't be told apart.
    as_written = line <= len(text) and text[line - 1].strip() == script[inner - 1].strip()
    return line if as_written else loaded.run_line
