"""A program that is a script: the build container says what starts it, and project, settings and plan are completed."""

from __future__ import annotations

from dataclasses import replace

from orchestrator import archive as reading
from orchestrator.build.container_build import SCRIPT_STAGE, forget, only_such_step, run_containerfile
from orchestrator.build.packages import capabilities_of
from orchestrator.build.state import BuildJob
from orchestrator.containerfile.assemble import assemble
from orchestrator.errors import EngineError
from orchestrator.events import Notice
from orchestrator.plan.make import make_plan
from orchestrator.plan.plan import Plan
from orchestrator.project.script import is_interpreter, may_be_script, read_script

ANSWER = "/orchestrator/interpreter"
_LIMITS = reading.UnpackLimits(members=10)
_LONGEST = 1024 * 1024


def with_script(job: BuildJob) -> BuildJob:
    """The job of a program that an interpreter starts, which is then the guest's program; any other as it was.

    Errors: BuildStepError for a script that nothing can start.
    """
    order = job.order
    if not _is_asked(job):
        return job
    asking = replace(job, plan=replace(job.plan, asks_for_script=True))
    can = capabilities_of(order.engine)
    made = assemble(order.loaded, asking.plan, job.inputs, capabilities=can, sources=job.sources, emit=order.emit)
    with only_such_step(asking):
        image = run_containerfile(asking, made, SCRIPT_STAGE)
    try:
        script = read_script(_answer(job, image))
    finally:
        forget(job, image)
    if script is None:
        return job
    for text in script.warnings:
        order.emit(Notice(text=text, level="warning"))
    loaded = replace(order.loaded, script=script)
    # Every step has run again by now, if that was asked for.
    options = replace(order.options, no_cache=False)
    order = replace(order, loaded=loaded, settings=order.kind.read_settings(loaded), options=options)
    return replace(job, order=order, plan=_completed(job.plan, make_plan(loaded, order.settings, job.inputs)))


def _is_asked(job: BuildJob) -> bool:
    """Whether the container has to be asked: of a finished image the program's first bytes may say that it needn't."""
    build = job.order.loaded.project.build
    if not build.finished or build.language is not None or is_interpreter(build.program):
        return may_be_script(job.order.loaded)
    return _read(job, job.plan.program_image, build.program, 2) in (b"#!", None)


def _completed(known: Plan, made: Plan) -> Plan:
    """What the script decides of a plan of which the rest is known by now."""
    return replace(known, program=made.program, staging=made.staging, image=made.image)


def _answer(job: BuildJob, image: str) -> str:
    return (_read(job, image, ANSWER, _LONGEST) or b"").decode("utf-8", "surrogateescape")


def _read(job: BuildJob, image: str, path: str, most: int) -> bytes | None:
    """The first bytes of a file in an image; None for anything but a file."""
    try:
        with (
            job.order.engine.open_archive(image, path, job.order.build_id) as stream,
            reading.translate_errors(),
            reading.read_tar(reading.Meter(stream=stream, limits=_LIMITS)) as archive,
        ):
            for member in archive:
                return archive.content(member).read(most) if member.isreg() else None
    except reading.ArchiveError as error:
        raise EngineError(
            f"the engine's archive of {path} is broken: {error}", remedy="check the engine's log and try again"
        ) from error
    return None
