"""The receipts below some directories: the newest are read, whatever version wrote them, and all others are named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from orchestrator.documents import DocumentError, Many, parse_document, read_bounded
from orchestrator.errors import UsageError
from orchestrator.receipt.read import SUFFIX
from orchestrator.receipt.receipt import Attachment, BuildWarning, Receipt, StandInFile, VerificationMade

MOST_BUILDS: Final = 5000
MOST_BYTES: Final = 256 << 20
"""Of all receipts together: a page of more is of no use to anyone."""


class EarlierVerification(VerificationMade):
    """As the first receipts had it."""

    image: str = ""
    size: int = 0
    bootable: bool = True
    stand_ins: Many[StandInFile] = ()


class EarlierReceipt(Receipt):
    """A receipt of any version of this program: keys that were not always there may be missing."""

    ops_version: str | None = None
    warnings: Many[BuildWarning] = ()
    attachments: Many[Attachment] = ()
    verification: EarlierVerification


@dataclass(frozen=True, kw_only=True)
class ReadReceipt:
    """A receipt, where it lies, when its build ended, and how many files say the very same."""

    path: Path
    receipt: Receipt
    at: datetime
    copies: int = 1


@dataclass(frozen=True, kw_only=True)
class UnusedReceipt:
    """A file that is not on the page as a build, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReadReceipts:
    """What lies below the directories: `builds` by the time at which they ended, oldest first."""

    builds: Sequence[ReadReceipt]
    unused: Sequence[UnusedReceipt]


def read_receipts(places: Sequence[Path]) -> ReadReceipts:
    """All receipts in and below `places`, of which each may be a receipt itself. UsageError for a place that is not
    there.
    """
    builds: dict[tuple[str, str, str, str], ReadReceipt] = {}
    unused: list[UnusedReceipt] = []
    left = MOST_BYTES
    for path in _newest_first(list_receipts(places)):
        try:
            data = read_bounded(path)
            left -= len(data)
            if left < 0 or len(builds) >= MOST_BUILDS:
                unused.append(UnusedReceipt(path=path, reason="left out: there are too many newer ones"))
                continue
            receipt = parse_document(EarlierReceipt, data, newer=True)
            row = ReadReceipt(path=path, receipt=receipt, at=_time(receipt.finished))
        except (OSError, ValueError) as error:  # DocumentError is one
            unused.append(UnusedReceipt(path=path, reason=_reason(error)))
            continue
        key = (receipt.name, receipt.finished, receipt.image.blake3, receipt.context_sha256)
        before = builds.get(key)
        builds[key] = row if before is None else replace(before, copies=before.copies + 1)
    ordered = sorted(builds.values(), key=lambda build: (build.at, build.receipt.name, str(build.path)))
    return ReadReceipts(builds=ordered, unused=sorted(unused, key=lambda row: row.path))


def list_receipts(places: Iterable[Path]) -> Iterator[Path]:
    """Every file that is called a receipt, once, in and below `places`. UsageError for a place that is not there."""
    seen: set[Path] = set()
    for place in places:
        if not place.exists():
            raise UsageError(f"there is no {place}", remedy="name directories with NAME.receipt.json files in them")
        for path in [place] if place.is_file() else _below(place):
            resolved = path.resolve()
            if resolved not in seen:
                seen.add(resolved)
                yield path


def _below(folder: Path) -> Iterator[Path]:
    """Links to directories are not followed: they may lead round."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names) if name.endswith(SUFFIX))


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    """By the file's own time, which is only good for deciding what to leave out."""

    def written(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except OSError:
            return 0.0

    return sorted(paths, key=written, reverse=True)


def _time(text: str) -> datetime:
    """A receipt's time, in UTC. ValueError where it is none."""
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("finished: is not a time") from error


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "unreadable").lower()
    return f"not a receipt: {error}" if isinstance(error, DocumentError) else f"not a receipt; {error}"
