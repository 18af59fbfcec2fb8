"""What the headers of an ELF file say about how it is loaded: read lazily, bounded, with one error type."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final, cast

from elftools.common.exceptions import ELFError as PyElfError
from elftools.common.exceptions import ELFParseError as PyElfParseError
from elftools.common.utils import struct_parse
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from orchestrator.errors import VerificationError

MAGIC: Final = b"\x7fELF"
MACHINE: Final = "EM_X86_64"
_READ_BUDGET: Final = 4 * 1024 * 1024  # bytes of headers and tables; a real library has some tens of KiB
_LOADER_SIZE: Final = 8 * 1024 * 1024
_MAX_STRING: Final = 4096
_MAX_ENTRIES: Final = 16384
_MAX_NEEDED: Final = 1024
_FLAG_NODEFLIB: Final = 0x800
_FLAG_PIE: Final = 0x08000000
_VERSION_WEAK: Final = 0x2
_LINUX_ABIS: Final = ("ELFOSABI_SYSV", "ELFOSABI_LINUX")
_WRITABLE: Final = 0x2
_SECTION: Final = struct.Struct("<8xQ32xQ8x")  # sh_flags, sh_addralign
_SECTION_LOADED: Final = 0x2
_MAX_SECTIONS: Final = 4096
# pyelftools and the construct library inside it let these escape on damaged files.
_PARSER_ERRORS: Final = (
    PyElfError, PyElfParseError, ConstructError, ArithmeticError, AssertionError, AttributeError, EOFError,
    LookupError, TypeError, ValueError, struct.error,
)  # fmt: skip

# Both loaders keep their default directories as text. glibc: one after the other, each with its NUL, as configured;
# musl: one path.
_GLIBC_DIRECTORIES: Final = re.compile(rb"(?:/(?:usr/)?lib[0-9a-z]*/(?:[^/\0]{1,64}-linux-gnu[^/\0]{0,16}/)?\0){2,}")
_MUSL_DIRECTORIES: Final = b"/lib:/usr/local/lib:/usr/lib"
_UNKNOWN_LOADER: Final = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")


class ElfError(VerificationError):
    """The bytes are not an ELF file whose headers can be read."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One PT_LOAD: `file_size` bytes at `offset` of the file, `memory_size` bytes at `address`."""

    address: int
    offset: int
    file_size: int
    memory_size: int
    writable: bool


@dataclass(frozen=True, kw_only=True)
class ElfFacts:
    """How an ELF file is loaded.

    `machine` is as in elf.h (EM_X86_64), `type` too (ET_EXEC, ET_DYN, ET_REL, …). `rpath` and `runpath` are as written,
    tokens unexpanded; as in the loaders, `rpath` is empty where there is a `runpath`. `versions_needed` maps a
    library's name to the versions that must be there (weak ones left out); `versions_defined` are its own.
    `exec_stack` is None where no header says; `for_linux` is whether its ABI byte is one that Linux's loaders take.
    `segments` in the file's order; `headers` are the first byte of the program headers and the one behind the last;
    `alignment` is the largest of a loaded section, in bytes, as far as its segment keeps to it (1 where there are no
    section headers); `tls`: there is a PT_TLS.
    """

    bits: int
    machine: str
    type: str
    interpreter: str | None = None
    needed: tuple[str, ...] = ()
    soname: str | None = None
    rpath: str = ""
    runpath: str = ""
    no_default_directories: bool = False
    pie: bool = False
    exec_stack: bool | None = None
    for_linux: bool = True
    versions_needed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    versions_defined: frozenset[str] = frozenset()
    segments: tuple[Segment, ...] = ()
    headers: tuple[int, int] = (0, 0)
    alignment: int = 1
    tls: bool = False

    @property
    def native(self) -> bool:
        """Whether a Gevulot node's loader would take it: 64-bit x86-64."""
        return self.bits == 64 and self.machine == MACHINE


