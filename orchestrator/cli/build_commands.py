"""Commands that start at project.yaml: init, check, render, build."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.console import (
    answer,
    answer_block,
    answer_json,
    say,
    say_failure,
    say_findings,
    say_warnings,
)
from orchestrator.cli.parameters import (
    CACHE,
    DIRECTORY,
    PATH,
    PROJECT,
    annotations_option,
    engine_option,
    fleet_options,
    json_failures,
    json_option,
    progress_option,
    project_argument,
    shared_cache_options,
    trust_option,
)
from orchestrator.cli.runner import Runner, findings_of, runner_of
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.scaffold.pipeline import SYSTEMS, check_absent, find_projects, write_pipeline
from orchestrator.scaffold.write import LANGUAGES, init_project
from orchestrator.stages import STAGES

if TYPE_CHECKING:
    from orchestrator.build.check import CheckedProject
    from orchestrator.build.last_build import Asked
    from orchestrator.cli.builds import Builds
    from orchestrator.cli.fleet_builds import FleetOptions
    from orchestrator.shared_cache.choice import CacheOptions

_OF_ALL = (
    "progress", "as_json", "jobs", "fail_fast", "watching", "shell", "annotations", "summary", "fleet_address",
    "fleet_labels", "tls",
)  # fmt: skip
"""Options of `build` that are about all projects together, by their parameters' names."""


@click.command(short_help="Write a commented project.yaml and a sample program.")
@click.argument("directory", type=DIRECTORY, metavar="[DIR]", default=Path())
@click.option("--gpu", is_flag=True, help="Write a CUDA C++ program.")
@click.option("--language", type=click.Choice(LANGUAGES),
              help="Write a sample program in this language, whatever is there; the default is rust.")  # fmt: skip
@click.option("--ci", type=click.Choice(tuple(SYSTEMS)),
              help="Write a pipeline of this system too, for every project.yaml in and below DIR.")  # fmt: skip
def init(directory: Path, gpu: bool, language: str | None, ci: str | None) -> None:
    """Write a commented project.yaml into DIR (default: here) for the program that is there.

    That is what a Cargo.toml, go.mod, CMakeLists.txt, Dockerfile, package.json, pyproject.toml or a program says; with
    none of them, or with --language or --gpu, a sample program is written as well. With --ci and a project.yaml in or
    below DIR, only the pipeline is written.
    """
    if ci is not None:
        check_absent(directory, ci)
    if ci is None or gpu or language is not None or not find_projects(directory):
        _init_project(directory, gpu=gpu, language=language)
    if ci is not None:
        projects = find_projects(directory)
        written = write_pipeline(directory, ci, projects)
        for path in written:
            say(f"wrote {path}, for {', '.join(projects)}")
        answer(str(written[0]))


def _init_project(directory: Path, *, gpu: bool, language: str | None) -> None:
    sight = None
    if not gpu and language is None:
        from orchestrator.scaffold.look import also_there, look

        sight = look(directory)
    if sight is not None:
        for line in sight.saw:
            say(line if line.startswith("so ") else f"saw {line}")
        if other := also_there(directory, sight):
            say(f"saw {other} too: to build that instead, write `build: {{containerfile: {other}}}`")
        if not sight.shim:  # of an image nobody knows it
            say("saw nothing of the Gevulot shim, so `gevulot:` is commented out")
    written = init_project(directory, language=language or "rust", gpu=gpu, sight=sight)
    for path in written:
        say(f"wrote {path}")
    say(f"next: python -m orchestrator build {shlex.quote(str(written[0]))}")
    answer(str(written[0]))


