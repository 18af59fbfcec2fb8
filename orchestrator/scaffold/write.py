"""Write a new project into a directory. Never overwrites: a file that is there already is an error."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from orchestrator.errors import UsageError
from orchestrator.files import GuardedTree, write_text
from orchestrator.scaffold.sight import Sight

TEMPLATES = Path(__file__).resolve().parent / "templates"
IGNORE = ".dockerignore"
SCHEMA = ".project.schema.json"
"""The JSON Schema of project.yaml, which its first line points editors to."""
LANGUAGES = ("rust", "c", "cpp")


def init_project(directory: Path, *, language: str, gpu: bool, sight: Sight | None = None) -> list[Path]:
    """Write project.yaml, .dockerignore and a sample program; return the files written, project.yaml first
    and its JSON Schema for editors last.

    `language` is rust|c|cpp; `gpu` gives a CUDA C++ program whatever the language. With `sight` there is a program
    already, and no sample is written. Errors: UsageError when any of the files exists, before anything is written; a
    .dockerignore that is there is left as it is.
    """
    # Here, not above: the command line wants LANGUAGES alone, and these take longer than most commands.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from orchestrator.project.reference import json_schema_text
    from orchestrator.project.vendor import DEFAULT_NANOS, DEFAULT_OPS

    flavour = "cuda" if gpu else language
    name = _name(directory)
    sources = {"project.yaml": "project.yaml.j2" if sight is None else "existing.yaml.j2"}
    # Not above the project, which isn't ours to write to; and a Dockerfile may well copy what we would leave out.
    ours = sight is None or (sight.context == "." and not sight.containerfile)
    if ours and not (directory / IGNORE).exists():
        sources[IGNORE] = "dockerignore"
    sources |= _samples(flavour) if sight is None else {}
    targets = {directory / target.removesuffix(".j2"): source for target, source in sources.items()}
    present = [path for path in targets if path.exists()]
    if present:
        raise UsageError(
            f"{present[0]} already exists; nothing was written",
            remedy="give an empty directory, or move the file away",
        )
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    with GuardedTree(directory) as tree:  # what is there already may hold links to elsewhere
        for path, source in targets.items():
            text = environment.get_template(source).render(
                name=name, flavour=flavour, sight=sight, nanos=DEFAULT_NANOS, ops=DEFAULT_OPS, schema=SCHEMA
            )
            with tree.create_file(PurePosixPath(path.relative_to(directory))) as sink:
                sink.write(text.encode())
    write_text(directory / SCHEMA, json_schema_text())  # a newer one may replace it: it is ours
    return [*targets, directory / SCHEMA]


def _samples(flavour: str) -> dict[str, str]:
    """The sample program: template by the path of the file that it becomes."""
    return {
        path.relative_to(TEMPLATES / flavour).as_posix(): path.relative_to(TEMPLATES).as_posix()
        for path in sorted((TEMPLATES / flavour).rglob("*"))
        if path.is_file()
    }


# Names that are taken in the work directory /build (the shim's sources, GPU assets), or that cargo refuses.
_TAKEN = {"build", "deps", "examples", "gevulot", "incremental", "lib", "lib64", "nvidia"}


def _name(directory: Path) -> str:
    """An image name made of the directory's: letters, digits, "-", "_", as cargo wants the name of a package."""
    name = re.sub(r"[^a-z0-9_-]+", "-", directory.resolve().name.lower()).strip("-_")[:64].rstrip("-_")
    if not name:
        return "my-prover"
    if name in _TAKEN:
        return f"{name}-prover"
    return name if name[0].isalpha() else f"p-{name}"
