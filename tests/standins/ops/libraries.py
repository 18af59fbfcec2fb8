"""Which shared libraries a program needs, found by reading it: DT_NEEDED, and the places where the loader looks.

The real ops runs the program under the loader's trace instead, and takes the paths that the loader prints.
"""
# Without pathlib: paths are text here, as the loader prints them.
# ruff: noqa: PTH100, PTH110, PTH113, PTH118, PTH119, PTH120, PTH123, PTH207

from __future__ import annotations

import glob
import os
import struct
from dataclasses import dataclass

from .console import fatal_on_stderr

_DEFAULT = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29


@dataclass(frozen=True, kw_only=True)
class Elf:
    """What the loader goes by."""

    machine: int
    interpreter: str
    needed: tuple[str, ...]
    rpath: str
    runpath: str


def check_program(path: str) -> None:
    """End the run as ops does unless `path` is an ELF file."""
    with open(path, "rb") as stream:
        head = stream.read(16)
    if len(head) < 16:
        fatal_on_stderr("EOF")
    if head[:4] != b"\x7fELF":
        fatal_on_stderr(f'only ELF binaries are supported. Is this a Linux binary? run "file {path}" on it')


def find_libraries(program: str) -> tuple[dict[str, str], list[str]]:
    """(name → path as the loader reports it, names that are nowhere); empty for a static program."""
    top = read_elf(program)
    if top is None or not top.needed:
        return {}, []
    paths: dict[str, str] = {}
    missing: list[str] = []
    if top.interpreter:
        paths[os.path.basename(top.interpreter)] = top.interpreter
    queue = [(name, top, program) for name in top.needed]
    for name, elf, path in queue:
        if name in paths or name in missing:
            continue
        place = _search(name, elf, os.path.dirname(os.path.abspath(path)), top)
        if place is None:
            missing.append(name)
            continue
        paths[name] = place
        inner = read_elf(place)
        if inner is not None:
            queue += [(needed, inner, place) for needed in inner.needed]
    return paths, missing


def _search(name: str, elf: Elf, origin: str, top: Elf) -> str | None:
    if "/" in name:
        return name if os.path.exists(name) else None
    rpath = "" if elf.runpath else f"{elf.rpath}:{top.rpath if not top.runpath else ''}"
    places = [
        *_split(rpath, origin),
        *os.environ.get("LD_LIBRARY_PATH", "").split(":"),
        *_split(elf.runpath, origin),
        *_configured("/etc/ld.so.conf"),
        *_DEFAULT,
    ]
    for place in filter(None, places):
        path = os.path.join(place, name)
        candidate = read_elf(path) if os.path.isfile(path) else None
        if candidate is not None and candidate.machine == top.machine:
            return path
    return None


def _split(text: str, origin: str) -> list[str]:
    return text.replace("${ORIGIN}", origin).replace("$ORIGIN", origin).split(":")


def _configured(name: str) -> list[str]:
    """The directories of ld.so.conf, which is what the loader's cache is made from."""
    try:
        with open(name, encoding="utf-8") as stream:
            lines = [line.split("#")[0].strip() for line in stream]
    except OSError:
        return []
    places: list[str] = []
    for line in lines:
        if line.startswith("include"):
            for inner in sorted(glob.glob(os.path.join(os.path.dirname(name), line[7:].strip()))):
                places += _configured(inner)
        elif line:
            places.append(line)
    return places


def read_elf(path: str) -> Elf | None:
    """The headers of a 64-bit little-endian ELF file; None for anything else."""
    with open(path, "rb") as stream:
        data = stream.read()
    if data[:6] != b"\x7fELF\x02\x01":
        return None
    try:
        return _parse(data)
    except (struct.error, IndexError, ValueError):
        return None


def _parse(data: bytes) -> Elf:
    machine = struct.unpack_from("<H", data, 18)[0]
    table, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    loads: list[tuple[int, int, int]] = []
    dynamic: list[tuple[int, int]] = []
    interpreter = ""
    for number in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, table + number * size)
        if kind == _PT_LOAD:
            loads.append((address, offset, length))
        elif kind == _PT_INTERP:
            interpreter = data[offset : offset + length].split(b"\0")[0].decode()
        elif kind == _PT_DYNAMIC:
            dynamic = list(struct.iter_unpack("<qQ", data[offset : offset + length // 16 * 16]))
    strings = next((value for tag, value in dynamic if tag == _DT_STRTAB), 0)
    base = next((strings - at + offset for at, offset, length in loads if at <= strings < at + length), 0)

    def texts(wanted: int) -> list[str]:
        values = [value for tag, value in dynamic if tag == wanted]
        return [data[base + value : data.index(b"\0", base + value)].decode() for value in values]

    return Elf(
        machine=machine,
        interpreter=interpreter,
        needed=tuple(texts(_DT_NEEDED)),
        rpath=":".join(texts(_DT_RPATH)),
        runpath=":".join(texts(_DT_RUNPATH)),
    )
