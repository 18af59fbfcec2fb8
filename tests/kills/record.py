"""The table of a run, in a page: a row for each engine."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.cli import ROOT

_TABLE = re.compile(r"(?<=<!-- kills: begin -->\n)(.*?)(?=<!-- kills: end -->)", re.DOTALL)
_HEAD = (
    "| engine | kills | of what | in the stage | ended well all the same | half, wrong or left | layers lost |",
    "|---|---|---|---|---|---|---|",
)


@dataclass
class Row:
    """What was killed on one engine. `well`: builds that ended with 0 although something of theirs was killed.
    `layers`: those that stay in a Podman's storage when no image is there any more."""

    engine: str = ""
    kills: int = 0
    well: int = 0
    layers: int = 0
    victims: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)

    def count(self, victim: str, stage: str, code: int, *, hit: bool) -> None:
        """One more."""
        self.kills += 1
        self.victims[victim if hit else "not there any more"] += 1
        self.stages[stage] += hit
        self.well += hit and code == 0

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        path.write_text(json.dumps(vars(self)))

    @staticmethod
    def read(path: Path) -> Row:
        """One that was kept."""
        kept = json.loads(path.read_text())
        return Row(**(kept | {name: Counter(kept[name]) for name in ("victims", "stages")}))

    def told(self) -> str:
        """Whom, and in which stage."""
        return f"{_told(self.victims)}; in {_told(self.stages)}; layers lost: {self.layers}"


def write_rows(page: Path, rows: Sequence[Row], seed: int) -> None:
    """Write the table of `page` anew."""
    commit = _commit()
    lines = []
    for row in rows:
        cells = (row.engine, row.kills, _told(row.victims), _told(row.stages), row.well, "none", row.layers)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    total = sum(row.kills for row in rows)
    told = f"{total} kills in one go, SEED={seed}, at commit {commit}:"
    text = "\n".join(["", told, "", *_HEAD, *lines, "", ""])
    page.write_text(_TABLE.sub(lambda _: text, page.read_text()))


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count)


def _commit() -> str:
    """Of the sources, a `+` where they were changed, and the day."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short=8", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "--", "orchestrator", "tests"], capture_output=True).stdout
    return f"{commit or 'unknown'}{'+' if changed else ''}, {time.strftime('%Y-%m-%d')}"
