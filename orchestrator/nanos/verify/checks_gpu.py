"""The image as the tree that the GPU check looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

from orchestrator.elf.facts import ElfFacts
from orchestrator.errors import Finding
from orchestrator.image.tree import File
from orchestrator.nanos.gpu.compatibility import check_tree
from orchestrator.nanos.verify.subject import Subject


@dataclass(frozen=True, kw_only=True)
class ImageTree:
    """An open image's two file systems."""

    subject: Subject

    def sizes(self) -> Mapping[str, int]:
        """Path → bytes of every regular file and every link to one."""
        filesystem = self.subject.rootfs
        linked = ((path, filesystem.lookup(path)) for path in self.subject.symlinks)
        sizes = {path: node.size for path, node in (*self.subject.files, *linked) if isinstance(node, File)}
        return {path: sizes[path] for path in sorted(sizes)}

    def open(self, path: str) -> BinaryIO | None:
        """The file at a guest path, links followed."""
        return self.subject.open(path)

    def elf(self, path: str) -> ElfFacts | None:
        """The facts that the guest's loader, for the other checks, has read already."""
        facts = self.subject.loader.facts(path)
        return facts if isinstance(facts, ElfFacts) and facts.native else None

    def klibs(self) -> Mapping[str, int]:
        """Name → bytes."""
        return {name: file.size for name, file in self.subject.klibs.items()}

    def open_klib(self, name: str) -> BinaryIO | None:
        """A klib's bytes."""
        return self._boot(self.subject.klibs.get(name))

    def kernel(self) -> BinaryIO | None:
        """The kernel's bytes."""
        bootfs = self.subject.image.bootfs
        return self._boot(bootfs.lookup("/kernel")) if bootfs is not None else None

    @property
    def boot_size(self) -> int | None:
        """Bytes of the boot file system: in an image it is what it is, and what is in it did fit."""
        return None

    def _boot(self, node: object) -> BinaryIO | None:
        bootfs = self.subject.image.bootfs
        if bootfs is None or not isinstance(node, File):
            return None
        return cast("BinaryIO", bootfs.open_file(node))


def check_gpu(subject: Subject) -> Iterator[Finding]:
    """The GPU klib, its firmware, the driver's libraries, the CUDA runtime and the GPU code go together."""
    yield from check_tree(ImageTree(subject=subject), program=subject.program, families=subject.gpu_families)
