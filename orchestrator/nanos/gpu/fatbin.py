"""The GPU code inside an ELF file: NVIDIA's fat binaries, read lazily and bounded, with one error type.

nvcc puts containers one after the other into section .nv_fatbin (linked code) or __nv_relfatbin (-rdc); each holds an
entry for each architecture, as PTX (which the driver compiles) or as a cubin (SASS, which it only loads). The layout
is not published; what is used here was found out by compiling for every architecture list that nvcc 13.0 can make and
comparing with cuobjdump (tests/nanos/gpu/test_fatbin.py does so again).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import zstandard

from orchestrator.elf.facts import MAGIC as ELF_MAGIC
from orchestrator.errors import VerificationError

SECTIONS: Final = (".nv_fatbin", "__nv_relfatbin")
MAGIC: Final = 0xBA55ED50
_MAGIC_BYTES: Final = struct.pack("<I", MAGIC)
# magic, version, header size, size of the entries
_CONTAINER: Final = struct.Struct("<IHHQ")
# kind, version, header size, padded payload size, stored size if compressed, offset of options, minor and major
# version (PTX: of its ISA), sm number, name's offset and length, flags, unknown, size when decompressed
_ENTRY: Final = struct.Struct("<HHIQIIHHIIIQQQ")
_KINDS: Final = {1: "ptx", 2: "sass", 8: "lto"}
_FLAG_LZ4: Final = 0x2000
_FLAG_ZSTD: Final = 0x8000
_FLAG_ARCH_SPECIFIC: Final = 0x100000
_FLAG_FAMILY_SPECIFIC: Final = 0x200000
_START: Final = 8192  # decompressed bytes looked at: PTX's .target comes first, after comments
_STORED: Final = 64 * 1024  # compressed bytes read for them
_MAX_ENTRIES: Final = 200_000
_MAX_SECTIONS: Final = 65_536
_MAX_NAMES: Final = 4 * 1024 * 1024
_CHUNK: Final = 1024 * 1024
_WINDOW: Final = 128 * 1024 * 1024
_TARGET: Final = re.compile(rb"^\s*\.target\s+sm_(\d{1,4})([af]?)", re.MULTILINE)
_PTX_VERSION: Final = re.compile(rb"^\s*\.version\s+(\d{1,3})\.(\d{1,3})", re.MULTILINE)


class FatbinError(VerificationError):
    """The bytes hold no GPU code that can be read."""


@dataclass(frozen=True, kw_only=True, order=True)
class GpuCode:
    """One entry of a fat binary.

    `kind`: ptx, sass or lto (code for nvlink alone; no driver loads it). `sm`: as in sm_86, 86. `suffix`: "" (runs on
    what comes later: PTX everywhere, SASS in the same major version), "f" (in the same family), "a" (there alone).
    `ptx_version`: the ISA's (major, minor), of PTX alone. `container`: the how-manieth of the file, from 0.
    """

    kind: str
    sm: int
    suffix: str = ""
    ptx_version: tuple[int, int] | None = None
    compression: str = ""
    container: int = 0

    @property
    def name(self) -> str:
        """As nvcc writes it: sm_86, compute_90a."""
        return f"{'sm' if self.kind == 'sass' else 'compute'}_{self.sm}{self.suffix}"


def read_gpu_code(stream: BinaryIO) -> tuple[GpuCode, ...]:
    """All entries in the ELF file in a seekable stream, in their order; none for a file without GPU code.

    FatbinError when it is no 64-bit little-endian ELF file, or its fat binaries are damaged.
    """
    try:
        return tuple(_Walk(stream).entries())
    except (struct.error, ValueError, OverflowError, OSError) as problem:
        raise FatbinError(f"damaged GPU code: {str(problem)[:120]}") from problem


class _Walk:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._size = stream.seek(0, 2)
        self._count = 0

    def entries(self) -> Iterator[GpuCode]:
        number = 0
        for start, end in self._ranges():
            at = start
            while (container_start := self._find(at, end)) is not None:
                _, _, header, size = _CONTAINER.unpack(self._bytes(container_start, _CONTAINER.size))
                stop = container_start + header + size
                if header < _CONTAINER.size or stop > end:
                    raise FatbinError("damaged GPU code: a container extends past the end of its section")
                yield from self._container(container_start + header, stop, number)
                number += 1
                at = stop

    def _bytes(self, offset: int, size: int) -> bytes:
        self._stream.seek(offset)
        data = self._stream.read(size)
        if len(data) != size:
            raise FatbinError("damaged GPU code: the file ends inside it")
        return data

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Offsets where containers may lie: the sections, or everything where section headers were stripped."""
        head = self._bytes(0, 64) if self._size >= 64 else b""
        if head[:4] != ELF_MAGIC or head[4:6] != b"\x02\x01":
            raise FatbinError("not a 64-bit ELF file")
        (table,) = struct.unpack_from("<Q", head, 0x28)
        width, count, names = struct.unpack_from("<HHH", head, 0x3A)
        if table == 0:
            yield 64, self._size
            return
        if width < 64:
            raise FatbinError("damaged ELF file: its section headers are too short")
        if count == 0 or names == 0xFFFF:  # more than fit: the first section says it
            first = self._bytes(table, 64)
            count = count or min(struct.unpack_from("<Q", first, 32)[0], _MAX_SECTIONS)
            names = struct.unpack_from("<I", first, 40)[0] if names == 0xFFFF else names
        rows = [struct.unpack_from("<IIQQQQ", self._bytes(table + index * width, 64)) for index in range(count)]
        if names >= len(rows):
            return
        text = self._bytes(rows[names][4], rows[names][5]) if rows[names][5] <= _MAX_NAMES else b""
        sections: dict[str, list[tuple[int, int]]] = {}
        for name, kind, _, _, offset, size in rows:
            called = text[name : name + 32].split(b"\0")[0].decode("latin-1")
            if called in SECTIONS and kind != 8:
                if offset + size > self._size:
                    raise FatbinError("damaged ELF file: a section extends past the end of the file")
                sections.setdefault(called, []).append((offset, offset + size))
        # After nvlink the relocatable code is still in the file, but the driver gets only what was linked.
        yield from next((sections[name] for name in SECTIONS if name in sections), [])

    def _find(self, start: int, end: int) -> int | None:
        """The next container's offset; padding between them is skipped."""
        while end - start >= _CONTAINER.size:
            data = self._bytes(start, min(_CHUNK, end - start))
            at = data.find(_MAGIC_BYTES)
            if at >= 0:
                return start + at if end - start - at >= _CONTAINER.size else None
            start += max(len(data) - 3, 1)
        return None

    def _container(self, at: int, stop: int, number: int) -> Iterator[GpuCode]:
        while stop - at >= _ENTRY.size:
            self._count += 1
            if self._count > _MAX_ENTRIES:
                raise FatbinError("damaged GPU code: there are more entries than in any real file")
            fields = _ENTRY.unpack(self._bytes(at, _ENTRY.size))
            kind, header, payload = fields[0], fields[2], fields[3]
            if header < _ENTRY.size or at + header + payload > stop:
                raise FatbinError("damaged GPU code: an entry extends past the end of its container")
            if kind in _KINDS:
                yield self._entry(fields, at + header, number)
            at += header + payload

    def _entry(self, fields: tuple[int, ...], payload: int, number: int) -> GpuCode:
        kind, _, _, size, stored, _, minor, major, sm, _, _, flags, _, _ = fields
        compression = "zstd" if flags & _FLAG_ZSTD else "lz4" if flags & _FLAG_LZ4 else ""
        suffix = "a" if flags & _FLAG_ARCH_SPECIFIC else "f" if flags & _FLAG_FAMILY_SPECIFIC else ""
        version = (major, minor) if kind == 1 else None
        if kind == 1:
            length = min(stored if compression and stored else size, size, _STORED)
            text = _start_of(self._bytes(payload, length), compression)
            # The text is what the driver reads; older toolkits had no flag for the suffix.
            if (target := _TARGET.search(text)) is not None:
                sm, suffix = int(target[1]), target[2].decode()
            if (match := _PTX_VERSION.search(text)) is not None:
                version = (int(match[1]), int(match[2]))
        return GpuCode(
            kind=_KINDS[kind], sm=sm, suffix=suffix, ptx_version=version, compression=compression, container=number
        )


