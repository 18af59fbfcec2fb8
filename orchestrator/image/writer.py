"""Writes the disk image that ops 0.1.43 would write, streaming, and the same bytes for the same input everywhere.

Where ops takes chance (random UUIDs, map order), this takes order: entries sorted by path, attributes by name, and
UUIDs cut from SHA-256 sums of what the file system holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from orchestrator.values import Value

from .codec import encode_text
from .errors import ImageError
from .esp import write_esp
from .headers import VERSIONS
from .listing import path_key
from .mbr import (
    BOOTFS_SIZE,
    CRASH_LOG,
    ESP_SIZE,
    SECTOR,
    SIGNATURE,
    Partition,
    build_table,
    is_mbr,
    stage2_length,
)
from .output import PIECE, ImageOutput
from .tfs import DATA_START, TfsWriter
from .written_tree import OutOfOrderError

__all__ = ["BootFiles", "ImageWriter", "OutOfOrderError", "WrittenImage", "path_key"]


@dataclass(frozen=True, kw_only=True)
class BootFiles:
    """What the machine boots. Files are bytes or host paths.

    Without `boot_img` the image has a blank boot sector, as ops writes it when a release lacks one; `efi` is the
    UEFI loader (x86-64) and makes the image start with an EFI system partition.
    """

    boot_img: bytes | None
    kernel: Path | bytes
    klibs: Mapping[str, Path | bytes] = field(default_factory=dict)
    efi: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class WrittenImage:
    """What was written. `tree_sha256` equals `tree_digest(tree_listing(rootfs))` of the image read back.

    `contents`: size and SHA-256 (hex) of each of the root file system's files, by its path; `places`: where it begins
    in the image, in bytes. `boot_contents` and `boot_places` are those of the boot file system.
    """

    size: int
    partitions: tuple[Partition, ...]
    bootfs_uuid: str
    rootfs_uuid: str
    tree_sha256: str
    files: int
    bytes_of_files: int
    contents: Mapping[str, tuple[int, str]]
    places: Mapping[str, int]
    boot_contents: Mapping[str, tuple[int, str]]
    boot_places: Mapping[str, int]


class ImageWriter:
    """Writes an image to a path (emptied first) or an open descriptor (left open).

    The boot part is written at once, so that a kernel and klibs that don't fit fail before any file is taken. Then
    add entries in the order of `path_key` and `finish`. After an exception the output is unusable; the caller owns
    the temporary name. `minimum_size` is the whole image's (ops: BaseVolumeSz); `version` is 5 or 4 (ops: TFSv4).
    """

    def __init__(
        self,
        target: Path | int,
        boot: BootFiles,
        *,
        label: str = "",
        version: int = 5,
        minimum_size: int = 0,
    ) -> None:
        if version not in VERSIONS:
            raise ValueError(f"TFS version {version}: only 4 and 5 exist")
        self._minimum = -(-minimum_size // SECTOR) * SECTOR
        self._sector = _boot_sector(boot)
        self._output = ImageOutput(target)
        try:
            self._partitions, self._bootfs_uuid, self._bootfs = self._write_boot(boot, version)
            start = self._partitions[-1].offset + self._partitions[-1].length
            self._rootfs_offset = start
            self._rootfs = TfsWriter(self._output, start, version=version, label=label)
        except BaseException:
            self._output.close()
            raise
        self.add_directory: Callable[[str], None] = self._rootfs.add_directory
        self.add_symlink: Callable[[str, str], None] = self._rootfs.add_symlink
        self.add_file: Callable[[str, int, Iterable[bytes]], str] = self._rootfs.add_file
        self.add_bytes: Callable[[str, bytes], str] = self._rootfs.add_bytes
        self.copy_file: Callable[[str, str], str] = self._rootfs.copy_file
        self.add_open_file: Callable[[str, int, str, Callable[[], BinaryIO | None]], None] = self._rootfs.add_open_file
        self.add_stored_file: Callable[[str, int, str, int, int], None] = self._rootfs.add_stored_file

    def _write_boot(self, boot: BootFiles, version: int) -> tuple[tuple[Partition, ...], str, TfsWriter]:
        stage2 = boot.boot_img[SECTOR:] if boot.boot_img else b""
        self._output.write(SECTOR, stage2)
        offset = SECTOR + len(stage2) + CRASH_LOG
        partitions = []
        if boot.efi is not None:
            write_esp(self._output.write, offset, boot.efi)
            partitions.append(Partition(kind="esp", offset=offset, length=ESP_SIZE))
            offset += ESP_SIZE
        bootfs = TfsWriter(self._output, offset, version=version, limit=BOOTFS_SIZE)
        uuid = _write_bootfs(bootfs, boot)
        partitions.append(Partition(kind="bootfs", offset=offset, length=BOOTFS_SIZE))
        return tuple(partitions), uuid, bootfs

    def finish(
        self, attributes: Mapping[str, Value], progress: Callable[[int], None] = lambda _end: None
    ) -> WrittenImage:
        """Write the root file system's log, the partition table, and then what is copied out of another file.

        Nothing can be added afterwards. Of the last part `progress` is told up to which byte the image is as it will
        be; before it nothing is. ChangedFileError where a file turns out to be another than was said.
        """
        uuid, tree, length = self._rootfs.finish(attributes)
        size = max(self._rootfs_offset + length, self._minimum)
        self._output.set_size(size)
        rootfs = Partition(kind="rootfs", offset=self._rootfs_offset, length=size - self._rootfs_offset)
        partitions = (*self._partitions, rootfs)
        self._output.write(0, build_table(self._sector, partitions))
        self._output.flush()
        self._rootfs.copy_stored(progress)
        self._output.flush()
        progress(size)
        self._rootfs.confirm()
        self.close()
        files, total = self._rootfs.totals
        return WrittenImage(
            size=size,
            partitions=partitions,
            bootfs_uuid=self._bootfs_uuid,
            rootfs_uuid=uuid,
            tree_sha256=tree,
            files=files,
            bytes_of_files=total,
            contents=self._rootfs.contents,
            places=self._rootfs.places,
            boot_contents=self._bootfs.contents,
            boot_places=self._bootfs.places,
        )

    def close(self) -> None:
        """Let go of the output; safe after `finish`."""
        self._rootfs.close()
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _boot_sector(boot: BootFiles) -> bytes:
    """The first sector, checked: its region record must tell the truth about the boot image's length."""
    if boot.boot_img is None:
        return bytes(510) + SIGNATURE
    sector = boot.boot_img[:SECTOR]
    if not is_mbr(sector) or SECTOR + stage2_length(sector) != len(boot.boot_img):
        raise ImageError(
            f"boot.img ({len(boot.boot_img)} bytes) is not a Nanos boot image: its first sector says otherwise",
            remedy="take boot.img from the same Nanos release as the kernel",
        )
    return sector


def _write_bootfs(writer: TfsWriter, boot: BootFiles) -> str:
    files: list[tuple[str, Path | bytes]] = [("kernel", boot.kernel)]
    files += [(f"klib/{name}", boot.klibs[name]) for name in sorted(boot.klibs, key=encode_text)]
    for name in boot.klibs:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ImageError(f"a klib cannot be named {name!r}", remedy="give the klib's file name alone")
    sizes = {name: _size(source) for name, source in files}
    needed = sum(-(-size // SECTOR) * SECTOR for size in sizes.values())
    room = BOOTFS_SIZE - DATA_START
    if needed > room:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ImageError(
            f"cannot write boot filesystem: {needed} bytes are needed and {room} available ({listed})",
            remedy="drop klibs that the program does not need",
        )
    for name, source in files:
        writer.add_file(name, sizes[name], _chunks(source))
    return writer.finish({})[0]


def _size(source: Path | bytes) -> int:
    try:
        return len(source) if isinstance(source, bytes) else source.stat().st_size
    except OSError as error:
        raise ImageError(f"cannot read {source!s}: {error.strerror}", remedy="give its path") from error


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as stream:
        while chunk := stream.read(PIECE):
            yield chunk
