"""The command that starts at a staged tree: pack."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.console import say_warnings
from orchestrator.cli.parameters import DIRECTORY, PATH, PROJECT, json_option, progress_option
from orchestrator.cli.runner import Runner
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.provenance.dsse import SigningKey


@click.command(short_help="Pack a tree that was staged by hand; no engine.")
@click.argument("tree", type=PATH, metavar="TREE")
@click.option("--program", metavar="PATH", default="", help="The program's path in the tree.")
@click.option("--project", type=PROJECT, metavar="PROJECT.YAML", help="Take all that follows from a project.")
@click.option("--name", default="", help="Name of the image; the default is the tree's.")
@click.option("--manifest", default="", metavar="FILE", help="ops's manifest: Args, Env, Mounts …")
@click.option("--nanos", default="", metavar="VERSION|DIR|stub", help="The kernel; the default is as in project.yaml.")
@click.option(
    "-o", "--output", type=DIRECTORY, metavar="DIR", default=Path("target"), show_default=True,
    help="Write image and receipt here.",
)  # fmt: skip
@click.option("--offline", is_flag=True, help="Use no network: the kernel comes from the cache.")
@click.option("--sign", type=PATH, metavar="KEY.PEM", help="Sign the provenance with this ed25519 private key.")
@progress_option
@json_option
def pack(  # noqa: PLR0913 - one parameter an option
    *,
    tree: Path,
    program: str,
    project: Path | None,
    name: str,
    manifest: str,
    nanos: str,
    output: Path,
    offline: bool,
    sign: Path | None,
    progress: str,
    as_json: bool,
) -> None:
    """Pack, verify and write DIR/NAME.img and DIR/NAME.receipt.json from TREE, without an engine.

    TREE is a directory or a tar: the guest's root, with the program, its libraries and its files; or the exported
    container of `render -o`, built by hand.
    """
    from orchestrator.build.check import check_project
    from orchestrator.build.pack_tree import PackAsked, pack_tree, project_of_tree
    from orchestrator.cli.builds import Builds, EndedBuild, answering
    from orchestrator.cli.progress import make_progress

    builds = Builds()
    with answering(builds, Runner(), as_json=as_json):
        if project is not None:
            if program or name or manifest or nanos:
                raise UsageError("--project names program, manifest and kernel itself", remedy="give --project alone")
            checked = check_project(project)
        elif not program:
            raise UsageError(
                "which of its files is the program?", remedy="give --program PATH, or --project PROJECT.YAML"
            )
        else:
            checked = project_of_tree(tree, program, name=name, nanos=nanos, manifest=manifest)
        builds.checked = (checked,)
        say_warnings(checked.findings)
        key = _signing_key(sign)
        began = time.monotonic()
        with make_progress(progress) as shown:
            asked = PackAsked(tree=tree, output=output, offline=offline, sign=key)
            result = pack_tree(checked, asked, shown.emit)
        builds.ended[0] = EndedBuild(result=result, seconds=time.monotonic() - began)


def _signing_key(path: Path | None) -> SigningKey | None:
    if path is None:
        return None
    from orchestrator.provenance.dsse import load_signing_key

    return load_signing_key(path)


COMMANDS = (pack,)