class _View:
    """A seekable stream for pyelftools: section headers hidden (loaders don't look at them, and they are where a
    damaged file costs most), and no more read than headers can need."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._budget = _READ_BUDGET
        stream.seek(0)
        head = bytearray(stream.read(64))
        if head[:4] != MAGIC:
            raise ElfError("not an ELF file", remedy="only ELF programs and libraries can be loaded")
        wide = len(head) == 64 and head[4] == 2
        for start, end in ((0x28, 0x30), (0x3C, 0x40)) if wide else ((0x20, 0x24), (0x30, 0x34)):
            head[start:end] = bytes(len(head[start:end]))
        self._head = bytes(head)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes:
        at = self._stream.tell()
        if not 0 <= size <= _READ_BUDGET:
            raise ElfError("damaged ELF file: a table is larger than any real one")
        self._budget -= max(size, 64)
        if self._budget < 0:
            raise ElfError("damaged ELF file: its tables have no end")
        data = self._stream.read(size)
        if at < len(self._head):
            shown = self._head[at : at + len(data)]
            data = shown + data[len(shown) :]
        return data


def is_elf(start: bytes) -> bool:
    """Whether a file's first bytes are an ELF file's."""
    return start.startswith(MAGIC)


def read_elf(stream: BinaryIO) -> ElfFacts:
    """The facts of the ELF file in a seekable stream, which is left open. ElfError when it can't be read."""
    try:
        facts = _ElfReader(ELFFile(cast("BinaryIO", _View(stream)))).facts()
        return replace(facts, alignment=min(_section_alignment(stream), facts.alignment)) if facts.native else facts
    except _PARSER_ERRORS as error:
        raise ElfError(f"damaged ELF file: {type(error).__name__}: {str(error)[:120]}") from error


