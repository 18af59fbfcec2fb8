"""A Containerfile run by the engine, and a failed step in words."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from orchestrator.build.kept_shim import STAGE as SHIM_STAGE
from orchestrator.build.state import BuildJob
from orchestrator.containerfile.assemble import CONTAINERFILE, AssembledContext, proxy_arguments
from orchestrator.engine.base import BuildRequest, BuildSecret, LayerLostError, Leftover, StepFailedError
from orchestrator.errors import BuildStepError, EngineError
from orchestrator.events import Notice
from orchestrator.network import CA_SECRET
from orchestrator.packers.ops import explain
from orchestrator.plan.origins import line_in_script, origin_of
from orchestrator.project.load import LoadedProject

TARGET = "result"
"""The stage that an image is packed from."""
BUILD_ATTEMPTS = 3
"""Builds of others that end at the same time can take a layer away: twice in a row is bad luck enough."""


def run_containerfile(job: BuildJob, made: AssembledContext, target: str, tag: str = "") -> str:
    """Build stage `target` of what was assembled; the image id. BuildStepError says where a failed step came from."""
    # The user's own are for the user's step; the shim's sources come from elsewhere.
    own = target != SHIM_STAGE
    secrets = [BuildSecret(id=name, data=value) for name, value in job.order.secrets.values.items() if own]
    if job.order.engine.info.mounts:
        secrets.append(BuildSecret(id=CA_SECRET, data=made.certificates, hide=False))
    request = BuildRequest(
        context=(),
        containerfile=CONTAINERFILE,
        tag=tag or f"localhost/orchestrator/{job.plan.name.lower()}:{target}-{job.order.build_id[:12]}",
        build_id=job.order.build_id,
        target=target,
        build_args={} if job.order.options.offline else proxy_arguments(job.order.loaded),
        no_cache=job.order.options.no_cache,
        offline=job.order.options.offline,
        images=tuple(base.reference for base in (job.inputs.base, job.inputs.gevulot_base) if base is not None),
        secrets=tuple(secrets),
        ssh=job.order.secrets.agent if own else "",
    )
    for attempt in range(1, BUILD_ATTEMPTS + 1):
        try:
            return job.order.engine.build(replace(request, context=made.context.stream()), job.order.emit)
        except LayerLostError as lost:
            if attempt == BUILD_ATTEMPTS:
                raise
            job.order.emit(Notice(text=f"{lost.message}; restarting the build"))
        except StepFailedError as failure:
            raise _explain(failure, job, made) from failure
    raise AssertionError("unreachable")


def forget(job: BuildJob, image_id: str) -> None:
    """Remove an image of this build from the engine; its layers stay as the engine's cache."""
    with suppress(EngineError):
        job.order.engine.remove(Leftover(kind="image", id=image_id, name="", build_id=job.order.build_id))


def _explain(failure: StepFailedError, job: BuildJob, made: AssembledContext) -> BuildStepError:
    """A failed step in words: its last lines, where it came from in project.yaml, what to do."""
    loaded = job.order.loaded
    origin = origin_of(failure.stage, failure.instruction, job.plan.origins)
    if origin is not None and origin.field == "ops":
        base = explain(failure.tail)
        message, remedy = base.message, base.remedy
    else:
        status = f" with status {failure.status}" if failure.status is not None else ""
        message = f"the build step failed{status}" if failure.instruction else failure.message
        remedy = "its last lines are above; correct it and build again (finished steps are cached)"
        remedy += _about_program(loaded, made)
    line = origin.line if origin else None
    if origin is not None and origin.field == "build.run":
        line = _line_of_run(loaded, failure.tail)
    finding = loaded.findings().error("build-step", origin.field if origin else "", message, remedy, line=line)
    return BuildStepError(message, remedy=remedy, findings=(finding,), detail=failure.tail)


def _about_program(loaded: LoadedProject, made: AssembledContext) -> str:
    """What to know about a program that is there on this host and isn't in the context: "" when there is none."""
    context = (loaded.root / loaded.project.build.context).resolve()
    program = context / loaded.project.build.program
    cache = next((cache_path for cache_path in made.context.caches if cache_path in program.parents), None)
    if cache is None or not program.is_file():
        return ""
    name, shown = loaded.project.build.program, cache.relative_to(context)
    return (
        f". {name} of this host was not used: {shown}/ is marked as a cache; to use it, add `!{name}` to .dockerignore"
    )


def _line_of_run(loaded: LoadedProject, tail: str) -> int:
    """The line of project.yaml at which the user's script failed, as far as the shell said; else where it begins."""
    inner = line_in_script(tail)
    script, text = loaded.project.build.run.split("\n"), loaded.text.split("\n")
    if inner is None or inner > len(script):
        return loaded.run_line
    line = loaded.run_line + inner - 1
    # Only a block scalar keeps the script's lines; in any other style they can't be told apart.
    as_written = line <= len(text) and text[line - 1].strip() == script[inner - 1].strip()
    return line if as_written else loaded.run_line
