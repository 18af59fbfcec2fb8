"""Nanos as a kind of image: what the rest asks, answered by the packages that know.

They are imported late: `check` needs no packer, `hash` no manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import Finding
from orchestrator.events import Emit
from orchestrator.image_kind import Expected, FileDigests, GuestSettings, OpenedImage
from orchestrator.resolved import InputName, Inputs
from orchestrator.verification import PackedFile, StandIn, Verification

if TYPE_CHECKING:
    from orchestrator.project.load import LoadedProject
    from orchestrator.project.project import Project
    from orchestrator.run.outcome import Outcome
    from orchestrator.run.qemu.machine import QemuMachine
    from orchestrator.run.sandbox.rehearsal import Rehearsal, RehearseOptions


class NanosKind:
    """The kind that every project asks for which names no other, and that a file is taken for which no other knows."""

    unused_inputs: frozenset[InputName] = frozenset()

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
        from orchestrator.nanos.gpu.compatibility import GPU_KLIB
        from orchestrator.nanos.gpu.directory import check_assets

        if inputs.gpu_assets is None:
            return ()
        assets, nanos = inputs.gpu_assets.local, inputs.nanos_kernel.path
        klibs = [assets / GPU_KLIB, *([nanos / "klibs" / GPU_KLIB] if nanos else [])]
        kernel = nanos / "kernel.img" if nanos else None
        return check_assets(
            assets,
            project.gpu_families,
            kernel=kernel if kernel is not None and kernel.is_file() else None,
            klib=next((klib for klib in klibs if klib.is_file()), None),
        )

    def import_ahead(self) -> None:
        """The checks, and what lists the packed files."""
        import_module("orchestrator.nanos.verify.image")
        import_module("orchestrator.nanos.packed")

    def verify(self, image: Path, expected: Expected) -> Verification:
        """By `verify/`."""
        from orchestrator.nanos.verify.image import verify_image

        return verify_image(
            image,
            project_runtime=expected.runtime,
            gpu_families=expected.gpu_families,
            libraries=expected.libraries,
            known=expected.known,
            unmarked=expected.unmarked,
        )

    def packed_files(self, image: Path, stand_ins: Sequence[StandIn], known: FileDigests) -> tuple[PackedFile, ...]:
        """Of both file systems."""
        from orchestrator.nanos.packed import packed_files

        return packed_files(image, stand_ins, known)

    def open(self, image: Path) -> OpenedImage:
        """Its root file system, as `inspection` shows it."""
        from orchestrator.nanos.opened import open_nanos

        return open_nanos(image)

    def boot(self, machine: QemuMachine, output: Callable[[bytes], None]) -> Outcome:
        """In QEMU with the node's devices."""
        from orchestrator.nanos.machine import boot

        return boot(machine, output)

    def judge(self, booted: Outcome) -> Outcome:
        """By what Nanos says on the serial port."""
        from orchestrator.nanos.machine import judge

        return judge(booted)

    def rehearse(self, image: Path, options: RehearseOptions, emit: Emit) -> Rehearsal:
        """In the sandbox that `guest/` describes."""
        from orchestrator.run.sandbox.rehearsal import rehearse

        return rehearse(image, options, emit)
