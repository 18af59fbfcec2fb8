"""What a bill of materials says of an image's files: all that is known of them where the image itself is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.files import open_read_only
from orchestrator.provenance.dsse import LARGEST
from orchestrator.receipt.receipt import Receipt
from orchestrator.text import parse_json


def billed_files(receipt: Receipt, directory: Path) -> Mapping[str, str] | None:
    """Path of each file in the image -> its SHA-256, as the bill of materials beside the receipt says.

    None where there is none. UsageError for one that is not the receipt's own.
    """
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
    return dict(filter(None, map(_file, components if isinstance(components, list) else [])))


def _file(component: Any) -> tuple[str, str] | None:
    if not isinstance(component, dict) or component.get("type") != "file":
        return None
    hashes = component.get("hashes")
    contents = [row.get("content") for row in hashes if isinstance(row, dict)] if isinstance(hashes, list) else []
    name, content = component.get("name"), next(iter(contents), None)
    return (name, content) if isinstance(name, str) and isinstance(content, str) else None
