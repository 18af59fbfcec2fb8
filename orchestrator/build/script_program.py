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
from orchestrator.project.script import may_be_script, read_script

ANSWER = "/orchestrator/interpreter"
_LIMITS = reading.UnpackLimits(members=10)
_LONGEST = 1024 * 1024


def with_script(job: BuildJob) -> BuildJob:
    """The job of a program that an interpreter starts, which is then the guest's program; any other as it was.

    Errors: BuildStepError for a script that nothing can start.
    """
    order = job.order
    if not may_be_script(order.loaded):
        return job
    asking = replace(job, plan=replace(job.plan, asks_for_script=True))
    made = assemble(order.loaded, asking.plan, job.inputs, capabilities=capabilities_of(order.engine), emit=order.emit)
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
    order = replace(order, loaded=loaded, settings=order.kind.read_settings(loaded))
    return replace(job, order=order, plan=_completed(job.plan, make_plan(loaded, order.settings, job.inputs)))


def _completed(known: Plan, made: Plan) -> Plan:
    """What the script decides of a plan of which the rest is known by now."""
    return replace(known, program=made.program, staging=made.staging, image=made.image)


def _answer(job: BuildJob, image: str) -> str:
    try:
        with (
            job.order.engine.open_archive(image, ANSWER, job.order.build_id) as stream,
            reading.translate_errors(),
            reading.read_tar(reading.Meter(stream=stream, limits=_LIMITS)) as archive,
        ):
            for member in archive:
                if member.isreg():
                    return archive.small(member, _LONGEST).decode("utf-8", "surrogateescape")
    except reading.ArchiveError as error:
        raise EngineError(
            f"the engine's archive of {ANSWER} is broken: {error}", remedy="check the engine's log and try again"
        ) from error
    return ""
