"""What a program's imports say of calls that the guest answers otherwise than Linux."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from orchestrator.guest.model import Guest

_MOST_SYMBOLS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ImportNote:
    """A row of the guest's table that a program's imports lead to: what it uses, and what the guest does."""

    functions: tuple[str, ...]
    says: str


def imported_functions(stream: BinaryIO) -> frozenset[str]:
    """The names that an ELF file takes from libraries; none for one that is static, stripped of them, or damaged."""
    try:
        table = ELFFile(stream).get_section_by_name(".dynsym")
        if not isinstance(table, SymbolTableSection) or table.num_symbols() > _MOST_SYMBOLS:
            return frozenset()
        symbols = (table.get_symbol(index) for index in range(table.num_symbols()))
        return frozenset(symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name)
    # pyelftools lets many errors of its own parsing through; a note is not worth one.
    except (ELFError, AttributeError, KeyError, OSError, OverflowError, TypeError, ValueError, AssertionError):
        return frozenset()


def import_notes(guest: Guest, version: str, imports: Collection[str]) -> Iterator[ImportNote]:
    """The rows of the table that matter to a program with these imports, on Nanos `version`."""
    stops = [row for row in guest.stops if guest.stop(row.code, version) is row]
    rows = [
        *((row.imports, f"{row.says}: {row.then}") for row in stops),
        *((row.imports, row.says) for row in guest.ignored),
        *((row.imports, row.says) for row in guest.differences),
    ]
    for names, says in rows:
        used = tuple(name for name in names if name in imports)
        if used:
            yield ImportNote(functions=used, says=says)