@click.command(short_help="Validate project.yaml, manifest and paths without engine or network.")
@project_argument
@annotations_option
@json_option
@json_failures
def check(project: Path, annotations: str, as_json: bool) -> None:
    """Validate project.yaml, the manifest and the paths they name. Needs no engine or network, and writes nothing."""
    from orchestrator.build.check import check_project

    runner = runner_of(annotations)
    try:
        findings = check_project(project).findings
    except (OrchestratorError, OSError) as error:
        runner.annotate(findings_of(error, project), [project])
        raise
    runner.annotate(findings, [project])
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
@click.option("--from", "begin", type=click.Choice(STAGES), help="Run every step again from this stage on.")
@click.option(
    "--verify-cached",
    is_flag=True,
    help="Build even if nothing has changed, and fail if the image comes out different.",
)
@shared_cache_options
@trust_option
@click.option("--sign", type=PATH, metavar="KEY.PEM", help="Sign the provenance with this ed25519 private key.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Build up to N projects at the same time.",
)
@fleet_options
@click.option(
    "--watch", "watching", is_flag=True, help="Build again whenever the project's files change, until Ctrl-C."
)
@click.option(
    "--cache-from", multiple=True, type=CACHE, metavar="IMAGE|none", help="Take layers from this image of a registry."
)
@click.option(
    "--cache-to", type=CACHE, metavar="IMAGE|none", help="Bring the build's layers to this image of a registry."
)
@click.option("--shell-on-failure", "shell", is_flag=True, help="Open a shell in the state before a step that fails.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first project that fails; by default the others go on.")
@click.option(
    "--reproduce",
    "receipt",
    type=PATH,
    metavar="RECEIPT",
    help="Build again what this receipt describes, on another engine if there is one, and compare; write no image.",
)
@annotations_option
@click.option("--summary", type=PATH, metavar="FILE",
              help="Append a summary as Markdown to this file; the default is GitHub's, in its jobs.")  # fmt: skip
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
    begin: str | None,
    verify_cached: bool,
    cache: CacheOptions,
    trust_project: bool,
    sign: Path | None,
    jobs: int,
    fleet: FleetOptions | None,
    fail_fast: bool,
    cache_from: tuple[str, ...],
    cache_to: str | None,
    shell: bool,
    watching: bool,
    receipt: Path | None,
    annotations: str,
    summary: Path | None,
    as_json: bool,
) -> None:
    """Build, verify and write DIR/NAME.img and DIR/NAME.receipt.json for each project (default: ./project.yaml).

    A project that has not changed since its last build is left as it is, without asking an engine.

    Of several projects, one that fails does not keep the others from being built; a table at the end says how each
    ended, and the exit code is the highest of theirs.

    With --watch, build again whenever a file that decides an image changes, until Ctrl-C (exit 130).
    With --reproduce, build the image of a receipt again and compare it; the causes of a difference are said (exit 6).
    """
    projects = projects or (Path("project.yaml"),)
    if receipt is not None:
        asked_again = _Reproducing(projects=projects, receipt=receipt, output=output, engine=engine, progress=progress,
                                   offline=offline, trust=trust_project, sign=sign)  # fmt: skip
        if watching:
            raise UsageError("--reproduce and --watch exclude each other", remedy="leave out one of them")
        _reproduce(asked_again, as_json=as_json)
        return
    runner = runner_of(annotations, summary)
    asked = _Building(output=output, engine=engine, progress=progress, locked=locked, offline=offline, sign=sign,
                      no_cache=no_cache, begin=begin or "", verify_cached=verify_cached, trust=trust_project,
                      jobs=jobs, fail_fast=fail_fast, shell=shell, cache=cache, cache_from=cache_from, runner=runner,
                      fleet=fleet, cache_to=cache_to, options=_options_of_each())  # fmt: skip
    if shell:
        _require_terminal(jobs)
    if not watching:
        _build(asked, projects, as_json=as_json)
        return
    if as_json:
        raise UsageError("--watch has no single answer for --json", remedy="use --progress json for its events")
    from orchestrator.cli.watch import watch

    watch(projects, lambda changed: _build_and_go_on(asked, changed))


def _require_terminal(jobs: int) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("--shell-on-failure needs a terminal", remedy="run it in one, or leave the option out")
    if jobs > 1:
        raise UsageError("--shell-on-failure has one terminal for one build at a time", remedy="leave out --jobs")


@dataclass(frozen=True, kw_only=True)
class _Building:
    """What `build` is asked for, whatever the projects.

    `options` are those for the build of a single one, `cache` what `--cache` and its kin say.
    """

    output: Path
    engine: str
    progress: str
    locked: bool
    offline: bool
    no_cache: bool
    begin: str
    verify_cached: bool
    trust: bool
    sign: Path | None
    jobs: int
    fail_fast: bool
    shell: bool
    cache_from: tuple[str, ...]
    cache_to: str | None
    options: tuple[str, ...]
    cache: CacheOptions
    runner: Runner
    fleet: FleetOptions | None = None


