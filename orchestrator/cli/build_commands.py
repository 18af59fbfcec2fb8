"""Commands that start at project.yaml: init, check, render, build."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.amounts import seconds, size
from orchestrator.cli.console import (
    answer,
    answer_block,
    answer_json,
    as_user_error,
    failure_document,
    say,
    say_findings,
    say_warnings,
)
from orchestrator.cli.parameters import (
    DIRECTORY,
    PATH,
    PROJECT,
    engine_option,
    json_failures,
    json_option,
    progress_option,
    project_argument,
    trust_option,
)
from orchestrator.errors import ExitCode, OrchestratorError, UsageError, VerificationError
from orchestrator.events import Notice
from orchestrator.scaffold.write import LANGUAGES, init_project

if TYPE_CHECKING:
    from orchestrator.build.check import CheckedProject
    from orchestrator.build.last_build import Asked, LastBuild
    from orchestrator.build.result import Result


@click.command(short_help="Write a commented project.yaml and a sample program.")
@click.argument("directory", type=DIRECTORY, metavar="[DIR]", default=Path())
@click.option("--gpu", is_flag=True, help="Write a CUDA C++ program.")
@click.option("--language", type=click.Choice(LANGUAGES), default="rust", show_default=True,
              help="Language of the sample program.")  # fmt: skip
def init(directory: Path, gpu: bool, language: str) -> None:
    """Write a commented project.yaml and a sample program into DIR (default: here)."""
    written = init_project(directory, language=language, gpu=gpu)
    for path in written:
        say(f"wrote {path}")
    say(f"next: python -m orchestrator build {shlex.quote(str(written[0]))}")
    answer(str(written[0]))


@click.command(short_help="Validate project.yaml, manifest and paths without engine or network.")
@project_argument
@json_option
@json_failures
def check(project: Path, as_json: bool) -> None:
    """Validate project.yaml, the manifest and the paths they name. Needs no engine or network, and writes nothing."""
    from orchestrator.build.check import check_project

    findings = check_project(project).findings
    if as_json:
        answer_json({"ok": True, "findings": [vars(finding) for finding in findings]})
        return
    say_findings(findings)
    answer(f"{project}: ok")


@click.command(short_help="Print the Containerfile, or write everything needed to build it by hand.")
@project_argument
@click.option(
    "-o", "--output", type=DIRECTORY, metavar="DIR", help="Write the Containerfile and its whole context here."
)
@progress_option
def render(project: Path, output: Path | None, progress: str) -> None:
    """Print the Containerfile; with -o, write it and its whole context, to build by hand."""
    from orchestrator.build.check import check_project
    from orchestrator.build.pipeline import render_context, render_text
    from orchestrator.cli.progress import make_progress

    checked = check_project(project)
    say_warnings(checked.findings)
    if output is None:
        answer_block(render_text(checked).rstrip("\n"))
        return
    with make_progress(progress) as shown:
        by_hand = render_context(checked, output=output, emit=shown.emit)
    say("wrote the build context; build it by hand with:")
    for words in by_hand:
        say(f"  {shlex.join(words)}")
    if checked.loaded.project.build.finished:
        say("note: no engine was asked what the program's image says, so its ENV, WORKDIR and CMD are not in")
        say("manifest.json, as `build` would have them")
    for line in _bases_by_hand(checked):
        say(line)
    answer(str(output / "Containerfile"))


def _bases_by_hand(checked: CheckedProject) -> Iterator[str]:
    """How to have each base that can be made from Debian packages, for someone whom no registry answers."""
    project = checked.loaded.project
    bases = [project.gevulot.base] if project.gevulot is not None else []
    for base in dict.fromkeys([*bases, project.program_base]):
        if base.bootstrap is None:
            continue
        packages = f" --include={','.join(sorted(base.bootstrap.packages))}" if base.bootstrap.packages else ""
        yield f"if {base.image} cannot be pulled, make it first:"
        made = f"mmdebstrap --variant=minbase{packages} {base.bootstrap.debian} -"
        yield f"  {made} | podman import - {shlex.quote(base.image)}"


@click.command(short_help="Build, verify and write each project's image and receipt.")
@click.argument("projects", type=PROJECT, metavar="[PROJECT.YAML]...", nargs=-1)
@click.option(
    "-o",
    "--output",
    type=DIRECTORY,
    metavar="DIR",
    default=Path("target"),
    show_default=True,
    help="Write images and receipts here.",
)
@engine_option
@progress_option
@click.option("--locked", is_flag=True, help="Require an up-to-date project.lock; fail instead of updating it.")
@click.option("--offline", is_flag=True, help="Use no network: inputs come from the cache, build steps get none.")
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@click.option(
    "--verify-cached",
    is_flag=True,
    help="Build even if nothing has changed, and fail if the image comes out different.",
)
@trust_option
@click.option("--sign", type=PATH, metavar="KEY.PEM", help="Sign the provenance with this ed25519 private key.")
@click.option(
    "--reproduce",
    "receipt",
    type=PATH,
    metavar="RECEIPT",
    help="Build again what this receipt describes, on another engine if there is one, and compare; write no image.",
)
@json_option
def build(  # noqa: PLR0913 - one parameter an option
    *,
    projects: tuple[Path, ...],
    output: Path,
    engine: str,
    progress: str,
    locked: bool,
    offline: bool,
    no_cache: bool,
    verify_cached: bool,
    trust_project: bool,
    sign: Path | None,
    receipt: Path | None,
    as_json: bool,
) -> None:
    """Build, verify and write DIR/NAME.img and DIR/NAME.receipt.json for each project (default: ./project.yaml).

    A project that has not changed since its last build is left as it is, without asking an engine.

    With --reproduce, build the image of a receipt again from project.yaml, project.lock and the sources, and compare.
    What differs is reported with the file, its package, the step that wrote it and the likely cause (exit 6).
    """
    from orchestrator.build.last_build import Asked, LastBuild

    projects = projects or (Path("project.yaml"),)
    if receipt is not None:
        asked_again = _Reproducing(projects=projects, receipt=receipt, output=output, engine=engine, progress=progress,
                                   offline=offline, trust=trust_project, sign=sign)  # fmt: skip
        _reproduce(asked_again, as_json=as_json)
        return
    done: list[TimedBuild] = []
    wanted: list[_Wanted] = []
    # What is finished is finished, also when a later project fails.
    with answering(done, as_json=as_json):
        ready = _check_all(projects, trust=trust_project)
        for number, checked in enumerate(ready):
            asked = Asked(checked=checked, output=output, engine=engine, locked=locked, offline=offline, sign=sign)
            last = LastBuild(asked)
            earlier = last.unchanged()
            if earlier is None or no_cache or verify_cached:
                before = earlier if verify_cached else None  # with --no-cache alone, other bytes may be wanted
                wanted.append(_Wanted(number=number, asked=asked, last=last, before=before))
            else:
                done.append(TimedBuild(number=number, result=earlier))
        if wanted:
            _build_all(wanted, done, no_cache=no_cache, progress=progress)


@dataclass(frozen=True, kw_only=True)
class _Reproducing:
    """What `build --reproduce` is asked for."""

    projects: tuple[Path, ...]
    receipt: Path
    output: Path
    engine: str
    progress: str
    offline: bool
    trust: bool
    sign: Path | None


@json_failures
def _reproduce(asked: _Reproducing, *, as_json: bool) -> None:
    """Build again, compare, and say so."""
    from orchestrator.build.pipeline import reproduce_project
    from orchestrator.build.state import BuildOptions
    from orchestrator.cli.progress import make_progress
    from orchestrator.engine.select import connect, connect_to_another
    from orchestrator.receipt.read import load_receipt

    if len(asked.projects) > 1:
        raise UsageError("--reproduce takes one project", remedy="give the project.yaml of the receipt's image")
    if asked.sign is not None:
        raise UsageError("--reproduce writes no provenance to sign", remedy="leave out --sign or --reproduce")
    built_on, options = load_receipt(asked.receipt).engine.kind, BuildOptions(offline=asked.offline)
    (checked,) = _check_all(asked.projects, trust=asked.trust)
    with make_progress(asked.progress) as shown:
        other = connect_to_another(built_on, emit=shown.emit) if asked.engine == "auto" else None
        with closing(other or connect(asked.engine, emit=shown.emit)) as engine:
            same = reproduce_project(
                checked, engine, asked.receipt, output=asked.output, emit=shown.emit, options=options
            )
    if as_json:
        answer_json({"ok": True, "reproduced": {"receipt": str(asked.receipt), **asdict(same)}})
        return
    for factor, how in same.varied.items():
        say(f"  varied    {factor}: {how}")
    answer(f"{asked.receipt}: {same.name} built again on {same.engine} has the same bytes, BLAKE3 {same.blake3}")


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """A build to do, and its place among those asked for. `before` is the one that its image must equal."""

    number: int
    asked: Asked
    last: LastBuild
    before: Result | None


@dataclass(frozen=True, kw_only=True)
class TimedBuild:
    """A finished build, its place among those asked for, and how long it took: None where it had nothing to do."""

    number: int
    result: Result
    seconds: float | None = None


def _build_all(wanted: Sequence[_Wanted], done: list[TimedBuild], *, no_cache: bool, progress: str) -> None:
    """Build one after the other on one engine; what is finished goes to `done` at once."""
    from orchestrator.build.pipeline import build_project
    from orchestrator.build.state import BuildOptions
    from orchestrator.cli.progress import make_progress
    from orchestrator.engine.select import connect
    from orchestrator.provenance.dsse import load_signing_key

    first = wanted[0].asked
    options = BuildOptions(locked=first.locked, offline=first.offline, no_cache=no_cache)
    key = None if first.sign is None else load_signing_key(first.sign)
    with make_progress(progress) as shown, closing(connect(first.engine, emit=shown.emit)) as connected:
        for number, pending in enumerate(wanted, start=1):
            checked, began = pending.asked.checked, time.monotonic()
            if len(wanted) > 1:
                shown.emit(Notice(text=f"building {checked.loaded.project.name} ({number} of {len(wanted)})"))
            result = build_project(
                checked, connected, output=pending.asked.output, emit=shown.emit, options=options, sign=key
            )
            done.append(TimedBuild(number=pending.number, result=result, seconds=time.monotonic() - began))
            pending.last.remember(result)
            if pending.before is not None:
                _require_same(pending.before, result)


def _require_same(before: Result, now: Result) -> None:
    """VerificationError where a build of the same things gave another image."""
    old, new = before.document.image.blake3, now.document.image.blake3
    if old != new:
        raise VerificationError(
            f"{now.image}: nothing that decides the image has changed, but its BLAKE3 was {old} and is now {new}",
            remedy="a step of the build gives other bytes each time, or reads from the network; pin what it reads",
        )


def _check_all(projects: Sequence[Path], *, trust: bool) -> list[CheckedProject]:
    """All files are read before anything runs: a typo in the last project costs no build of the first."""
    from orchestrator.build.check import check_project, require_secrets

    ready: list[CheckedProject] = []
    wrong: list[UsageError] = []
    for path in projects:
        try:
            checked = check_project(path, trust=trust)
            require_secrets(checked)
            ready.append(checked)
        except UsageError as error:
            wrong.append(error)
    if wrong:
        findings = [finding for error in wrong for finding in error.findings]
        raise UsageError(wrong[0].message, remedy=wrong[0].remedy, findings=findings) from wrong[0]
    first: dict[str, Path] = {}
    for checked_project in ready:
        name, path = checked_project.loaded.project.name, checked_project.loaded.path
        if name in first:
            message = f"{first[name]} and {path} have the same name, {name}"
            raise UsageError(message, remedy="they would write the same image; rename one")
        first[name] = path
    for checked_project in ready:
        say_warnings(checked_project.findings)
    return ready


@contextmanager
def answering(done: Sequence[TimedBuild], *, as_json: bool) -> Iterator[None]:
    """Say what `done` holds by then, however it ends; with --json one document also of a failure."""
    document: dict[str, object] = {"ok": True}
    try:
        yield
    except (OrchestratorError, OSError) as error:
        known = as_user_error(error) if isinstance(error, OSError) else error
        document = failure_document(known) if known is not None else {"ok": False, "error": str(error)}
        raise
    except KeyboardInterrupt:
        document = {"ok": False, "exit_code": int(ExitCode.INTERRUPTED), "error": "interrupted"}
        say("the interrupted build wrote no image; `orchestrator clean` removes what it left behind")
        raise
    finally:
        done = sorted(done, key=lambda timed: timed.number)
        for timed in done:
            _say_built(timed)
        if as_json:
            from orchestrator.receipt.receipt import receipt_document

            document["unchanged"] = [timed.result.document.name for timed in done if timed.seconds is None]
            answer_json({**document, "built": [receipt_document(timed.result.document) for timed in done]})
        for timed in () if as_json else done:
            answer(str(timed.result.image))


def _say_built(done: TimedBuild) -> None:
    receipt = done.result.document
    if done.seconds is None:
        say(f"{receipt.name}: nothing has changed since it was built and verified ({receipt.finished})")
    else:
        say(f"{receipt.name}: built and verified in {seconds(done.seconds)}")
    say(f"  image     {receipt.image.path} ({size(receipt.image.size)})")
    say(f"  BLAKE3    {receipt.image.blake3}")
    say(f"  receipt   {done.result.receipt}")
    if not receipt.bootable:
        say("  NOT BOOTABLE as a program: its kernel is a stand-in")
    if receipt.rebuild is not None:
        varied = ", ".join(f"{factor}: {how}" for factor, how in receipt.rebuild.varied.items())
        say(f"  built twice, with the same bytes, on {receipt.rebuild.engine.kind} too ({varied})")
    for stand_in in receipt.stand_ins:
        say(f"  stand-in  {stand_in.path}: {stand_in.text}")
    for row in receipt.inputs:
        if row.kind == "bootstrap":
            say(f"  {row.name:<9} {row.note}")
    for warning in receipt.warnings:
        say(f"  warning   {warning.text}")


COMMANDS = (init, check, render, build)
