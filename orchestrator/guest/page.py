"""The guest's table as Markdown, for docs/guest.md."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from orchestrator.guest.table import ArgumentRule, Guest, call_numbers


def markdown(guest: Guest) -> str:
    """The whole table: a heading for each section, and a row's source beside it. Ends with a newline."""
    return "\n".join(_lines(guest)) + "\n"


def _lines(guest: Guest) -> Iterator[str]:
    known = set(call_numbers())
    missing = sorted(known - guest.calls)
    yield from _section("What stops the guest", "what | then | mended in | source")
    yield from (_row(row.says, row.then, row.fixed or "not yet known", row.source) for row in guest.stops)
    yield from _section(f"System calls that fail with ENOSYS ({len(missing)} of Linux's {len(known)})", "")
    yield ", ".join(f"`{name}`" for name in missing)
    yield from _section("Calls that return 0 and do nothing", "calls | what that means | source")
    yield from (_row(_code(row.calls), row.says, row.source) for row in guest.ignored)
    yield from _section("Calls that an argument decides", "call | what fails | with | source")
    yield from (_row(f"`{row.call}`", _decision(row), _errno(row.errno), row.source) for row in guest.arguments)
    yield from _section("/workspace (9P)", "call | fails with | source")
    yield from (_row(f"`{row.call}`", _errno(row.errno), row.source) for row in guest.share)
    yield from _section("/dev, /proc and /sys hold only", "file | source")
    yield from (_row(f"`{row.path}`", row.source) for row in guest.files)
    yield from _section("What a program is told", "what | value | source")
    yield from (_row(name, f"`{value}`", guest.sources["values"]) for name, value in guest.values.items())
    yield from (_row(f"mode of a {name}", f"`{mode:o}`", guest.sources["modes"]) for name, mode in guest.modes.items())
    yield from _section("Answers that differ without an error", "functions | what | source")
    yield from (_row(_code(row.imports), row.says, row.source) for row in guest.differences)


def _section(title: str, columns: str) -> Iterator[str]:
    yield from ("", f"### {title}", "")
    if columns:
        names = columns.split(" | ")
        yield from (_row(*names), _row(*("---" for _ in names)))


def _row(*cells: str) -> str:
    return f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |"


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _errno(number: int | None) -> str:
    return "returns 0" if number is None else errno.errorcode[number]


def _decision(row: ArgumentRule) -> str:
    if row.bits:
        return f"argument {row.argument} has a bit of {row.bits:#x}"
    return f"argument {row.argument} is none of {', '.join(map(str, row.allowed))}"
