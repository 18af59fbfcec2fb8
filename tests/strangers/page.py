"""docs/strangers.md: what a run of `make test-strangers` saw."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import fill
from typing import Any

from tests.strangers.stranger import Stranger
from tests.support.cli import ROOT

PAGE = ROOT / "docs/strangers.md"
RESULTS = ROOT / "target/strangers"
HEAD = """\
# Projects of strangers

Written by `make test-strangers`; do not edit. Each row is a small program of the kind that people
bring, with pinned packages of crates.io, Go modules, npm, PyPI and Debian, in a folder of
`tests/strangers`. It is built from the project.yaml that `init` writes in its directory, verified,
and rehearsed, and what it prints is compared with the answer that is known from elsewhere.

"Lines" are those of project.yaml that a user writes in addition, or instead of `init`'s; "all" where
`init` has nothing to look at. The kernel is the stub everywhere, a line that is not counted. "Tries"
is how often it was built until the answer was right: first, when the project was met, and now. Every
failed build is one. No registry of images was in reach, so the bases are made of Debian packages.
Seconds are those of one build on {cpus} cores, which others used too; the caches were those of earlier
builds.

| project | base | lines | tries: first | now | build, s | image, MiB | answer |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was seen of a stranger whose answer was right. `lines` of its project.yaml are not `init`'s."""

    name: str
    lines: int
    seconds: float
    size: int
    base: str

    @classmethod
    def of(cls, stranger: Stranger, receipt: Mapping[str, Any], *, lines: int, seconds: float) -> Result:
        """The result of a build that the receipt tells of."""
        inputs = {entry["name"]: entry for entry in receipt["inputs"]}
        base = inputs.get("base") or inputs.get("image") or {"source": "", "pin": {}}
        suite = base["pin"].get("suite")
        name = base["source"].removeprefix("docker.io/library/") + (f", as Debian {suite}" if suite else "")
        return cls(name=stranger.name, lines=lines, seconds=seconds, size=receipt["image"]["size"], base=name)

    @classmethod
    def read(cls, name: str) -> Result | None:
        """The last result of a stranger in this checkout."""
        path = RESULTS / f"{name}.json"
        return cls(**json.loads(path.read_text())) if path.is_file() else None

    def write(self) -> None:
        """Keep it for the page."""
        (RESULTS / f"{self.name}.json").write_text(json.dumps(asdict(self)))


def markdown(strangers: Sequence[Stranger], results: Mapping[str, Result], before: str = "") -> str:
    """The page; the row of a stranger without a result is that of the page `before`."""
    text = HEAD.format(cpus=os.cpu_count())
    for stranger in strangers:
        text += _row(stranger, results[stranger.name]) if stranger.name in results else _old_row(stranger, before)
    notes = [f"- `{stranger.name}`: {stranger.note}." for stranger in strangers if stranger.note]
    return (
        text
        + "\nWhat stood in the way:\n\n"
        + "".join(f"{fill(note, 100, subsequent_indent='  ')}\n" for note in notes)
    )


def _row(stranger: Stranger, result: Result) -> str:
    lines = "all" if stranger.by_hand else result.lines
    tries = f"{stranger.first} | {stranger.now}"
    size = f"{result.size / 2**20:.1f}"
    return f"{_first_cell(stranger)} {result.base} | {lines} | {tries} | {result.seconds:.0f} | {size} | right |\n"


def _old_row(stranger: Stranger, page: str) -> str:
    first = _first_cell(stranger)
    return next(
        (f"{line}\n" for line in page.splitlines() if line.startswith(first)), f"{first} | | | | | | not built |\n"
    )


def _first_cell(stranger: Stranger) -> str:
    return f"| {stranger.what} (`{stranger.name}`) |"
