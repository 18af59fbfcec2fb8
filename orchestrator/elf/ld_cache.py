"""glibc's /etc/ld.so.cache, for the rare image that packs one (sysdeps/generic/dl-cache.h)."""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

_MAGIC: Final = b"glibc-ld.so.cache1.1"
_HEADER: Final = struct.Struct("<20sIIB3xI12x")  # magic, entries, bytes of strings, flags, extensions
_ENTRY: Final = struct.Struct("<iIIIQ")  # flags, name, path (offsets from the start), OS version, hardware
_X86_64: Final = 0x0303  # FLAG_X8664_LIB64 | FLAG_ELF_LIBC6
_MAX_SIZE: Final = 4 * 1024 * 1024


def read_ld_cache(stream: BinaryIO) -> dict[str, str]:
    """Library name → path, for 64-bit libraries of the baseline; empty when it is no cache of the new format."""
    data = stream.read(_MAX_SIZE)
    paths: dict[str, str] = {}
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        return paths
    count = _HEADER.unpack_from(data)[1]
    for number in range(min(count, (len(data) - _HEADER.size) // _ENTRY.size)):
        flags, name, path, _, hardware = _ENTRY.unpack_from(data, _HEADER.size + number * _ENTRY.size)
        if flags == _X86_64 and not hardware:
            paths.setdefault(_text(data, name), _text(data, path))
    return paths


def _text(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset)
    return data[offset : end if end >= 0 else offset].decode("utf-8", "surrogateescape")
