"""A small project around a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.errors import Severity
from orchestrator.nanos.manifest.effective import EffectiveManifest
from orchestrator.nanos.manifest.merge import merge_manifest
from orchestrator.project.load import load_project

PROJECT = "name: my-prover\nbuild: {run: make, program: target/release/my-prover}\n"


def effective(
    directory: Path, manifest: dict[str, Any] | str | bytes | None = None, project: str = ""
) -> EffectiveManifest:
    """The effective manifest of a project in `directory` whose manifest file holds `manifest`."""
    text = PROJECT + project
    if manifest is not None:
        content = json.dumps(manifest, indent=1) if isinstance(manifest, dict) else manifest
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        (directory / "manifest.json").write_bytes(data)
        text += "manifest: manifest.json\n"
    path = directory / "project.yaml"
    path.write_text(text)
    return merge_manifest(load_project(path))


def said(manifest: EffectiveManifest, severity: Severity) -> list[str]:
    """`field: message; remedy` of each finding of that severity."""
    return [f"{f.field}: {f.message}; {f.remedy}" for f in manifest.findings if f.severity is severity]
