"""Directories of the host as trees: the GPU assets before a build, and a staged root beside its kernel and klibs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from orchestrator.elf.facts import ElfError, ElfFacts, is_elf, read_elf
from orchestrator.errors import Finding
from orchestrator.image.mbr import BOOTFS_SIZE
from orchestrator.nanos.gpu.compatibility import GPU_KLIB, check_asset_tree


@dataclass(frozen=True, kw_only=True)
class DirectoryTree:
    """`root` as the guest's root. `klib_files`: name → file; `kernel_file`: the kernel, if it is known."""

    root: Path
    klib_files: Mapping[str, Path] = field(default_factory=dict)
    kernel_file: Path | None = None
    boot_size: int | None = BOOTFS_SIZE

    def sizes(self) -> Mapping[str, int]:
        """Path → bytes of every regular file and every link to one."""
        sizes = {}
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = Path(directory, name)
                file = self._inside(path)
                if file is not None:
                    sizes["/" + path.relative_to(self.root).as_posix()] = file.stat().st_size
        return dict(sorted(sizes.items()))

    def open(self, path: str) -> BinaryIO | None:
        """The file at a guest path."""
        file = self._inside(self.root / path.lstrip("/"))
        return file.open("rb") if file is not None else None

    def elf(self, path: str) -> ElfFacts | None:
        """The facts of an x86-64 ELF file."""
        stream = self.open(path)
        if stream is None:
            return None
        with stream:
            try:
                facts = read_elf(stream) if is_elf(stream.read(4)) else None
            except ElfError:
                return None  # the checks of the program and its libraries say so
        return facts if facts is not None and facts.native else None

    def _inside(self, path: Path) -> Path | None:
        """The file that `path` comes to; None for a link out of the tree, which means another file in the guest."""
        real = path.resolve()
        return real if real.is_file() and real.is_relative_to(self.root.resolve()) else None

    def klibs(self) -> Mapping[str, int]:
        """Name → bytes."""
        return {name: file.stat().st_size for name, file in sorted(self.klib_files.items())}

    def open_klib(self, name: str) -> BinaryIO | None:
        """A klib's bytes."""
        return self.klib_files[name].open("rb") if name in self.klib_files else None

    def kernel(self) -> BinaryIO | None:
        """The kernel's bytes."""
        return self.kernel_file.open("rb") if self.kernel_file is not None else None


def check_assets(
    directory: Path, families: Sequence[str] = (), *, kernel: Path | None = None, klib: Path | None = None
) -> tuple[Finding, ...]:
    """Check the GPU assets in `directory` (its one top folder already stripped) before anything is built.

    `klib`: where gpu_nvidia is, if not there; `kernel`: the Nanos kernel, if it is at hand. OSError when they can't
    be read.
    """
    file = klib or directory / GPU_KLIB
    tree = DirectoryTree(root=directory, klib_files={GPU_KLIB: file} if file.is_file() else {}, kernel_file=kernel)
    return tuple(check_asset_tree(tree, families=families))
