"""What a program's imports say of calls that the guest answers otherwise than Linux."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from orchestrator.guest.table import Guest


@dataclass(frozen=True, kw_only=True)
class ImportNote:
    """A row of the guest's table that a program's imports lead to: what it uses, and what the guest does."""

    functions: tuple[str, ...]
    says: str


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
