"""A manifest file from disk: a JSON object with the line of every field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.findings import Findings
from orchestrator.nanos.manifest import json_reader
from orchestrator.project.load import read_text

MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class LoadedManifest:
    """`data` in the file's own spelling; `lines`: dotted field -> 1-based line; `file` as the user would name it.

    `raw`: dotted field -> a number or word as it is written.
    """

    data: Mapping[str, Any]
    lines: Mapping[str, int]
    raw: Mapping[str, str]
    file: str


def load_manifest(path: Path) -> LoadedManifest:
    """Read a manifest. UsageError (with every finding) when it can't be read or isn't a JSON object."""
    text = read_text(path, what="a manifest", limit=MAX_BYTES, keep_bom=True)
    file = str(path)
    findings = Findings(file=file, otherwise=1)
    if text.startswith("\ufeff"):
        text = text[1:]
        message = "begins with a byte order mark, which ops refuses"
        findings.error("json-bom", "", message, "save it as UTF-8 without BOM")
    document = json_reader.read(text, file)
    findings.extend(document.findings)
    if not isinstance(document.data, dict):
        if not findings.collected:
            findings.error("not-an-object", "", "is not a JSON object", "write `{ … }` around the keys")
        raise findings.failure()
    if findings.collected:
        raise findings.failure()
    return LoadedManifest(data=document.data, lines=document.lines, raw=document.raw, file=file)
