"""What a file is by its first bytes: a server that answers 200 with an error page must not reach the build."""

from __future__ import annotations

import struct
from pathlib import Path

from orchestrator.errors import InputError

_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"PK\x03\x04")


def expect_gzip(path: Path, shown: str) -> None:
    """InputError unless the file begins as gzip does. `shown` names it in the message."""
    head = _head(path)
    if not head.startswith(b"\x1f\x8b"):
        raise _wrong(shown, head, "a gzip archive")


def expect_archive(path: Path, shown: str) -> None:
    """InputError unless the file begins as a tar (compressed or not) or zip does."""
    head = _head(path)
    if not head.startswith(_ARCHIVES) and head[257:262] != b"ustar":
        raise _wrong(shown, head, "a tar or zip archive")


def expect_program(path: Path, shown: str) -> None:
    """InputError unless the file is a whole ELF program for x86-64 Linux, as ops is."""
    head = _head(path)
    # e_ident: magic, class 64, little-endian; e_machine 62 = x86-64 (System V ABI).
    if head[:6] != b"\x7fELF\x02\x01" or len(head) < 64 or struct.unpack_from("<H", head, 18)[0] != 62:
        raise _wrong(shown, head, "an x86-64 Linux program (ELF)")
    (sections,) = struct.unpack_from("<Q", head, 40)
    size, count = struct.unpack_from("<HH", head, 58)
    # The section headers stand last in what linkers write, so a cut-off file shows here.
    if sections + size * count > path.stat().st_size:
        raise InputError(f"{shown}: the program is truncated", remedy="fetch it again")


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(512)


def _wrong(shown: str, head: bytes, wanted: str) -> InputError:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        what = "is empty"
    elif start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        what = "is a web page (an error or a login page), not " + wanted
    elif start.startswith(b"version https://git-lfs"):
        what = "is a Git LFS pointer, not " + wanted
    else:
        what = f"is not {wanted}; it begins with {head[:8].hex(' ')}"
    return InputError(f"{shown}: {what}", remedy="check the URL; a proxy may have answered instead of the server")
