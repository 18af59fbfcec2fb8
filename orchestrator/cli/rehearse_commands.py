"""rehearse: run the packed program from the image's own files under the guest's limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.amounts import size
from orchestrator.cli.console import Relay, alike, answer, answer_outcome, more_like_it, say, say_findings, say_notice
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
from orchestrator.cli.rehearse_fix import fix as fix_missing
from orchestrator.cli.results import answer_result
from orchestrator.errors import ProgramError, UsageError

if TYPE_CHECKING:
    from orchestrator.run.sandbox.rehearsal import Rehearsal


@click.command(short_help="Run the packed program from the image's own files under the guest's limits.")
@image_argument
@task_option
@files_option
@click.option("--workspace", type=DIRECTORY, metavar="DIR", help="Use and keep this as /workspace.")
@place_option
@runtime_option
@timeout_option
@click.option(
    "--memory",
    type=click.IntRange(min=1),
    metavar="MIB",
    help="Memory of the guest (default: the receipt's, else 512).",
)
@cpus_option
@click.option(
    "--disk",
    type=click.IntRange(min=1),
    metavar="MIB",
    help="Limit what the program adds to /workspace (default: half of the free space, at most 16384).",
)
@click.option(
    "--threads", type=click.IntRange(min=1), default=4096, show_default=True, metavar="N", help="Limit its threads."
)
@click.option("--trace", is_flag=True, help="List files and libraries the program looked for but did not find.")
@click.option(
    "--fix",
    type=PROJECT,
    metavar="PROJECT.YAML",
    help="With --trace: after a failure, add those that its build has to this project.",
)
@click.option("--gpus", is_flag=True, help="Use this machine's GPUs and its driver's libraries.")
@json_option
@json_failures
def rehearse(image: Path, engine: str, fix: Path | None, as_json: bool, **given: object) -> None:
    """Run the packed program from the image's own files, and nothing else, under the guest's limits.

    No network, no fork or exec, a read-only root, /workspace the only writable place. Exit 0: the program ended with
    0 (and answered its task); 7: it failed; 3: no sandbox is available.
    """
    from orchestrator.run.sandbox.rehearsal import Options
    from orchestrator.run.sandbox.rehearsal import rehearse as run_rehearsal

    if fix is not None and not given["trace"]:
        raise UsageError("--fix writes what --trace finds", remedy="give both")
    sink = None if as_json else Relay()
    options = Options(engine=engine, sink=sink, **given)  # type: ignore[arg-type]
    done = run_rehearsal(existing_image(image), options, say_notice)
    _say_what_happened(done)
    if done.missing is not None and not as_json:
        for line in done.missing.lines():
            answer(line)
    fixed = {"fix": fix_missing(fix, engine, done, quiet=as_json)} if fix is not None else {}
    words = done.run.words(done.limits)
    if as_json:
        answer_outcome(done.to_dict() | fixed, ok=done.ok)
        return
    peak = f", peak memory {size(done.run.peak)}" if done.run.peak else ""
    say(f"{image}: {words}{peak} (engine: {done.place})")
    if done.result is not None and done.result.error is None:
        answer_result(done.result, kept=given["workspace"] is not None)
    if done.failure is not None:
        codes = [*(violation.code for violation in done.run.violations), *(finding.code for finding in done.damaged)]
        raise ProgramError(done.failure, remedy=_remedy(done.run.end, codes))


def _say_what_happened(done: Rehearsal) -> None:
    if done.swapped:
        say(f"this machine's driver libraries stood in for the image's: {', '.join(done.swapped)}")
    if not done.machine.exact:
        table = done.machine.guest.version
        say(f"this image's Nanos is {done.machine.version}; it is rehearsed as {table}, the nearest that is known")
    if done.run.errors:
        say("the real guest would have stopped; the rehearsal went on, to find all of it at once")
    # What most programs do without matters only when this one did not.
    told = [each for each in done.run.violations if each.severity != "note" or not done.run.ok]
    for violation, more in alike(told, lambda each: (each.severity, each.code)):
        say(f"guest {_WORDS[violation.severity]}: {violation}{more_like_it(more)}")
    say_findings(done.damaged)


_WORDS = {"error": "stops", "limit": "limit", "note": "note"}


def _remedy(end: str, codes: list[str]) -> str:
    if end == "memory":
        return "raise resources.memory in project.yaml, or have it use less"
    if end == "timeout":
        return "raise --timeout if it only needs longer"
    if end in ("disk", "threads"):
        return f"raise --{end} if it needs more"
    return "see what the guest can't do, above" if codes else "see its output, above"


COMMANDS = (rehearse,)
