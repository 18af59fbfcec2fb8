"""What the matrix has shown, kept in the user's cache directory, and docs/engines.md's tables of it."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.engines.daemons import ENGINES
from tests.engines.machines import CHROOTS
from tests.engines.scenarios import SCENARIOS, NotHereError
from tests.support.cli import ROOT
from tests.support.sections import write_section

DOCUMENT = Path("docs/engines.md")
STOPPED = "two builds, one of them stopped: the other"
ONE_PROJECT = "8 builds of one project"
PROJECTS = "8 projects"
EDITS = "builds after random edits"
TOGETHER = (STOPPED, ONE_PROJECT, PROJECTS)
VIRTUAL = ", in a virtual machine"
"""What ends the titles of engines of virtual.py."""
_RESULTS = CHROOTS / "results.json"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One scenario on one engine. `outcome` is ok|refused|failed; `words`: why, or what was counted.

    `state`: the sources that it ran on, as `_state` says them.
    """

    outcome: str
    seconds: float
    state: str
    words: str = ""


@contextmanager
def keeping(title: str, scenario: str) -> Iterator[list[str]]:
    """Keep how a scenario ends, with the words that it puts into the list; an interrupted one is not kept."""
    began, before, words = time.monotonic(), _state(), list[str]()

    def keep(outcome: str, *more: str) -> None:
        seconds = round(time.monotonic() - began, 1)
        state = before if (after := _state()) == before else f"{before}, then {after}"
        cell = Cell(outcome=outcome, seconds=seconds, state=state, words="; ".join([*words, *more]))
        _write(title, scenario, cell)

    try:
        yield words
    except NotHereError as reason:
        keep("refused", str(reason))
        raise
    except Exception as fault:
        keep("failed", " ".join(f"{fault}".split())[-400:] or type(fault).__name__)
        raise
    keep("ok")


def _state() -> str:
    """The last commit that changed more than pages, and whether files differ from it."""
    sources = ("--", ".", ":!docs", ":!*.md")
    commit = _git("log", "-1", "--abbrev=8", "--format=%h", *sources)
    return f"{commit} with changes that are in no commit" if _git("status", "--porcelain", *sources) else commit


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _read() -> dict[str, dict[str, dict[str, Any]]]:
    """By an engine's title, by scenario: a cell."""
    return dict(json.loads(_RESULTS.read_text())) if _RESULTS.exists() else {}


def _write(title: str, scenario: str, cell: Cell) -> None:
    with (CHROOTS / "results.lock").open("a") as lock:  # parts of the matrix may run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = _read()
        results.setdefault(title, {})[scenario] = asdict(cell)
        _RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def digests() -> dict[str, str]:
    """The digests of images that runs so far have given."""
    path = CHROOTS / "digests.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def keep_digests(known: dict[str, str]) -> None:
    """Keep them, for engines that come later."""
    (CHROOTS / "digests.json").write_text(json.dumps(digests() | known, indent=1) + "\n")


def virtual_titles() -> list[str]:
    """The engines of virtual machines that ran."""
    return [title for title in _read() if title.endswith(VIRTUAL)]


def matrix_titles() -> list[str]:
    """The engines of the matrix."""
    return [engine.title for engine in ENGINES]


def markdown(scenarios: Sequence[str], titles: Sequence[str], *, only_run: bool = False) -> str:
    """A table, and below it a note for each cell that isn't ok. `only_run`: without engines that ran none of them."""
    results, notes = _read(), dict[str, int]()
    rows, states = [], dict[tuple[str, str], str]()
    for title in titles:
        cells = results.get(title, {})
        if only_run and not any(scenario in cells for scenario in scenarios):
            continue
        seconds = sum(cells[scenario]["seconds"] for scenario in scenarios if scenario in cells)
        states |= {(title, name): cells[name].get("state", "not noted") for name in scenarios if name in cells}
        row = [_text(cells.get(scenario), notes) for scenario in scenarios]
        rows.append(f"| {title} | {' | '.join(row)} | {seconds:.0f} |")
    head = [f"| engine | {' | '.join(scenarios)} | seconds |", "|---|" + "---|" * (len(scenarios) + 1)]
    told = [f"{number}. {reason}" for reason, number in notes.items()]
    return "\n".join(["", *head, *rows, "", *told, *([""] if told else []), *ran_on(states), "", ""])


def ran_on(states: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """Lines that say which sources cells ran on: those of most cells, and by name each cell that ran on others.

    `states`: by an engine's title and a scenario.
    """
    by_state: dict[str, list[tuple[str, str]]] = {}
    for cell, state in states.items():
        by_state.setdefault(state, []).append(cell)
    most, *others = sorted(by_state.items(), key=lambda item: -len(item[1])) or [("", [])]
    amount = f"{len(most[1])} of these {len(states)}" if others else f"All {len(states)}"
    yield f"{amount} cells ran on the sources of one commit: {most[0]}."
    for state, cells in others:
        yield ""
        yield f"On {state}:"
        yield ""
        for title in dict.fromkeys(title for title, _ in cells):
            yield f"- {title}: {'; '.join(scenario for where, scenario in cells if where == title)}"


def _text(cell: dict[str, Any] | None, notes: dict[str, int]) -> str:
    if cell is None:
        return "not run"
    if cell["outcome"] == "ok":
        return cell["words"] or "ok"
    note = notes.setdefault(cell["words"], len(notes) + 1)
    return f"{'—' if cell['outcome'] == 'refused' else 'FAILS'} [{note}]"


if __name__ == "__main__":
    if sys.argv[1:] == ["virtual"]:
        write_section(DOCUMENT, "virtual", markdown([*SCENARIOS], virtual_titles()))
    else:
        write_section(DOCUMENT, "matrix", markdown([*SCENARIOS], matrix_titles()))
        write_section(DOCUMENT, "together", markdown(TOGETHER, matrix_titles(), only_run=True))
        write_section(DOCUMENT, "edits", markdown([EDITS], matrix_titles(), only_run=True))
