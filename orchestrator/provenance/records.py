"""What the staging scripts wrote in the container: which packages own the staged files, lock files, warnings.

The text is from inside the user's build container: it is bounded, and a line that makes no sense is passed over.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.staged import OpenArchive, read_entries

RECORDS = "/sbom"
SHIM_LOCK = "gevulot/Cargo.lock"
_LOCKS = "locks/"
LARGEST_FILE = 16 * 1024 * 1024
LARGEST_TOTAL = 64 * 1024 * 1024
MOST_WARNINGS = 200
LONGEST_WARNING = 2000  # characters
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?")


@dataclass(frozen=True, kw_only=True)
class DebianPackage:
    """An installed package. `source` is its source package, as dpkg says."""

    name: str
    version: str
    architecture: str
    source: str = ""
    source_version: str = ""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose a file is: the package, the path it has there, and how that is known (`md5` or `path`)."""

    package: DebianPackage
    path: str
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Records:
    """Records of one build.

    `system` and `codename` are os-release's ID and VERSION_CODENAME ("" where it has none); `owners` maps a file's
    SHA-256 to whose it is; `locks` maps a lock file's path in the sources to its bytes; `left_out` names lock files
    that were too large to take; `warnings` are what staging warned of, also when the engine had its result in a cache.
    `files` are what all this was read from, by path below /sbom.
    """

    system: str = ""
    codename: str = ""
    owners: Mapping[str, Owner] = field(default_factory=dict)
    locks: Mapping[str, bytes] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def read_records(open_archive: OpenArchive) -> Records:
    """The records in the resulting container. EngineError for a broken stream."""
    files: dict[str, bytes] = {}
    left_out: list[str] = []
    room = LARGEST_TOTAL
    with open_archive(RECORDS) as stream:
        for entry in read_entries(stream, RECORDS.strip("/")):
            if entry.kind != "file":
                continue
            if entry.size > min(room, LARGEST_FILE):
                left_out.append(entry.path.removeprefix(_LOCKS))
                continue
            room -= entry.size
            files[entry.path] = b"".join(entry.chunks())
    return parse_records(files, left_out=tuple(left_out))


def parse_records(files: Mapping[str, bytes], *, left_out: tuple[str, ...] = ()) -> Records:
    """Records from the files of /sbom, by path below it."""
    release = dict(_assignments(_text(files, "os-release")))
    packages = _packages(_text(files, "packages"))
    missed = {line for line in _text(files, "left-out").split("\n") if line.strip()}
    return Records(
        system=release.get("ID", ""),
        codename=release.get("VERSION_CODENAME", ""),
        owners=_owners(_text(files, "owners"), packages),
        locks={path.removeprefix(_LOCKS): data for path, data in sorted(files.items()) if path.startswith(_LOCKS)},
        left_out=tuple(sorted({*left_out, *missed})),
        warnings=tuple(_warnings(_text(files, "warnings"))),
        files=files,
    )


def with_shim_lock(records: Records, shim: Path | None) -> Records:
    """The records, and the Cargo.lock of the shim's sources on this host where the container had none.

    A finished shim is taken without its sources; one that was built may have had its Cargo.lock brought up to date.
    """
    if shim is None or SHIM_LOCK in records.locks or SHIM_LOCK in records.left_out:
        return records
    try:
        with (shim / "Cargo.lock").open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError:
        return records
    if len(data) > LARGEST_FILE:
        return replace(records, left_out=tuple(sorted({*records.left_out, SHIM_LOCK})))
    return replace(
        records,
        locks={**records.locks, SHIM_LOCK: data},
        files={**records.files, f"{_LOCKS}{SHIM_LOCK}": data},
    )


def _text(files: Mapping[str, bytes], name: str) -> str:
    return files.get(name, b"").decode("utf-8", "replace")


def _warnings(text: str) -> Iterator[str]:
    """One a line. File names are in them: what a terminal would obey is shown as a question mark."""
    lines = [line for line in text.split("\n") if line.strip()]
    for line in lines[:MOST_WARNINGS]:
        yield "".join(character if character.isprintable() else "?" for character in line[:LONGEST_WARNING])
    if len(lines) > MOST_WARNINGS:
        yield f"{len(lines) - MOST_WARNINGS} more warnings of staging are in the step's own output"


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """os-release: shell assignments, values quoted or not. Only words that can stand in a package URL count."""
    for line in text.split("\n"):
        name, _, value = line.partition("=")
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        if len(words) == 1 and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", words[0]):
            yield name.strip(), words[0]


def _packages(text: str) -> dict[str, DebianPackage]:
    """By both names that dpkg's files use: NAME:ARCHITECTURE, and NAME."""
    packages: dict[str, DebianPackage] = {}
    for line in text.split("\n"):
        columns = line.split("\t")
        if len(columns) == 5 and _PACKAGE.fullmatch(columns[0]) and columns[1]:
            name, version, architecture, source, source_version = columns
            package = DebianPackage(
                name=name,
                version=version,
                architecture=architecture,
                source=source or name,
                source_version=source_version or version,
            )
            packages[f"{name}:{architecture}"] = package
            packages.setdefault(name, package)
    return packages


def _owners(text: str, packages: Mapping[str, DebianPackage]) -> dict[str, Owner]:
    owners: dict[str, Owner] = {}
    # Several packages may hold the same bytes: the first line of the sorted ones decides, on every machine.
    for line in sorted(text.split("\n")):
        columns = line.split("\t")
        if len(columns) != 4 or not _SHA256.fullmatch(columns[0]) or columns[1] not in ("md5", "path"):
            continue
        package = packages.get(columns[2])
        if package is not None:
            owners.setdefault(columns[0], Owner(package=package, path=columns[3], evidence=columns[1]))
    return owners
