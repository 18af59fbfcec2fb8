"""rehearse: run the packed program from the image's own files under the guest's limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.amounts import size
from orchestrator.cli.console import Relay, answer, answer_outcome, say
from orchestrator.cli.parameters import (
    DIRECTORY,
    PROJECT,
    cpus_option,
    existing_image,
    files_option,
    image_argument,
    json_failures,
    json_option,
    place_option,
    runtime_option,
    task_option,
    timeout_option,
)
from orchestrator.cli.results import answer_result
from orchestrator.errors import ProgramError, UsageError

if TYPE_CHECKING:
    from orchestrator.rehearse.run import Rehearsal


@click.command(short_help="Run the packed program from the image's own files under the guest's limits.")
@image_argument
@task_option
@files_option
@click.option("--workspace", type=DIRECTORY, metavar="DIR", help="Use and keep this as /workspace.")
@place_option
@runtime_option
@timeout_option
@click.option("--memory", type=click.IntRange(min=1), metavar="MIB", help="Memory (default: the receipt's, else 512).")
@cpus_option
@click.option("--trace", is_flag=True, help="List the files and libraries that it looked for and that aren't there.")
@click.option("--fix", type=PROJECT, metavar="PROJECT.YAML", help="With --trace: write those into this project.")
@click.option("--gpus", is_flag=True, help="This machine's GPUs, and its driver's libraries.")
@json_option
@json_failures
def rehearse(image: Path, engine: str, fix: Path | None, as_json: bool, **given: object) -> None:
    """Run the packed program from the image's own files, and nothing else, under the guest's limits.

    No network, no fork or exec, a read-only root, /workspace the only writable place. Exit 0: the program ended with
    0 (and answered its task); 7: it failed; 3: there is no place where it could run.
    """
    from orchestrator.rehearse.run import Options
    from orchestrator.rehearse.run import rehearse as run_rehearsal

    if fix is not None and not given["trace"]:
        raise UsageError("--fix writes what --trace finds", remedy="give both")
    sink = None if as_json else Relay()
    options = Options(engine=engine, sink=sink, **given)  # type: ignore[arg-type]
    done = run_rehearsal(existing_image(image), options)
    _say_what_happened(done)
    if done.missing is not None and not as_json:
        for line in done.missing.lines():
            answer(line)
    if done.missing is not None and fix is not None:
        from orchestrator.rehearse.fix import fix_project

        for added in fix_project(fix, done.missing):
            say(f"{fix}: added {added}")
    words = done.run.words(done.limits)
    if as_json:
        answer_outcome(done.to_dict(), ok=done.ok)
        return
    peak = f", peak memory {size(done.run.peak)}" if done.run.peak else ""
    say(f"{image}: {words}{peak} (engine: {done.place})")
    if done.result is not None and done.result.error is None:
        answer_result(done.result, kept=given["workspace"] is not None)
    if not done.ok:
        reason = done.result.error if done.result is not None and done.run.ok else None
        raise ProgramError(reason or words, remedy=_remedy(done.run.end, [v.code for v in done.run.violations]))


def _say_what_happened(done: Rehearsal) -> None:
    if done.swapped:
        say(f"this machine's driver libraries stood in for the image's: {', '.join(done.swapped)}")
    for violation in done.run.violations:
        say(f"guest limit: {violation}")


def _remedy(end: str, codes: list[str]) -> str:
    if end == "memory":
        return "raise resources.memory in project.yaml, or have it use less"
    if end == "timeout":
        return "raise --timeout if it only needs longer"
    return "see the guest limits that it hit, above" if codes else "see its output, above"


COMMANDS = (rehearse,)
