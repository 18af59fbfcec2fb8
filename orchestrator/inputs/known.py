"""Known good SHA-256 of what the vendors publish: they ship with the program, in known.toml beside this file."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.text import parse_toml

_FILE = Path(__file__).with_name("known.toml")
_NOT_THE_VENDORS = (
    "do not use it; if the vendor did replace the file, update orchestrator, or give its url and sha256 in project.yaml"
)


@dataclass(frozen=True, kw_only=True)
class Known:
    """The SHA-256 (hex) of a vendor's file, and who says so."""

    sha256: str
    source: str


def read_known(text: str) -> dict[str, Known]:
    """By address. ValueError for what is not such a table."""
    by_url: dict[str, Known] = {}
    for row in parse_toml(text).get("file", []):
        if set(row) != {"url", "sha256", "source"} or not re.fullmatch(r"[0-9a-f]{64}", row["sha256"]):
            raise ValueError(f"{_FILE.name}: {row} lacks url, sha256 or source, or its sha256 is not one")
        if row["url"] in by_url:
            raise ValueError(f"{_FILE.name} has {row['url']} twice")
        by_url[row["url"]] = Known(sha256=row["sha256"], source=row["source"])
    return by_url


@functools.cache
def known_files() -> Mapping[str, Known]:
    """What ships with the program."""
    return read_known(_FILE.read_text(encoding="utf-8"))


def other_than_known(what: str, said: str, known: Known) -> InputError:
    """The error for a download (or a lock's pin: `what` says which) that isn't the one that is known."""
    return InputError(
        f"{what} {said}, but the one known to be good is {known.sha256} ({known.source})", remedy=_NOT_THE_VENDORS
    )
