"""run-workflow: a node's workflow on rehearsed or booted images."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.amounts import seconds, size
from orchestrator.cli.console import answer, answer_outcome, say, say_notice
from orchestrator.cli.parameters import (
    DIRECTORY,
    PATH,
    json_failures,
    json_option,
    place_option,
    timeout_option,
)
from orchestrator.errors import ProgramError


def _programs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for value in values:
        name, equals, image = value.partition("=")
        if not (name and equals and image):
            raise click.BadParameter(f"{value!r} is not PROGRAM=IMAGE")
        images[name] = Path(image)
    return images


@click.command("run-workflow", short_help="Run a node's workflow, prover to verifier, on rehearsed or booted images.")
@click.argument("workflow", type=PATH, metavar="WORKFLOW.JSON")
@click.option("--program", "programs", multiple=True, callback=_programs, metavar="PROGRAM=IMAGE",
              help="Use this image for a program of the workflow; may be repeated.")  # fmt: skip
@click.option("-o", "--output", type=DIRECTORY, metavar="DIR", help="Keep each program's workspace here.")
@place_option
@timeout_option
@click.option("--boot", "in_qemu", is_flag=True, help="Boot the images in QEMU instead of rehearsing them.")
@json_option
@json_failures
def run_workflow(  # noqa: PLR0913 - one parameter an option
    *,
    workflow: Path,
    programs: dict[str, Path],
    output: Path | None,
    engine: str,
    timeout: float,
    in_qemu: bool,
    as_json: bool,
) -> None:
    """Run the programs of a workflow, in the format of `gevulot-cli exec --tasks`, one after the other.

    The files of a program's result go to the next one. Exit 0: every program gave a result; 7: one did not, and the
    programs after it were not run.
    """
    from orchestrator.kinds import boot, rehearse
    from orchestrator.run.sandbox.rehearsal import RehearseOptions
    from orchestrator.run.workflow.execution import StepRun, boot_runner, find_images, rehearse_runner
    from orchestrator.run.workflow.execution import run_workflow as run
    from orchestrator.run.workflow.workflow_file import read_workflow

    steps = read_workflow(workflow)
    images = find_images(steps, programs, workflow.parent)

    def told(done: StepRun) -> None:
        if as_json:
            return
        say(f"{done.step.program}: {done.error or 'gave its result'} ({seconds(done.outcome.seconds)})")
        if done.outcome.result is not None and done.error is None:
            data = done.outcome.result.data.decode(errors="replace")
            answer(f"{done.step.program}: {data}" if data.isprintable() else f"{done.step.program}: binary data")
            for file in done.files:
                answer(f"  {file.path}  {size(file.size)}  BLAKE3 {file.blake3}")

    options = RehearseOptions(engine=engine, timeout=timeout)
    runner = boot_runner(boot, timeout) if in_qemu else rehearse_runner(rehearse, options, say_notice)
    done = run(steps, images, workflow.parent, runner, told, output)
    failed = done[-1].error
    if as_json:
        tasks = [step_run.to_dict(number) for number, step_run in enumerate(done)]
        answer_outcome({"ok": failed is None, "tasks": tasks}, ok=failed is None)
    elif failed is not None:
        tail = done[-1].outcome.log.decode(errors="replace").split("\n")[-12:]
        raise ProgramError(
            f"{done[-1].step.program}: {failed}", remedy="`rehearse` it alone to see more", detail="\n".join(tail)
        )


COMMANDS = (run_workflow,)
