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
from orchestrator.files import write_text

if TYPE_CHECKING:
    from orchestrator.run.outcome import Outcome
    from orchestrator.run.sandbox.rehearsal import Rehearsal
    from orchestrator.run.sandbox.trace import Missing


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
@click.option(
    "--trim",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --trace: after a success, write the names of the files it opened here, for `stage.trim`.",
)
@click.option("--record", "recording", is_flag=True, help="Write into the image's receipt how it ended.")
@click.option("--gpus", is_flag=True, help="Use this machine's GPUs and its driver's libraries.")
@json_option
@json_failures
def rehearse(  # noqa: PLR0913 - one parameter an option
    *,
    image: Path,
    task: Path | None,
    files: tuple[Path, ...],
    workspace: Path | None,
    engine: str,
    runtime: str | None,
    timeout: float,
    memory: int | None,
    cpus: int | None,
    disk: int | None,
    threads: int,
    trace: bool,
    fix: Path | None,
    trim: Path | None,
    recording: bool,
    gpus: bool,
    as_json: bool,
) -> None:
    """Run the packed program from the image's own files, and nothing else, under the guest's limits.

    No network, no fork or exec, a read-only root, /workspace the only writable place. Exit 0: the program ended with
    0 (and answered its task); 7: it failed; 3: no sandbox is available.
    """
    from orchestrator.kinds import rehearse as run_rehearsal
    from orchestrator.run.recorded import record_rehearsal
    from orchestrator.run.sandbox.rehearsal import RehearseOptions

    _check_tracing(trace, fix, trim)
    with Relay() as relay:
        options = RehearseOptions(
            engine=engine, timeout=timeout, memory=memory, cpus=cpus, disk=disk, threads=threads, runtime=runtime,
            task=task, files=files, workspace=workspace, trace=trace, gpus=gpus, sink=None if as_json else relay,
        )  # fmt: skip
        done = run_rehearsal(existing_image(image), options, say_notice)
    _say_what_happened(done)
    if done.missing is not None and not as_json:
        _answer_missing(done.missing, succeeded=done.ok)
    fixed = {"fix": fix_missing(fix, engine, done, quiet=as_json)} if fix is not None else {}
    if trim is not None and done.ok:
        write_text(trim, f"# What {image.name} opened in a rehearsal, for stage.trim\n" + "\n".join(done.used) + "\n")
        if not as_json:
            say(f"{trim}: {len(done.used)} files; name it as `stage: {{trim: …}}`, and rehearse again what it leaves")
    told = record_rehearsal(image, done.outcome, done.failure) if recording else ""
    if as_json:
        recorded = {"recorded": not told} if recording else {}
        answer_outcome(done.to_dict() | fixed | recorded, ok=done.ok)
        return
    if recording:
        say(f"not recorded: {told}" if told else "recorded in the receipt")
    run = done.run
    peak = f", peak memory {size(run.peak)}" if run.peak else ""
    say(f"{image}: {run.reason}{peak} (engine: {run.ran_on})")
    if run.result is not None and run.result.error is None:
        answer_result(run.result, kept=workspace is not None)
    if done.failure is not None:
        raise ProgramError(done.failure, remedy=_remedy(done.outcome, traced=done.missing is not None))


def _check_tracing(trace: bool, fix: Path | None, trim: Path | None) -> None:
    if fix is not None and not trace:
        raise UsageError("--fix writes what --trace finds", remedy="give both")
    if trim is not None and not trace:
        raise UsageError("--trim writes what --trace sees", remedy="give both")


def _answer_missing(missing: Missing, *, succeeded: bool) -> None:
    lines = list(missing.lines())
    if lines and succeeded:
        say("note: the program succeeded without what follows; add only what it should have used")
    for line in lines:
        answer(line)


def _say_what_happened(done: Rehearsal) -> None:
    for line in done.notes:
        say(line)
    if done.run.errors:
        say("the real guest would have stopped; the rehearsal went on, to find all of it at once")
    # What most programs do without matters only when this one did not.
    told = [violation for violation in done.run.violations if violation.severity != "note" or not done.run.ok]
    for violation, more in alike(told, lambda violation: (violation.severity, violation.code)):
        say(f"guest {_WORDS[violation.severity]}: {violation}{more_like_it(more)}")
    say_findings(done.damaged)


_WORDS = {"error": "stops", "limit": "limit", "note": "note"}


def _remedy(outcome: Outcome, *, traced: bool) -> str:
    end = outcome.end
    if end == "memory":
        return "raise resources.memory in project.yaml, or have it use less"
    if end == "timeout":
        return "raise --timeout if it only needs longer"
    if end in ("disk", "threads"):
        return f"raise --{end} if it needs more"
    if outcome.violations:
        return "see what the guest cannot do, above"
    # What is most often missing is a file that nothing but the program names.
    more = "" if traced or outcome.exit_code == 0 else "; --trace lists the files that it did not find"
    return f"see its output, above{more}"


COMMANDS = (rehearse,)
