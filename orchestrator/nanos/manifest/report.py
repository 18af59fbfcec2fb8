"""Collecting findings about a manifest: each with its file, line, field and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.findings import Findings


@dataclass(kw_only=True)
class Report(Findings):
    """Findings about one manifest. `prefix` is the field in front of its keys (`manifest.` when inline).

    `raw`: dotted field -> a value that isn't text as it is written, before a parser made `1.1` of `1.10`.
    """

    raw: Mapping[str, str] = field(default_factory=dict)

    def written(self, where: str, value: object) -> str:
        """A simple value as the user wrote it."""
        return self.raw.get(where, str(value).lower() if isinstance(value, bool) else str(value))
