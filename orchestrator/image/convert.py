"""Writes an image anew in canonical form: the bytes that `packer: native` gives for what the image holds.

Kept: boot code, UEFI loader, kernel, klibs, the tree, the manifest, label, encoding and, where there is free space,
the image's size. Made anew: UUIDs (cut from what the file system holds), the order of entries and keys, the places of
files, the log, the partition table. What has no place in that form is never left out silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .codec import damaged
from .compare import ImageDifference, boot_files, compare_images
from .errors import ImageError
from .esp import LOADER
from .listing import SPARSE_SLACK, path_key
from .mbr import SECTOR, SIGNATURE, TABLE_AT, stage2_length
from .reader import Filesystem, Image, open_image
from .regions import MAX_STAGE2, loose_bytes
from .tree import Directory, File, Symlink
from .writer import BootFiles, ImageWriter, WrittenImage

_SHOWN = 5
_BOOT_CODE = ("boot sector", "region record", "second stage", LOADER)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written, and what was left out of it, in words."""

    written: WrittenImage
    left_out: tuple[str, ...]


def convert_image(image: Image, target: Path, *, lossy: bool = False) -> Converted:
    """Write what `image` holds to `target` (emptied first; the caller owns the temporary name) in canonical form.

    Errors: ImageError for a volume or an image without a kernel, for one that is nearly all holes, and for one with
    something that has no place in canonical form, unless `lossy`.
    """
    left_out = tuple(losses(image))
    if left_out and not lossy:
        more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        raise ImageError(
            f"canonical form has no place for {'; '.join(left_out[:_SHOWN])}{more}",
            remedy="--lossy leaves that out",
        )
    written = _write(image, target)
    if not left_out:
        _require_same(image, target)
    return Converted(written=written, left_out=left_out)


def losses(image: Image) -> Iterator[str]:
    """What canonical form has no place for, in words. ImageError for what can't be converted at all."""
    boot = _require_boot(image)
    for path, node in image.rootfs.walk():
        if not isinstance(node, Directory | File | Symlink):
            yield f"{path} ({node.kind})"
    yield from _keys(image.rootfs, "")
    yield from _keys(boot, "the boot file system's ")
    for path, boot_node in boot.walk():
        if not _is_boot_file(path, isinstance(boot_node, File)):
            yield f"the boot file system's {path}"
    yield from (f"the boot file system's attribute {name}" for name in boot.attributes)
    if boot.label:
        yield f"the boot file system's label {boot.label!r}"
    yield from (f"the {name}" for name in boot_files(image) if name not in _BOOT_CODE)
    loose = loose_bytes(image).count
    if loose:
        yield f"{loose} byte{'s' if loose != 1 else ''} in free space that {'are' if loose != 1 else 'is'} not zero"


def _keys(filesystem: Filesystem, whose: str) -> Iterator[str]:
    for key, noted in filesystem.other_keys.items():
        yield f"{whose}{key} of {noted.nodes} node{'s' if noted.nodes != 1 else ''}"


def _is_boot_file(path: str, is_file: bool) -> bool:
    names = path_key(path)
    if is_file:
        return path == "/kernel" or (len(names) == 2 and names[0] == b"klib")
    return path == "/klib"


def _require_boot(image: Image) -> Filesystem:
    """The boot file system of an image that can be written anew."""
    if image.bootfs is None:
        raise ImageError(
            "this is a volume, a file system without a kernel: a mount may know it by its UUID, which would change",
            remedy="convert an image instead",
        )
    if not isinstance(image.bootfs.lookup("/kernel", follow=False), File):
        raise ImageError("the image has no kernel", remedy="build it again")
    if stage2_length(image.read_at(0, SECTOR)) > MAX_STAGE2:
        raise damaged(f"the boot code is larger than {MAX_STAGE2} bytes")
    if image.uefi and LOADER not in boot_files(image):
        raise ImageError(
            f"the EFI partition has no {LOADER}; only an image for x86-64 can be written", remedy="build it again"
        )
    for filesystem in (image.bootfs, image.rootfs):
        claimed = sum(node.size for _, node in filesystem.walk() if isinstance(node, File))
        if claimed > filesystem.length + SPARSE_SLACK:
            raise ImageError(
                f"the image's files claim {claimed} bytes in a file system of {filesystem.length}: they are nearly all"
                " holes, and are not written out",
                remedy="is the image damaged? build it again",
            )
    return image.bootfs


def _write(image: Image, target: Path) -> WrittenImage:
    filesystem = image.rootfs
    # An image without free space is as large as what it holds; the size of any other one was asked for.
    minimum = image.size if filesystem.free else 0
    with ImageWriter(
        target, _boot(image), label=filesystem.label, version=filesystem.version, minimum_size=minimum
    ) as writer:
        for path, node in sorted(filesystem.walk(), key=lambda item: path_key(item[0])):
            if isinstance(node, Directory):
                writer.add_directory(path)
            elif isinstance(node, File):
                writer.add_file(path, node.size, filesystem.read(node))
            elif isinstance(node, Symlink):
                writer.add_symlink(path, node.target)
        return writer.finish(filesystem.attributes)


def _boot(image: Image) -> BootFiles:
    boot = _require_boot(image)
    sector = image.read_at(0, SECTOR)
    files = {path: b"".join(boot.read(node)) for path, node in boot.walk() if isinstance(node, File)}
    klibs = {path.removeprefix("/klib/"): data for path, data in files.items() if path.startswith("/klib/")}
    return BootFiles(
        boot_img=sector[:TABLE_AT] + bytes(64) + SIGNATURE + image.read_at(SECTOR, stage2_length(sector)),
        kernel=files["/kernel"],
        klibs={name: data for name, data in klibs.items() if "/" not in name},
        efi=boot_files(image)[LOADER] if image.uefi else None,
    )


def _require_same(image: Image, target: Path) -> None:
    """What was written is read back: whatever `losses` doesn't know must not get lost either."""
    with open_image(target) as written:
        differing = [difference for difference in compare_images(image, written) if _matters(difference)]
    if differing:
        first = differing[0]
        raise ImageError(
            f"canonical form would change {first.part} {first.path} ({first.detail})",
            remedy="please report it, with the image if you can",
        )


def _matters(difference: ImageDifference) -> bool:
    return difference.part not in ("form", "free space")
