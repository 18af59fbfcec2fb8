"""The kinds of images that there are. A new one is added here, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.events import Emit
from orchestrator.image_kind import ImageKind
from orchestrator.nanos.kind import NanosKind
from orchestrator.run.guest_runner import GuestRunner

if TYPE_CHECKING:
    from orchestrator.project.project import Project
    from orchestrator.run.outcome import Outcome
    from orchestrator.run.qemu.machine import QemuMachine
    from orchestrator.run.sandbox.rehearsal import Rehearsal, RehearseOptions


class Kind(ImageKind, GuestRunner, Protocol):
    """Makes images, and runs them."""


KINDS: list[Kind] = [NanosKind()]
"""The last takes what no other does."""


def kind_of_project(project: Project) -> Kind:
    """The kind of image that a project asks for."""
    return next(kind for kind in KINDS if kind.makes(project))


def kind_of_image(image: Path) -> Kind:
    """The kind that a file is of."""
    return next(kind for kind in KINDS if kind.recognizes(image))


def boot(machine: QemuMachine, output: Callable[[bytes], None]) -> Outcome:
    """As the image's kind does."""
    return kind_of_image(machine.image).boot(machine, output)


def rehearse(image: Path, options: RehearseOptions, emit: Emit) -> Rehearsal:
    """As the image's kind does."""
    return kind_of_image(image).rehearse(image, options, emit)
