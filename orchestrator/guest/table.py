"""What a version of Nanos gives a program: the table beside this file, typed. One for `rehearse`, `verify` and docs."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from orchestrator.text import parse_toml

_HERE: Final = Path(__file__).parent
_VERSIONS: Final = ("0.1.51",)


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """Calls that return 0 and do nothing. `imports`: the C library's functions that end there, where it matters."""

    calls: tuple[str, ...]
    says: str
    source: str
    imports: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ArgumentRule:
    """A call that one argument decides: it fails with `errno` (None: returns 0, undone) when any of `bits` is set, or
    when `argument & mask` is not one of `allowed`. `named`: what the user is told; "" = nothing."""

    call: str
    argument: int
    source: str
    errno: int | None
    bits: int = 0
    mask: int = 0xFFFFFFFF
    allowed: tuple[int, ...] = ()
    named: str = ""


@dataclass(frozen=True, kw_only=True)
class GuestFile:
    """A file of /dev, /proc or /sys that the kernel makes. `kind`: how a rehearsal gives it."""

    path: str
    kind: str
    source: str


@dataclass(frozen=True, kw_only=True)
class ShareRule:
    """What fails on a 9P share; `call` is a system call's name or a flag's."""

    call: str
    errno: int
    named: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Stop:
    """What stops the guest, always or `sometimes`. `fixed`: the first version without it, "" = none known."""

    code: str
    calls: tuple[str, ...]
    imports: tuple[str, ...]
    says: str
    then: str
    source: str
    fixed: str = ""
    sometimes: bool = False


@dataclass(frozen=True, kw_only=True)
class GuestDifference:
    """An answer that differs from Linux's without an error, and the C library's functions that lead to it."""

    imports: tuple[str, ...]
    says: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A version of Nanos. `implemented`: source file → system calls that have a handler; every other is ENOSYS.

    `values` and `modes` are numbers and texts by name, `sources` where each was read; `descriptor_ioctls` are what
    ioctl does for files that aren't sockets (else `ENOSYS`).
    """

    version: str
    commit: str
    implemented: Mapping[str, tuple[str, ...]]
    quiet: frozenset[str]
    ignored: tuple[Ignored, ...]
    arguments: tuple[ArgumentRule, ...]
    descriptor_ioctls: tuple[int, ...]
    files: tuple[GuestFile, ...]
    modes: Mapping[str, int]
    values: Mapping[str, Any]
    sources: Mapping[str, str]
    share: tuple[ShareRule, ...]
    stops: tuple[Stop, ...]
    differences: tuple[GuestDifference, ...]

    @property
    def calls(self) -> frozenset[str]:
        """Every system call that has a handler."""
        return frozenset(name for names in self.implemented.values() for name in names)

    def share_rule(self, call: str) -> ShareRule:
        """The rule for `call` on a 9P share; KeyError when it has none."""
        for rule in self.share:
            if rule.call == call:
                return rule
        raise KeyError(call)

    def stop(self, code: str, version: str) -> Stop | None:
        """What stops the guest under `code`; None when `version` of the image's kernel no longer has it."""
        for stop in self.stops:
            if stop.code == code and not (stop.fixed and numbers(version) >= numbers(stop.fixed)):
                return stop
        return None

    def memory(self, mib: int) -> int:
        """Bytes of memory that a machine of `mib` MiB has for the guest."""
        return (mib << 20) - int(self.values["memory_taken"]) - mib * int(self.values["memory_taken_per_mib"])


def guest_of(version: str | None) -> Guest:
    """The table for a version of Nanos, or the nearest that is known (compare `Guest.version`)."""
    wanted = numbers(version or _VERSIONS[-1])
    earlier = [known for known in _VERSIONS if numbers(known) <= wanted]
    return _load(earlier[-1] if earlier else _VERSIONS[0])


def numbers(version: str) -> tuple[int, ...]:
    """A version's numbers, to compare by; () for one without."""
    parts = version.split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()


@cache
def call_numbers() -> Mapping[str, int]:
    """Linux's system calls on x86-64: name → number."""
    lines = (_HERE / "calls-x86_64.txt").read_text(encoding="ascii").splitlines()
    pairs = (line.split() for line in lines if not line.startswith("#"))
    return {name: int(number) for number, name in pairs}


@cache
def _load(version: str) -> Guest:
    table = parse_toml((_HERE / f"nanos-{version}.toml").read_text(encoding="utf-8"))
    sections = {name: table[name] for name in ("modes", "values", "ioctl")}
    return Guest(
        version=table["version"],
        commit=table["commit"],
        implemented={source: _words(names) for source, names in table["implemented"].items()},
        quiet=frozenset(_words(table["quiet"]["calls"])),
        ignored=tuple(Ignored(**row) for row in _rows(table, "ignored")),
        arguments=tuple(ArgumentRule(**row) for row in _rows(table, "argument")),
        descriptor_ioctls=tuple(table["ioctl"]["allowed"]),
        files=tuple(GuestFile(path=row["path"], kind=row["as"], source=row["source"]) for row in _rows(table, "file")),
        modes={name: mode for name, mode in table["modes"].items() if name != "source"},
        values={name: value for name, value in table["values"].items() if name != "source"},
        sources={name: section["source"] for name, section in sections.items()},
        share=tuple(ShareRule(**row) for row in _rows(table, "workspace")),
        stops=tuple(Stop(**row) for row in _rows(table, "stop")),
        differences=tuple(GuestDifference(**row) for row in _rows(table, "difference")),
    )


def _rows(table: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    for row in table[name]:
        fields = dict(row)
        for key in ("calls", "imports"):
            if key in fields:
                fields[key] = _words(fields[key])
        if "errno" in fields:
            fields["errno"] = getattr(errno, fields["errno"]) if fields["errno"] else None
        if "allowed" in fields:
            fields["allowed"] = tuple(fields["allowed"])
        yield fields


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())
