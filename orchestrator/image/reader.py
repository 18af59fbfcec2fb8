"""Reads Nanos disk images: of ops, of Nanos's mkfs, of this program, before and after they have run.

Nothing is mounted and nothing needs root. Every rule of the format that is broken is an ImageError; memory stays in
proportion to the image's logs, whatever the bytes say.
"""

from __future__ import annotations

import errno
import os
import posixpath
from bisect import bisect_right
from collections.abc import Container, Iterator
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from orchestrator.stub_kernel import MARKER
from orchestrator.values import Value

from .codec import damaged
from .errors import ImageError
from .log import MAGIC, Extension, read_log
from .mbr import (
    CRASH_LOG,
    SECTOR,
    CrashLog,
    Partition,
    is_mbr,
    parse_crash_log,
    parse_partitions,
    stage2_length,
)
from .nodes import Noted, build_tree
from .tree import Directory, Extent, File, Node, Symlink

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK: Final = 1024 * 1024
SYMLINK_HOPS: Final = 8  # as in Nanos and ops
_STUB_SEARCH: Final = 64 * 1024


class _Handle:
    """The open file; -1 once it is closed, so that nobody reads from a descriptor that was given to another file."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor


class _Device:
    """The image file, or a part of it, as bytes at offsets."""

    def __init__(self, handle: _Handle, offset: int, length: int) -> None:
        self._handle = handle
        self.offset = offset
        self.length = length

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; ImageError when the file has fewer (it shrank while being read)."""
        parts: list[bytes] = []
        missing = length
        while missing:
            try:
                part = os.pread(self._handle.descriptor, missing, self.offset + offset + length - missing)
            except OSError as error:
                raise ImageError(f"cannot read the image: {error.strerror}") from error
            if not part:
                raise ImageError("the image became shorter while it was read", remedy="try again")
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


@dataclass(frozen=True, kw_only=True)
class PathTrace:
    """How a path ends when it is followed: `path` is without symbolic links, `node` what is there, or None.

    `end` is found; stopped (at a path that was to be the last, whatever is there); missing (of what is missing, `path`
    is the whole path); or endless (more links than the guest follows).
    """

    path: str
    node: Node | None
    end: Literal["found", "stopped", "missing", "endless"]


