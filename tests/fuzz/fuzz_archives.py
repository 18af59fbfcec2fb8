"""Fuzzes what reads archives and bundles: `python -m tests.fuzz.fuzz_archives [-max_total_time=600] [corpus]`.

An input is a recipe: which reader, how the archive is packed, which seed, and bytes that replace some of the seed's.
The checksums of its headers are made right again, so that a changed header is read. Only our own errors may come out,
and nothing may lie, or lead, outside of where it was unpacked to.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import importlib
import io
import json
import lzma
import os
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from orchestrator.errors import OrchestratorError
from orchestrator.inputs.archives import ArchiveLimits, extract
from orchestrator.inputs.image_archive import read_image, write_image
from orchestrator.inputs.store import Store
from orchestrator.inputs.transfer import import_entries
from orchestrator.staged import read_entries
from tests.support.images import layer, saved_image

BLOCK = 512
LIMITS = ArchiveLimits(members=200, size=1 << 20, ratio=50, ratio_from=1 << 18, seconds=20)
PACKERS: list[Callable[[bytes], bytes]] = [
    bytes, gzip.compress, bz2.compress, lambda data: lzma.compress(data, preset=0), zstandard.compress,
]  # fmt: skip


def _tar(form: int, members: list[tuple[str, bytes, bytes | str]]) -> bytes:
    """(name, kind, content or a link's text)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, kind, what in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if isinstance(what, bytes):
                info.size = len(what)
                tar.addfile(info, io.BytesIO(what))
            else:
                info.linkname = what
                tar.addfile(info)
    return out.getvalue()


def _bundle() -> bytes:
    def record(content: bytes) -> bytes:
        return json.dumps({"sha256": hashlib.sha256(content).hexdigest(), "size": 1, "info": {"source": "x"}}).encode()

    key, file = hashlib.sha256(b"file").hexdigest(), tarfile.REGTYPE
    return _tar(
        tarfile.PAX_FORMAT,
        [
            ("orchestrator-cache", file, b"1\n"),
            (f"entries/git-{'a' * 40}/entry.json", file, record(b"")),
            (f"entries/git-{'a' * 40}/data", tarfile.DIRTYPE, ""),
            (f"entries/git-{'a' * 40}/data/l", tarfile.SYMTYPE, "/etc"),
            (f"entries/sha256-{key}/entry.json", file, record(b"file")),
            (f"entries/sha256-{key}/data", file, b"file"),
            ("names/url-x.json", file, json.dumps({"key": f"sha256-{key}"}).encode()),
            ("orchestrator-cache-end", file, b"1\n"),
        ],
    )


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("top/file", b"data" * 50)
        link = zipfile.ZipInfo("top/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "file")
    return out.getvalue()


_FILE, _DIR, _LINK, _HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
_MEMBERS: list[tuple[str, bytes, bytes | str]] = [
    ("top", _DIR, ""), ("top/file", _FILE, b"data"), ("top/a/b/s", _LINK, "../c"), ("top/a/c/x", _FILE, b"x" * 600),
    ("top/k", _LINK, "a/b/s/../c/x"), ("top/same", _HARD, "top/file"), ("top/" + "n" * 150, _FILE, b""),
    ("top/long", _LINK, "l" * 150),
]  # fmt: skip
SEEDS = [
    _tar(tarfile.GNU_FORMAT, _MEMBERS),
    _tar(tarfile.PAX_FORMAT, [*_MEMBERS, ("top/Grüße", _FILE, b"x")]),
    _tar(tarfile.USTAR_FORMAT, _MEMBERS[:6]),
    _bundle(),
    saved_image([layer("one"), layer("two")], tags=["localhost/x:1"], extra={"blobs/sha256/x": b"{}"}),
    _zip(),
]
READERS = 4


def repaired(data: bytearray) -> bytes:
    """The tar with right checksums in all blocks that have the look of a header."""
    for at in range(0, len(data) - BLOCK + 1, BLOCK):
        if data[at + 257 : at + 262] == b"ustar":
            total = sum(data[at : at + 148]) + 8 * 32 + sum(data[at + 156 : at + BLOCK])
            data[at + 148 : at + 156] = f"{total:06o}\0 ".encode()
    return bytes(data)


def build(recipe: bytes) -> tuple[int, bytes]:
    """(which reader, the archive) of a recipe: reader, packer, seed, then (place, place, count, bytes…) repeatedly.

    A place's first byte is a block, its second a quarter of what lies where in it; a count of 0 cuts off there.
    """
    reader, packer, seed, rest = recipe[0] % READERS, recipe[1] % len(PACKERS), recipe[2] % len(SEEDS), recipe[3:]
    data = bytearray(SEEDS[seed])
    while len(rest) >= 4:
        at = (rest[0] * BLOCK + 2 * rest[1]) % len(data)
        count = rest[2] % 32
        if count == 0:
            del data[max(1, at) :]
        else:
            data[at : at + count] = rest[3 : 3 + count]
        rest = rest[3 + count :]
    whole = bytes(data) if seed == len(SEEDS) - 1 else repaired(data)
    packed = PACKERS[packer](whole)
    return reader, packed[: len(packed) * recipe[1] // 256 + 1] if recipe[1] > 250 else packed


def exercise(reader: int, data: bytes) -> bool:
    """Read an archive; whether it was taken. Anything but our own error is a finding."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        top = Path(directory)
        archive, inside = top / "archive", top / "inside"
        archive.write_bytes(data)
        inside.mkdir()
        try:
            _read(reader, archive, inside)
        except OrchestratorError as error:
            assert error.message
            return False
        finally:
            assert sorted(path.name for path in top.iterdir()) == ["archive", "inside"]
    return True


def _read(reader: int, archive: Path, inside: Path) -> None:
    if reader == 0:
        extract(archive, inside / "out", limits=LIMITS)
        _all_inside(inside / "out")
    elif reader == 1:
        store = Store(inside / "cache")
        import_entries(store, archive)
        for entry in store.list():
            assert store.get(entry.key) is not None
            assert entry.key.startswith(("sha256-", "git-", "image-", "program-"))
    elif reader == 2:
        image = read_image(archive)
        write_image(image, "localhost/x:1", inside / "again")
        assert read_image(inside / "again").id == image.id
    else:
        with archive.open("rb") as stream:
            for member in read_entries(stream, "top"):
                assert not member.path.startswith("/")
                if member.kind == "file":
                    assert sum(len(chunk) for chunk in member.chunks()) == member.size


def _all_inside(root: Path) -> None:
    real = os.path.realpath(root)
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            assert not path.lstat().st_mode & 0o6000
            if path.is_symlink():
                resolved = os.path.realpath(path)
                assert resolved == real or resolved.startswith(real + "/"), path


def _one_input(data: bytes) -> None:
    if len(data) > 3:
        exercise(*build(data))


def main() -> None:
    """Run libFuzzer with what the command line says."""
    atheris: Any = importlib.import_module("atheris")  # only this needs it, and it carries no types
    with tempfile.TemporaryDirectory() as directory:
        for reader in range(READERS):
            for seed in range(len(SEEDS)):
                (Path(directory) / f"{reader}-{seed}").write_bytes(bytes([reader, seed % 5, seed, 0, 8, 2, 0x61, 0x62]))
        atheris.instrument_all()
        atheris.Setup([*sys.argv, "-rss_limit_mb=768", directory], _one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
