"""Write a new project into a directory. Never overwrites: a file that is there already is an error."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orchestrator.errors import UsageError
from orchestrator.files import write_text
from orchestrator.project.model import DEFAULT_NANOS, DEFAULT_OPS

TEMPLATES = Path(__file__).resolve().parent / "templates"
LANGUAGES = ("rust", "c", "cpp")


def init_project(directory: Path, *, language: str, gpu: bool) -> list[Path]:
    """Write project.yaml and a sample program; return the files written, project.yaml first.

    `language` is rust|c|cpp; `gpu` gives a CUDA C++ program whatever the language. Errors: UsageError when
    any of the files exists, before anything is written.
    """
    flavour = "cuda" if gpu else language
    name = _name(directory)
    sources = {"project.yaml": "project.yaml.j2"}
    sources |= {
        path.relative_to(TEMPLATES / flavour).as_posix(): path.relative_to(TEMPLATES).as_posix()
        for path in sorted((TEMPLATES / flavour).rglob("*"))
        if path.is_file()
    }
    targets = {directory / target.removesuffix(".j2"): source for target, source in sources.items()}
    present = [path for path in targets if path.exists()]
    if present:
        raise UsageError(
            f"{present[0]} exists already; nothing was written",
            remedy="give an empty directory, or move the file away",
        )
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    for path, source in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = environment.get_template(source).render(
            name=name, flavour=flavour, nanos=DEFAULT_NANOS, ops=DEFAULT_OPS
        )
        write_text(path, text)
    return list(targets)


def _name(directory: Path) -> str:
    """An image name made of the directory's: letters, digits, "-", starting with a letter or digit."""
    name = re.sub(r"[^A-Za-z0-9-]+", "-", directory.resolve().name).strip("-").lower()
    return name[:64] or "my-prover"