class Filesystem:
    """A TFS file system inside an image. Paths are guest paths, absolute, "/"-separated.

    `version` is 4 or 5, `uuid` as Nanos prints it, `attributes` the root tuple without `children` (in version 4,
    tuples keyed "0", "1", … are shown as the vectors they stand for), `extensions` the pieces of the log, `used_end`
    the end of the last used byte from the partition's start, `free` the bytes that neither log nor files occupy,
    `other_keys` what is noted of nodes and no node shows (`mtime` …).
    """

    def __init__(self, device: _Device) -> None:
        self._device = device
        log = read_log(device.read_at, device.length)
        tree = build_tree(log.root, log.version, device.length)
        self.version: int = log.version
        digits = log.uuid.hex()
        self.uuid: str = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        self.label: str = log.label
        self.extensions: tuple[Extension, ...] = log.extensions
        self.root: Directory = tree.root
        self.attributes: dict[str, Value] = tree.attributes
        self.other_keys: dict[str, Noted] = tree.other_keys
        runs = [(piece.offset, piece.offset + piece.length, "the log") for piece in log.extensions]
        runs = sorted(runs + tree.runs)
        self.used_end: int = _check_runs(runs)
        self.free: int = device.length - sum(end - start for start, end, _ in runs)

    @property
    def offset(self) -> int:
        """Where the partition starts, in bytes from the image's start."""
        return self._device.offset

    @property
    def length(self) -> int:
        """Bytes of the partition."""
        return self._device.length

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every node below the root with its path, parents first, in the image's own order."""
        stack = [("", iter(self.root.children.items()))]
        while stack:
            parent, entries = stack[-1]
            for name, node in entries:
                path = f"{parent}/{name}"
                yield path, node
                if isinstance(node, Directory):
                    stack.append((path, iter(node.children.items())))
                    break
            else:
                stack.pop()

    def lookup(self, path: str, follow: bool = True) -> Node | None:
        """The node at `path`, or None; symbolic links are resolved inside the image, the last one if `follow`."""
        resolved = self.resolve(path, follow)
        return None if resolved is None else resolved[1]

    def resolve(self, path: str, follow: bool = True) -> tuple[str, Node] | None:
        """(path without symbolic links, node), or None when there is nothing or links go in circles."""
        trace = self.trace(path, follow)
        return None if trace.node is None else (trace.path, trace.node)

    def trace(self, path: str, follow: bool = True, stop: Container[str] = ()) -> PathTrace:
        """Where `path` leads, as `resolve`; no further than to one of the paths in `stop`."""
        names: list[str] = []
        directories = [self.root]
        node: Node = self.root
        todo = path.split("/")[::-1]
        hops = 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if not isinstance(node, Directory):
                return _missing([*names, name, *todo[::-1]])
            if name == "..":
                if names:
                    names.pop()
                    directories.pop()
                node = directories[-1]
                continue
            child = node.children.get(name)
            here = f"/{'/'.join([*names, name])}"
            if here in stop:
                return PathTrace(path=here, node=child, end="stopped")
            if child is None:
                return _missing([*names, name, *todo[::-1]])
            if isinstance(child, Symlink) and (follow or any(todo)):
                hops += 1
                if hops > SYMLINK_HOPS:
                    return PathTrace(path=here, node=None, end="endless")
                if child.target.startswith("/"):
                    names, directories, node = [], [self.root], self.root
                todo.extend(child.target.split("/")[::-1])
                continue
            names.append(name)
            node = child
            if isinstance(child, Directory):
                directories.append(child)
        return PathTrace(path=f"/{'/'.join(names)}", node=node, end="found")

    def read(self, file: File) -> Iterator[bytes]:
        """The file's bytes in chunks of at most 1 MiB; holes come as zeros."""
        for offset in range(0, file.size, CHUNK):
            yield self.read_at(file, offset, min(CHUNK, file.size - offset))

    def read_at(self, file: File, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`; fewer only where the file ends."""
        end = min(file.size, offset + max(length, 0))
        parts: list[bytes] = []
        index = bisect_right(file.extents, offset, key=_extent_offset) - 1
        while offset < end:
            extent = file.extents[index]
            count = min(end, extent.offset + extent.length) - offset
            if extent.position is None:
                parts.append(bytes(count))
            else:
                parts.append(self._device.read_at(extent.position + offset - extent.offset, count))
            offset += count
            index += 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_stored(self, position: int, length: int) -> bytes:
        """Exactly `length` bytes from `position`, as extents have it, whoever they belong to: of many files."""
        return self._device.read_at(position, length)

    def open_file(self, file: File) -> BufferedReader:
        """A seekable binary stream over the file, valid while the image is open."""
        return BufferedReader(_FileStream(self, file), 64 * 1024)


def _missing(names: list[str]) -> PathTrace:
    return PathTrace(path=posixpath.normpath("/" + "/".join(filter(None, names))), node=None, end="missing")


class _FileStream(RawIOBase):
    def __init__(self, filesystem: Filesystem, file: File) -> None:
        self._filesystem = filesystem
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise ValueError("negative position in a file of an image")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._filesystem.read_at(self._file, self._at, len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


class Image:
    """An open image: its partitions, its two file systems, what the boot sector and the crash log say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = _Handle(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise ImageError(f"cannot open the image {path}: {error.strerror}", path=path) from error
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        try:
            self.size: int = os.lseek(self._handle.descriptor, 0, os.SEEK_END)
        except OSError as error:  # a directory on tmpfs; elsewhere a read fails
            raise ImageError(f"cannot read the image {self.path}: {error.strerror}", path=self.path) from error
        device = _Device(self._handle, 0, self.size)
        if self.size < 2 * SECTOR:
            raise ImageError(
                f"{self.path} has {self.size} bytes: no Nanos image is that small",
                remedy="the image was cut short, or its path is wrong",
                path=self.path,
            )
        first = device.read_at(0, SECTOR)
        self._device = device
        self.boot_sector: bool = False
        self.uefi: bool = False
        self.crash_log: CrashLog | None = None
        self.bootfs: Filesystem | None = None
        if first.startswith(MAGIC):  # a bare file system, as a volume is
            self.partitions: tuple[Partition, ...] = (Partition(kind="rootfs", offset=0, length=self.size),)
            self.rootfs: Filesystem = Filesystem(device)
            return
        if not is_mbr(first):
            raise ImageError(
                f"{self.path} has no partition table: it is not a Nanos image",
                remedy="give the .img file that build wrote",
                path=self.path,
            )
        self.partitions = parse_partitions(first, self.size)
        by_kind = {partition.kind: partition for partition in self.partitions}
        self.uefi = "esp" in by_kind
        self._read_boot_area(device, first)
        self.bootfs = Filesystem(self._part(by_kind["bootfs"]))
        self.rootfs = Filesystem(self._part(by_kind["rootfs"]))

    def _part(self, partition: Partition) -> _Device:
        return _Device(self._handle, partition.offset, partition.length)

    def _read_boot_area(self, device: _Device, first: bytes) -> None:
        start = min(partition.offset for partition in self.partitions)
        stage2 = stage2_length(first)
        if SECTOR + stage2 + CRASH_LOG > start:
            raise damaged(
                f"{stage2} bytes of boot code and the crash log do not fit before the first partition at {start}"
            )
        self.crash_log = parse_crash_log(device.read_at(start - CRASH_LOG, CRASH_LOG))
        self.boot_sector = any(device.read_at(SECTOR, min(stage2, CHUNK)))

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes of the image file from `offset`; fewer only where it ends."""
        return self._device.read_at(offset, max(0, min(length, self.size - offset)))

    def data_from(self, offset: int) -> int:
        """Where data starts at or after `offset`: what is before it is a hole, and reads as zeros."""
        try:
            return os.lseek(self._handle.descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            return self.size if error.errno == errno.ENXIO else offset

    @property
    def is_stub(self) -> bool:
        """Whether the kernel is this project's stand-in, which runs no program."""
        if self.bootfs is None:
            return False
        kernel = self.bootfs.lookup("/kernel")
        return isinstance(kernel, File) and MARKER in self.bootfs.read_at(kernel, 0, _STUB_SEARCH)

    def close(self) -> None:
        """Close the file; streams from `open_file` end with it."""
        descriptor, self._handle.descriptor = self._handle.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_image(path: Path) -> Image:
    """Open and check an image (a context manager). ImageError when it breaks a rule of the format."""
    return Image(path)


def _extent_offset(extent: Extent) -> int:
    return extent.offset


def _check_runs(runs: list[tuple[int, int, str]]) -> int:
    """The end of the last run; ImageError when two overlap."""
    end, owner = 0, ""
    for start, stop, name in runs:
        if start < end:
            raise damaged(f"{owner!r} and {name!r} claim the same bytes of the disk (at {start})")
        end, owner = stop, name
    return end
