"""Nanos as a kind of image: what the rest asks, answered by the packages that know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import Finding
from orchestrator.gpu.compatibility import GPU_KLIB
from orchestrator.gpu.directory import check_assets
from orchestrator.image_kind import Expected, ImageKind, PackedFile
from orchestrator.nanos.packed import packed_files
from orchestrator.nanos.settings import NanosSettings, read_settings
from orchestrator.project.load import LoadedProject
from orchestrator.project.model import Project
from orchestrator.resolved import Inputs
from orchestrator.verification import StandIn, Verification
from orchestrator.verify.image import verify_image


class Nanos:
    """The kind that every project asks for which names no other, and that a file is taken for which no other knows."""

    name = "nanos"

    def makes(self, _project: Project, /) -> bool:
        """It has `nanos`, or its default."""
        return True

    def recognizes(self, _image: Path, /) -> bool:
        """Its reader says best what is wrong with a file that is none."""
        return True

    def read_settings(self, loaded: LoadedProject) -> NanosSettings:
        """The manifest in ops's own keys."""
        return read_settings(loaded)

    def check_gpu_assets(self, project: Project, inputs: Inputs) -> tuple[Finding, ...]:
        """Klib, firmware, driver libraries and kernel against each other."""
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
        return verify_image(
            image,
            project_runtime=expected.runtime,
            gpu_families=expected.gpu_families,
            libraries=expected.libraries,
        )

    def packed_files(self, image: Path, stand_ins: Sequence[StandIn]) -> tuple[PackedFile, ...]:
        """Of both file systems."""
        return packed_files(image, stand_ins)


NANOS: ImageKind = Nanos()
