"""The kinds of images that there are. A new one is added here, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.image_kind import ImageKind
from orchestrator.nanos.kind import NANOS

if TYPE_CHECKING:
    from orchestrator.project.model import Project

KINDS: list[ImageKind] = [NANOS]
"""The last takes what no other does."""


def kind_of_project(project: Project) -> ImageKind:
    """The kind of image that a project asks for."""
    return next(kind for kind in KINDS if kind.makes(project))


def kind_of_image(image: Path) -> ImageKind:
    """The kind that a file is of."""
    return next(kind for kind in KINDS if kind.recognizes(image))
