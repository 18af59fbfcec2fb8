"""An open Nanos image as `inspect` looks into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import inspection
from orchestrator.errors import UsageError
from orchestrator.image.compare import compare_images, same_content
from orchestrator.image.convert import convert_image
from orchestrator.image.errors import ImageError
from orchestrator.image.reader import Image, open_image
from orchestrator.image_kind import Comparison, Difference, LibraryRow, OpenedImage, Row
from orchestrator.nanos.verify.libs import library_report


def open_nanos(path: Path) -> NanosImage:
    """Open an image. ImageError for a file that is none, which it names."""
    try:
        return NanosImage(path=path, image=open_image(path))
    except ImageError as error:
        if error.path is not None:
            raise
        raise ImageError(f"{path}: {error.message}", remedy=error.remedy) from error


@dataclass(frozen=True, kw_only=True)
class NanosImage:
    """An open image, and the file's name as it was given."""

    path: Path
    image: Image

    def __enter__(self) -> NanosImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.image.close()

    @property
    def settings(self) -> Mapping[str, Any]:
        """The root tuple without its tree."""
        return self.image.rootfs.attributes

    def summary(self) -> dict[str, Any]:
        """Sizes in bytes, offsets from the image's start."""
        return inspection.summary(self.image, self.path)

    def summary_lines(self) -> Iterator[str]:
        """One line a fact."""
        return inspection.summary_lines(self.summary())

    def entries(self, path: str, *, recursive: bool) -> list[Row]:
        """Of the root file system."""
        return inspection.entries(self.image.rootfs, path, recursive=recursive)

    def tree_lines(self, path: str) -> Iterator[str]:
        """Of the root file system."""
        return inspection.tree_lines(self.image.rootfs, path)

    def read(self, path: str) -> Iterator[bytes]:
        """A file of the root file system."""
        rootfs = self.image.rootfs
        return iter(rootfs.read(inspection.file_at(rootfs, path)))

    def write_tree(self, directory: Path) -> int:
        """The root file system."""
        return inspection.extract_tree(self.image.rootfs, directory)

    def libraries(self) -> tuple[LibraryRow, ...]:
        """By the rules of the guest's loader."""
        return library_report(self.image)

    def convert(self, target: Path, *, lossy: bool) -> tuple[str, ...]:
        """In canonical form."""
        return convert_image(self.image, target, lossy=lossy).left_out

    def compare(self, other: OpenedImage) -> Comparison:
        """Part by part."""
        if not isinstance(other, NanosImage):
            raise UsageError(f"{self.path} is a Nanos image, the other is none", remedy="give two images of one kind")
        found = compare_images(self.image, other.image)
        rows = (
            Difference(part=each.part, change=each.change, path=each.path, detail=each.detail, offset=each.offset)
            for each in found
        )
        return Comparison(differences=tuple(rows), same=same_content(found))


_satisfies: type[OpenedImage] = NanosImage  # checked by mypy
