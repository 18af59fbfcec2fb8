"""Nanos as a kind of image: what the rest asks, answered by the packages that know.

They are imported late: `check` needs no packer, `hash` no manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import Finding
from orchestrator.image_kind import Expected, GuestSettings, ImageKind, PackedFile
from orchestrator.resolved import Inputs
from orchestrator.verification import StandIn, Verification

if TYPE_CHECKING:
    from orchestrator.project.load import LoadedProject
    from orchestrator.project.model import Project


class Nanos:
    """The kind that every project asks for which names no other, and that a file is taken for which no other knows."""

    name = "nanos"

    def makes(self, _project: Project, /) -> bool:
        """It has `nanos`, or its default."""
        return True

    def recognizes(self, _image: Path, /) -> bool:
        """Its reader says best what is wrong with a file that is none."""
        return True

    def read_settings(self, loaded: LoadedProject) -> GuestSettings:
        """The manifest in ops's own keys."""
        from orchestrator.nanos.settings import read_settings

        return read_settings(loaded)

    def check_gpu_assets(self, project: Project, inputs: Inputs) -> tuple[Finding, ...]:
        """Klib, firmware, driver libraries and kernel against each other."""
        from orchestrator.gpu.compatibility import GPU_KLIB
        from orchestrator.gpu.directory import check_assets

        if inputs.gpu_assets is None:
            return ()
        assets, nanos = inputs.gpu_assets.local, inputs.nanos.path
        klibs = [assets / GPU_KLIB, *([nanos / "klibs" / GPU_KLIB] if nanos else [])]
        kernel = nanos / "kernel.img" if nanos else None
        return check_assets(
            assets,
            project.gpu_families,
            kernel=kernel if kernel is not None and kernel.is_file() else None,
            klib=next((each for each in klibs if each.is_file()), None),
        )

    def verify(self, image: Path, expected: Expected) -> Verification:
        """By `verify/`."""
        from orchestrator.verify.image import verify_image

        return verify_image(
            image,
            project_runtime=expected.runtime,
            gpu_families=expected.gpu_families,
            libraries=expected.libraries,
        )

    def packed_files(self, image: Path, stand_ins: Sequence[StandIn]) -> tuple[PackedFile, ...]:
        """Of both file systems."""
        from orchestrator.nanos.packed import packed_files

        return packed_files(image, stand_ins)


NANOS: ImageKind = Nanos()
