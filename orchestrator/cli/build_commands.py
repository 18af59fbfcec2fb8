"""Commands that start at project.yaml: init, check, render, build."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.console import answer, answer_json, say, say_findings
from orchestrator.cli.parameters import PATH, PROJECT, engine_option, json_option, progress_option, project_argument
from orchestrator.cli.progress import make_progress, size
from orchestrator.errors import Severity, UsageError
from orchestrator.scaffold.write import LANGUAGES, init_project

if TYPE_CHECKING:
    from orchestrator.pipeline import Result


@click.command()
@click.argument("directory", type=PATH, metavar="[DIR]", default=Path())
@click.option("--gpu", is_flag=True, help="A CUDA C++ program.")
@click.option("--language", type=click.Choice(LANGUAGES), default="rust", show_default=True)
def init(directory: Path, gpu: bool, language: str) -> None:
    """Write a commented project.yaml and a sample program into DIR."""
    written = init_project(directory, language=language, gpu=gpu)
    for path in written:
        say(f"wrote {path}")
    say(f"next: python -m orchestrator build {written[0]}")
    answer(str(written[0]))


@click.command()
@project_argument
@json_option
def check(project: Path, as_json: bool) -> None:
    """Validate project.yaml, the manifest and the paths they name. No engine, no network, nothing written."""
    from orchestrator.pipeline import check_project

    try:
        findings = check_project(project).findings
    except UsageError as error:
        if as_json:
            answer_json({"ok": False, "findings": [vars(finding) for finding in error.findings]})
        raise
    if as_json:
        answer_json({"ok": True, "findings": [vars(finding) for finding in findings]})
        return
    say_findings(findings)
    answer(f"{project}: ok")


@click.command()
@project_argument
@click.option(
    "-o", "--output", type=PATH, metavar="DIR", help="Write Containerfile and context here, outside inputs included."
)
@progress_option
def render(project: Path, output: Path | None, progress: str) -> None:
    """Print the Containerfile; with -o, write it with its whole context, to be built by hand."""
    from orchestrator.pipeline import check_project, render_context, render_text

    checked = check_project(project)
    say_findings(finding for finding in checked.findings if finding.severity is not Severity.NOTE)
    if output is None:
        answer(render_text(checked).rstrip("\n"))
        return
    with make_progress(progress) as shown:
        render_context(checked, output=output, emit=shown.emit)
    say(f"wrote the build context; build it by hand with: podman build --file {output}/Containerfile {output}")
    say("bases are named as in project.yaml: pull them, or give images of your own")
    answer(str(output / "Containerfile"))


@click.command()
@click.argument("projects", type=PROJECT, metavar="PROJECT.YAML...", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=PATH, metavar="DIR", default=Path("target"), show_default=True, help="Where images go."
)
@engine_option
@progress_option
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@json_option
def build(projects: tuple[Path, ...], output: Path, engine: str, progress: str, no_cache: bool, as_json: bool) -> None:
    """Build, verify and write DIR/NAME.img and DIR/NAME.receipt.json for each project."""
    from orchestrator.engine.select import connect
    from orchestrator.pipeline import build_project, check_project

    # All files are read before anything runs: a typo in the last project costs no build of the first.
    checked = [check_project(path) for path in projects]
    names = [each.loaded.project.name for each in checked]
    if len(set(names)) != len(names):
        raise UsageError("two of the projects have the same name", remedy="they would write the same image; rename one")
    for each in checked:
        say_findings(finding for finding in each.findings if finding.severity is not Severity.NOTE)
    results: list[Result] = []
    try:
        with make_progress(progress) as shown, closing(connect(engine, emit=shown.emit)) as connected:
            for each in checked:
                results.append(build_project(each, connected, output=output, emit=shown.emit, no_cache=no_cache))
    finally:
        # What is finished is finished, also when a later project fails.
        for result in results:
            _say_built(result.document)
        if as_json:
            answer_json([result.document for result in results])
        for result in () if as_json else results:
            answer(str(result.image))


def _say_built(document: dict[str, Any]) -> None:
    image = document["image"]
    say(f"{image['path']}: {size(image['size'])}, BLAKE3 {image['blake3']}")
    if not document["bootable"]:
        say("  not bootable as a program: its kernel is the stub, which only prints a line")
    for stand_in in document["stand_ins"]:
        say(f"  stand-in: {stand_in['path']}: {stand_in['text']}")


COMMANDS = (init, check, render, build)
