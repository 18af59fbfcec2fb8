"""What a bill of materials says of an image's files: all that is known of them where the image itself is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from orchestrator.errors import UsageError
from orchestrator.files import open_read_only
from orchestrator.provenance.limits import LARGEST
from orchestrator.receipt.receipt import Receipt
from orchestrator.text import parse_json

_DIGITS: Final = 16


@dataclass(frozen=True)
class BilledPart:
    """A file of the image, by its path, or a package that is in it, or that a lock file of the sources names.

    `says` is a file's SHA-256 or a package's version, `size` a file's bytes; "" and None where the bill has none.
    """

    kind: Literal["file", "package"]
    name: str
    says: str
    size: int | None = None


def billed_files(receipt: Receipt, directory: Path) -> Mapping[str, str] | None:
    """Path of each file in the image -> its SHA-256, as the bill of materials beside the receipt says.

    None where there is none. UsageError for one that is not the receipt's own.
    """
    rows = _components(receipt, directory)
    return None if rows is None else dict(filter(None, map(_file, rows)))


def billed_parts(receipt: Receipt, directory: Path) -> list[BilledPart] | None:
    """All files and packages, as the bill of materials beside the receipt says; None and UsageError as above."""
    rows = _components(receipt, directory)
    return None if rows is None else list(filter(None, map(_part, rows)))


def _components(receipt: Receipt, directory: Path) -> list[Any] | None:
    row = next((row for row in receipt.attachments if row.kind == "sbom"), None)
    path = directory / Path(row.file).name if row is not None else None
    if row is None or path is None or not path.is_file():
        return None
    with open_read_only(path) as stream:
        data = stream.read(LARGEST + 1)
    if hashlib.sha256(data).hexdigest() != row.sha256:
        raise UsageError(f"{path} is not the receipt's own", remedy="restore it, or remove it to go without it")
    try:
        document = parse_json(data)
    except ValueError as error:
        raise UsageError(f"{path} is not JSON", remedy="restore it, or remove it to go without it") from error
    components = document.get("components") if isinstance(document, dict) else None
    return components if isinstance(components, list) else []


def _part(component: Any) -> BilledPart | None:
    if (file := _file(component)) is not None:
        return BilledPart("file", *file, _size(component))
    if not isinstance(component, dict) or component.get("type") != "library":
        return None
    name = component.get("purl") or component.get("name")
    version = component.get("version") or ""
    if not isinstance(name, str) or not isinstance(version, str):
        return None
    # Without version and qualifiers a package URL is the package's own name.
    return BilledPart("package", name.partition("?")[0].rpartition(f"@{version}")[0] or name, version)


def _size(component: dict[str, Any]) -> int | None:
    rows = component.get("properties")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and str(row.get("name")).endswith(":size"):
            text = str(row.get("value"))
            return int(text) if len(text) < _DIGITS and text.isdecimal() else None
    return None


def _file(component: Any) -> tuple[str, str] | None:
    if not isinstance(component, dict) or component.get("type") != "file":
        return None
    hashes = component.get("hashes")
    contents = [row.get("content") for row in hashes if isinstance(row, dict)] if isinstance(hashes, list) else []
    name, content = component.get("name"), next(iter(contents), None)
    return (name, content) if isinstance(name, str) and isinstance(content, str) else None