def _section_alignment(stream: BinaryIO) -> int:
    """The largest alignment of a section that is loaded; 1 where no section says."""
    stream.seek(0)
    at, width, count = struct.unpack_from("<40xQ10xHH", stream.read(64))
    if width != _SECTION.size or not 0 < count <= _MAX_SECTIONS:
        return 1
    stream.seek(at)
    data = stream.read(width * count)
    sections = _SECTION.iter_unpack(data[: len(data) // width * width])
    return max((alignment for flags, alignment in sections if flags & _SECTION_LOADED), default=1)


class _ElfReader:
    """One pass over the program headers, then over the dynamic section by way of them."""

    def __init__(self, elf: ELFFile) -> None:
        self._elf = elf
        self._stream = elf.stream
        self._loads: list[Segment] = []
        self._alignment = 1
        self._tls = False
        self._dynamic: tuple[int, int] | None = None
        self._interpreter: str | None = None
        self._exec_stack: bool | None = None
        self._tags: dict[str, list[int]] = {}

    def facts(self) -> ElfFacts:
        header = self._elf.header
        for segment in self._elf.iter_segments():
            self._segment(segment.header)
        self._read_tags()
        flags = self._first("DT_FLAGS_1") or 0
        runpath = self._strings("DT_RUNPATH")
        return ElfFacts(
            bits=self._elf.elfclass,
            machine=str(header["e_machine"]),
            type=str(header["e_type"]),
            interpreter=self._interpreter,
            needed=tuple(self._strings("DT_NEEDED")),
            soname=next(iter(self._strings("DT_SONAME")), None),
            rpath="" if runpath else next(iter(self._strings("DT_RPATH")), ""),
            runpath=next(iter(runpath), ""),
            no_default_directories=bool(flags & _FLAG_NODEFLIB),
            pie=bool(flags & _FLAG_PIE),
            exec_stack=self._exec_stack,
            for_linux=str(header["e_ident"]["EI_OSABI"]) in _LINUX_ABIS,
            versions_needed=self._versions_needed(),
            versions_defined=frozenset(self._versions_defined()),
            segments=tuple(self._loads),
            headers=(header["e_phoff"], header["e_phoff"] + header["e_phnum"] * header["e_phentsize"]),
            alignment=self._alignment,
            tls=self._tls,
        )

    def _segment(self, header: Any) -> None:
        kind, offset, size = header["p_type"], header["p_offset"], header["p_filesz"]
        if kind == "PT_LOAD":
            self._loads.append(
                Segment(
                    address=header["p_vaddr"],
                    offset=offset,
                    file_size=size,
                    memory_size=header["p_memsz"],
                    writable=bool(header["p_flags"] & _WRITABLE),
                )
            )
            self._alignment = max(self._alignment, header["p_align"])
        elif kind == "PT_DYNAMIC" and self._dynamic is None:
            self._dynamic = (offset, size)
        elif kind == "PT_INTERP" and self._interpreter is None:
            self._interpreter = self._text(offset, min(size, _MAX_STRING))
        elif kind == "PT_TLS":
            self._tls = True
        elif kind == "PT_GNU_STACK":
            self._exec_stack = bool(header["p_flags"] & 1)

    def _read_tags(self) -> None:
        if self._dynamic is None:
            return
        offset, size = self._dynamic
        layout = self._elf.structs.Elf_Dyn
        width = layout.sizeof()
        for number in range(min(size // width, _MAX_ENTRIES)):
            entry = struct_parse(layout, self._stream, offset + number * width)
            if entry["d_tag"] == "DT_NULL":
                return
            self._tags.setdefault(str(entry["d_tag"]), []).append(int(entry["d_val"]))

    def _first(self, tag: str) -> int | None:
        values = self._tags.get(tag)
        return values[0] if values else None

    def _offset(self, address: int) -> int:
        for segment in self._loads:
            if segment.address <= address < segment.address + segment.file_size:
                return segment.offset + address - segment.address
        raise ElfError("damaged ELF file: a table lies outside what is loaded")

    def _string(self, index: int) -> str:
        table = self._first("DT_STRTAB")
        if table is None:
            raise ElfError("damaged ELF file: names without a table of names")
        return self._text(self._offset(table + index), _MAX_STRING)

    def _strings(self, tag: str) -> list[str]:
        indices = self._tags.get(tag, [])
        if len(indices) > _MAX_NEEDED:
            raise ElfError(f"damaged ELF file: it has {len(indices)} entries {tag}")
        return [self._string(index) for index in indices]

    def _text(self, offset: int, limit: int) -> str:
        self._stream.seek(offset)
        data: bytes = b""
        while b"\0" not in data and len(data) < limit:
            piece = self._stream.read(64)
            if not piece:
                break
            data += piece
        return data[:limit].split(b"\0")[0].decode("utf-8", "surrogateescape")

    def _chain(self, layout: Any, offset: int, count: int, following: str) -> Iterator[tuple[int, Any]]:
        """Records linked by byte distances, `count` of them at most, as (offset, record)."""
        for _ in range(min(count, _MAX_ENTRIES)):
            record = struct_parse(layout, self._stream, offset)
            yield offset, record
            if not record[following]:
                return
            offset += record[following]

    def _versions_needed(self) -> dict[str, tuple[str, ...]]:
        needed: dict[str, tuple[str, ...]] = {}
        address, count = self._first("DT_VERNEED"), self._first("DT_VERNEEDNUM")
        if address is None or count is None:
            return needed
        layouts = self._elf.structs
        for offset, file in self._chain(layouts.Elf_Verneed, self._offset(address), count, "vn_next"):
            parts = self._chain(layouts.Elf_Vernaux, offset + file["vn_aux"], file["vn_cnt"], "vna_next")
            names = [self._string(part["vna_name"]) for _, part in parts if not part["vna_flags"] & _VERSION_WEAK]
            name = self._string(file["vn_file"])
            needed[name] = (*needed.get(name, ()), *names)
        return needed

    def _versions_defined(self) -> Iterator[str]:
        address, count = self._first("DT_VERDEF"), self._first("DT_VERDEFNUM")
        if address is None or count is None:
            return
        layouts = self._elf.structs
        for offset, version in self._chain(layouts.Elf_Verdef, self._offset(address), count, "vd_next"):
            # The first name is the version's own; those that follow are its parents.
            for _, name in self._chain(layouts.Elf_Verdaux, offset + version["vd_aux"], 1, "vda_next"):
                yield self._string(name["vda_name"])


def is_musl_name(interpreter: str) -> bool:
    """Whether a loader's path is musl's."""
    return interpreter.rpartition("/")[2].startswith("ld-musl-")


def default_directories(loader: BinaryIO) -> tuple[str, ...]:
    """Where this loader looks when nothing else says, in its order, without trailing slashes.

    glibc's are compiled in and differ from one distribution to the next, so they are read from the loader's bytes.
    """
    loader.seek(0)
    data = loader.read(_LOADER_SIZE)
    if _MUSL_DIRECTORIES in data:
        return tuple(_MUSL_DIRECTORIES.decode().split(":"))
    match = _GLIBC_DIRECTORIES.search(data)
    if match is None:
        return _UNKNOWN_LOADER
    return tuple(part.decode().rstrip("/") for part in match.group().split(b"\0") if part)
