"""Writes the image, with ops's layout and ops's chances: random UUIDs, entries and data in random order.

Placing and encoding are done here, apart from `orchestrator.image.writer`; only the format's smallest pieces (value
encoding, the log's layout, the partition table) are shared with it.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from orchestrator.image.codec import Encoder
from orchestrator.image.esp import write_esp
from orchestrator.image.log import EXTENSION_SECTORS, FIRST_SECTORS, LogHeader, lay_out_log
from orchestrator.image.mbr import BOOTFS_SIZE, CRASH_LOG, ESP_SIZE, SECTOR, SIGNATURE, Partition, build_table
from orchestrator.values import Value

from .console import BuildFailureError
from .guest import Folder, Guest, Link, reason
from .home import Release

_PIECE = 1 << 20


@dataclass(kw_only=True)
class Settings:
    """How to write: TFS version, whole image's least size in bytes, whether to add the EFI partition."""

    version: int = 5
    minimum: int = 0
    uefi: bool = False


@dataclass(kw_only=True)
class _Filesystem:
    """One file system at byte `start`; `limit` is its size when that is fixed."""

    out: FileIO
    start: int
    encoder: Encoder
    limit: int = 0
    end: int = (FIRST_SECTORS + EXTENSION_SECTORS) * SECTOR
    chance: random.Random = field(default_factory=random.SystemRandom)

    def write(self, root: Folder, attributes: dict[str, Value]) -> int:
        """Data and log; the size in bytes."""
        keys = [*attributes, "children"]
        self.chance.shuffle(keys)
        self.encoder.tuple_header(len(keys))
        for key in keys:
            if key == "children":
                self._children(root)
            else:
                self.encoder.symbol(key)
                self.encoder.value(attributes[key])
        header = LogHeader(version=self.encoder.version, uuid=os.urandom(16), label="")
        pieces, end = lay_out_log(header, self.encoder, self.end)
        for offset, data in pieces:
            _put(self.out, self.start + offset, data)
        return self.limit or end

    def _children(self, folder: Folder) -> None:
        self.encoder.symbol("children")
        names = list(folder)
        self.chance.shuffle(names)
        self.encoder.tuple_header(len(names))
        for name in names:
            node = folder[name]
            self.encoder.symbol(name)
            if isinstance(node, dict):
                self.encoder.tuple_header(1)
                self._children(node)
            elif isinstance(node, Link):
                self.encoder.value({"linktarget": node.target})
            else:
                self.encoder.value(self._file(node))

    def _file(self, host: str) -> Value:
        try:
            with FileIO(host) as stream:
                size = os.fstat(stream.fileno()).st_size
                return {"filelength": str(size), "extents": self._extent(stream, size)}
        except IsADirectoryError as error:
            raise BuildFailureError(f"cannot read file {host}: read {host}: is a directory") from error

    def _extent(self, stream: FileIO, size: int) -> Value:
        if not size:
            return {}
        sectors = -(-size // SECTOR)
        if self.limit and self.end + sectors * SECTOR > self.limit:
            raise BuildFailureError(
                f"available space ({self.limit - self.end} bytes) too small, required {sectors * SECTOR}"
            )
        at = self.start + self.end
        while piece := stream.read(_PIECE):
            try:
                _put(self.out, at, piece)
            except OSError as error:
                raise BuildFailureError(
                    f"cannot write image file: {reason(error, 'write', str(self.out.name))}"
                ) from error
            at += len(piece)
        extent: Value = {"allocated": str(sectors), "length": str(sectors), "offset": str(self.end // SECTOR)}
        self.end += sectors * SECTOR
        return {"0": extent}


def write_image(path: Path, guest: Guest, release: Release, settings: Settings) -> None:
    """Write the whole image to `path`, emptying it first; a failure leaves what was written so far."""
    if settings.uefi and release.efi is None:
        path.write_bytes(b"")
        raise BuildFailureError(
            "failed creating image file: this Nanos version does not support UEFI, consider changing image type"
        )
    boot = release.boot.read_bytes() if release.boot else bytes(SECTOR - 2) + SIGNATURE
    partitions: list[Partition] = []
    with FileIO(path, "wb") as out:
        _put(out, 0, boot)
        at = len(boot) + CRASH_LOG
        if settings.uefi and release.efi:
            write_esp(lambda offset, data: _put(out, offset, data), at, release.efi.read_bytes())
            partitions.append(Partition(kind="esp", offset=at, length=ESP_SIZE))
            at += ESP_SIZE
        bootfs: Folder = {"kernel": str(release.kernel)}
        if guest.klibs is not None:
            bootfs["klib"] = dict(guest.klibs)
        with _blaming("boot", path):
            _Filesystem(out=out, start=at, encoder=Encoder(settings.version), limit=BOOTFS_SIZE).write(bootfs, {})
        partitions.append(Partition(kind="bootfs", offset=at, length=BOOTFS_SIZE))
        at += BOOTFS_SIZE
        with _blaming("root", path):
            _check_values(guest.attributes)
            length = _Filesystem(out=out, start=at, encoder=Encoder(settings.version)).write(
                guest.root, {**guest.attributes, "environment": guest.environment}
            )
        size = max(at + length, settings.minimum)
        out.truncate(size)
        partitions.append(Partition(kind="rootfs", offset=at, length=size - at))
        _put(out, 0, build_table(boot[:SECTOR], tuple(partitions)))


def _put(out: FileIO, offset: int, data: bytes) -> None:
    while data:  # unbuffered, so that a full disk shows where it happens; the last write before may be short
        written = os.pwrite(out.fileno(), data, offset)
        data, offset = data[written:], offset + written


class _blaming:
    """Turns failures into ops's sentence about the file system they happened in."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        start = f"failed creating image file: cannot write {self._name} filesystem: "
        if isinstance(error, BuildFailureError):
            raise BuildFailureError(f"{start}{error}") from error
        if isinstance(error, OSError):
            raise BuildFailureError(f"{start}{reason(error, 'write', str(self._path))}") from error


def _check_values(value: object) -> None:
    """What ops can't encode: it finds out while writing."""
    if isinstance(value, dict):
        for item in value.values():
            _check_values(item)
    elif isinstance(value, list):
        for item in value:
            _check_values(item)
    elif not isinstance(value, str):
        shown = "<nil>" if value is None else f"float64={value:g}" if not isinstance(value, bool) else ""
        shown = shown or f"bool={str(value).lower()}"
        raise BuildFailureError(f"unknown type of value %!p({shown})")