def _start_of(data: bytes, compression: str) -> bytes:
    """The first bytes of what was stored; b"" where it can't be decompressed."""
    if compression == "zstd":
        try:
            reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(data)
            return reader.read(_START)
        except zstandard.ZstdError:
            return b""
    return lz4_start(data, _START) if compression == "lz4" else data[:_START]


def lz4_start(data: bytes, limit: int) -> bytes:
    """The first `limit` bytes (or all) of an LZ4 block; what came out until then where it is cut or damaged."""
    out = bytearray()
    at = 0
    try:
        while at < len(data) and len(out) < limit:
            token = data[at]
            literals, at = _length(data, at + 1, token >> 4)
            out += data[at : at + literals]
            at += literals
            if at + 2 > len(data):
                break
            distance = data[at] | data[at + 1] << 8
            length, at = _length(data, at + 2, token & 15)
            length = min(length + 4, limit)
            if not 0 < distance <= len(out):
                break
            piece = bytes(out[-distance:])[:length]
            out += (piece * (length // len(piece) + 1))[:length]
    except IndexError:
        pass  # cut inside a length
    return bytes(out[:limit])


def _length(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    length = nibble
    more = nibble == 15
    while more:
        length += data[at]
        more = data[at] == 255
        at += 1
    return length, at