def _build(building: _Building, projects: Sequence[Path], *, as_json: bool) -> None:
    """Build what has changed of the projects, and say so."""
    from orchestrator.build.last_build import Asked, LastBuild
    from orchestrator.cli.builds import BuildManner, Builds, EndedBuild, WantedBuild, answering, build_all
    from orchestrator.project.registry_caches import chosen_registry_caches
    from orchestrator.shared_cache.choice import chosen_cache

    if building.fleet is not None:
        _require_for_fleet(building, building.fleet)
    builds, wanted = Builds(), list[WantedBuild]()
    whole = bool(building.no_cache or building.begin or building.verify_cached)
    # What is finished is finished, also when another project fails.
    with answering(builds, building.runner, as_json=as_json):
        builds.checked = _check_all(projects, trust=building.trust)
        for number, checked in enumerate(builds.checked):
            asked = Asked(checked=checked, output=building.output, engine=building.engine, locked=building.locked,
                          offline=building.offline, sign=building.sign)  # fmt: skip
            last = LastBuild(asked)
            if building.runner.summary is not None:
                _remember_receipt(builds, asked)
            earlier = last.unchanged()
            if earlier is None or whole:
                before = earlier if building.verify_cached else None  # with --no-cache alone, other bytes may be wanted
                wanted.append(WantedBuild(number=number, asked=asked, last=last, before=before, whole=whole))
            else:
                builds.ended[number] = EndedBuild(result=earlier)
        if wanted:
            manner = BuildManner(progress=building.progress, folds=building.runner.folds, no_cache=building.no_cache,
                                 begin=building.begin, jobs=building.jobs, fail_fast=building.fail_fast,
                                 shell=building.shell, options=building.options, fleet=building.fleet,
                                 layers=chosen_registry_caches(building.cache_from, building.cache_to,
                                                               offline=building.offline),
                                 cache=chosen_cache(building.cache))  # fmt: skip
            build_all(wanted, builds, manner)


def _require_for_fleet(building: _Building, fleet: FleetOptions) -> None:
    """UsageError for what is a worker's affair, or can't leave this machine."""
    from orchestrator.cli.fleet_builds import require_fleet

    require_fleet()
    cache = building.cache
    excluded = {
        "--sign": building.sign, "--shell-on-failure": building.shell, "--cache-from": building.cache_from,
        "--cache-to": building.cache_to, "--cache": cache.url or cache.role or cache.trusted or cache.sign,
        "--engine": building.engine != "auto" and not fleet.local,
    }  # fmt: skip
    for option, asked in excluded.items():
        if asked:
            raise UsageError(f"{option} and --fleet exclude each other",
                             remedy="a worker has its own settings; leave out one of them")  # fmt: skip


def _build_and_go_on(building: _Building, projects: Sequence[Path]) -> None:
    """The same for `--watch`: what fails is said, and a project with errors keeps no other from being built."""
    from orchestrator.build.check import check_project, require_secrets

    right = []
    for project in projects:
        try:
            require_secrets(check_project(project, trust=building.trust))
            right.append(project)
        except (OrchestratorError, OSError) as error:
            say_failure(error)
    try:
        if right:
            _build(building, right, as_json=False)
    except SystemExit:
        pass  # of several projects the table has said it
    except Exception as error:  # noqa: BLE001 - the next change may mend it
        say_failure(error)


def _remember_receipt(builds: Builds, asked: Asked) -> None:
    """The receipt of the last build, for what the summary compares. One that is no receipt counts as none."""
    from orchestrator.receipt.read import read_receipt

    with suppress(UsageError):
        if (receipt := read_receipt(asked.image)) is not None:
            builds.earlier[receipt.name] = receipt


def _options_of_each() -> tuple[str, ...]:
    """The options of this `build` that the build of a single project is given too, as on the command line."""
    context, options = click.get_current_context(), list[str]()
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if not isinstance(parameter, click.Option) or parameter.name in _OF_ALL:
            continue
        if parameter.is_flag:
            options += [parameter.opts[-1]] if value else []
        elif value is not None:
            options += [
                text for one in (value if parameter.multiple else [value]) for text in (parameter.opts[-1], str(one))
            ]
    return tuple(options)


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


COMMANDS = (init, check, render, build)
