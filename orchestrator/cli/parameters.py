"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class ProjectPath(click.ParamType[Path]):
    """A project.yaml; a directory means the project.yaml in it."""

    name = "project.yaml"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002
        """The path as the user gave it."""
        path = Path(value)
        return path / "project.yaml" if path.is_dir() else path


PROJECT = ProjectPath()
PATH = click.Path(path_type=Path)

project_argument = click.argument("project", type=PROJECT, metavar="PROJECT.YAML")
image_argument = click.argument("image", type=PATH, metavar="IMAGE")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
engine_option = click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="auto|docker|podman|URL",
    help="Which container engine. auto: Docker, else Podman, else a Podman service of our own.",
)
progress_option = click.option(
    "--progress",
    type=click.Choice(["auto", "tty", "plain", "json"]),
    default="auto",
    show_default=True,
    help="How progress is shown on stderr.",
)
