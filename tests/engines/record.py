"""What the matrix has shown, kept in the user's cache directory, and docs/engines.md's table of it."""

from __future__ import annotations

import fcntl
import json
from dataclasses import dataclass
from pathlib import Path

from tests.engines.daemons import ENGINES
from tests.engines.machines import CHROOTS
from tests.engines.scenarios import SCENARIOS
from tests.support.sections import write_section

DOCUMENT = Path("docs/engines.md")
_RESULTS = CHROOTS / "results.json"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One scenario on one engine. `outcome` is ok|refused|failed; `reason` in words, "" when it is ok."""

    outcome: str
    reason: str = ""


def read() -> dict[str, dict[str, dict[str, str]]]:
    """By an engine's title, by scenario: a cell."""
    return dict(json.loads(_RESULTS.read_text())) if _RESULTS.exists() else {}


def write(title: str, scenario: str, cell: Cell) -> None:
    """Keep a cell."""
    with (CHROOTS / "results.lock").open("a") as lock:  # parts of the matrix may run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = read()
        results.setdefault(title, {})[scenario] = {"outcome": cell.outcome, "reason": cell.reason}
        _RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def digests() -> dict[str, str]:
    """The digests of images that runs so far have given."""
    path = CHROOTS / "digests.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def keep_digests(known: dict[str, str]) -> None:
    """Keep them, for engines that come later."""
    (CHROOTS / "digests.json").write_text(json.dumps(digests() | known, indent=1) + "\n")


def markdown() -> str:
    """The table, and below it a note for each cell that isn't ok."""
    results, notes = read(), dict[str, int]()
    rows = []
    for title in (engine.title for engine in ENGINES):
        cells = []
        for scenario in SCENARIOS:
            cell = results.get(title, {}).get(scenario)
            if cell is None:
                cells.append("not run")
            elif cell["outcome"] == "ok":
                cells.append("ok")
            else:
                note = notes.setdefault(cell["reason"], len(notes) + 1)
                cells.append(f"{'—' if cell['outcome'] == 'refused' else 'FAILS'} [{note}]")
        rows.append(f"| {title} | {' | '.join(cells)} |")
    head = [f"| engine | {' | '.join(SCENARIOS)} |", "|---|" + "---|" * len(SCENARIOS)]
    told = [f"{number}. {reason}" for reason, number in notes.items()]
    return "\n".join(["", *head, *rows, "", *told, *([""] if told else [])]) + "\n"


if __name__ == "__main__":
    write_section(DOCUMENT, "matrix", markdown())
