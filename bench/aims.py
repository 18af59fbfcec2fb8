"""What was aimed at, and what the runs say of it: the table at the top of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.measure import MEMORY_LIMIT, middle
from bench.trees import Tree

Run = Mapping[str, Any]
BIG = 1024
"""MiB from which on a tree counts as large."""
_SMALL, _MANY = 50, 20_000
_SOURCES = {"build": "made by build.run", "host": "from this machine", "url": "by URL"}
_STRAIGHT = 1.25
"""How much more than in proportion a curve may rise at its end."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One figure that an aim is about: of what, how much, whether that will do."""

    of: str
    value: float
    unit: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Something aimed at, and the figures of the runs that are about it."""

    text: str
    figures: tuple[Measured, ...]

    @property
    def row(self) -> str:
        """A line of the table."""
        shown = "; ".join(
            f"{figure.of}: {'' if figure.holds else '**'}{figure.value:.2f}{figure.unit}{'' if figure.holds else '**'}"
            for figure in self.figures
        )
        met = sum(figure.holds for figure in self.figures)
        word = "yes" if met == len(self.figures) else "no" if not met else f"{met} of {len(self.figures)}"
        return f"| {self.text} | {shown or 'not measured'} | {word if self.figures else ''} |"


def aims_of(runs: Sequence[Run]) -> list[Aim]:
    """All of them; one that no run is about has no figures."""
    large = [run for run in runs if run["bench"] == "build" and run["mib"] >= BIG and not run["files"]]
    packs = [run for run in runs if run["bench"] == "pack" and run["mib"] >= BIG]
    many = [run for run in runs if run["bench"] == "pack" and run["files"] >= _MANY]
    small = [run for run in runs if run["bench"] == "build" and run["mib"] == _SMALL and not run["files"]]
    built = [run for run in runs if run["bench"] == "build" and not run["files"]]
    starts = [run["samples"]["start"] for run in runs if run["bench"] == "start"]
    made, brought = ([run for run in large if (run["source"] == "build") == inside] for inside in (True, False))
    return [
        _aim("a staged tree of 1 GiB and more to a finished image: at least 3 times as fast as by hand",
             _packs(packs, lambda way: way.startswith("by hand"), lambda ours, other: other / ours, lambda v: v >= 3)),
        _aim("the same: at least 0.5 of the speed of `cp`",
             _packs(packs, lambda way: way == "copy", lambda ours, other: other / ours, lambda v: v >= 0.5)),
        _aim("20,000 files: at most 1.5 times `tar` of the tree",
             _packs(many, lambda way: "tar" in way and "build" not in way, lambda ours, other: ours / other,
                    lambda v: v <= 1.5)),
        _aim("a cold build of 1 GiB and more, made by build.run: at most 0.8 of by hand", _builds(made, "cold", 0.8)),
        _aim("the same with the file by URL or from this machine: at most 0.6", _builds(brought, "cold", 0.6)),
        _aim("the same of 50 MiB: no slower than by hand", _builds(small, "cold", 1.0)),
        _aim("only the manifest is new, 1 GiB and more: at most 0.2 of by hand", _builds(large, "manifest", 0.2)),
        _aim("nothing is new: at most 0.4 s", _seconds(built, "nothing", 0.4)),
        _aim("large files take no room in the engine beyond the user's own step: at most 8 MiB", _storage(large)),
        _aim(f"at most {MEMORY_LIMIT} MiB of memory, whatever the size", _memory([*built, *packs])),
        _aim("`--help` at most 0.2 s, `check` at most 0.35 s", _starts(starts)),
        _aim("time in proportion to size and number of files, at the end of each curve", _curves(runs)),
    ]  # fmt: skip


def summary(runs: Sequence[Run]) -> str:
    """The chapter, as Markdown."""
    lines = ["## What was aimed at", "", "| aim | measured | holds |", "|---|---|---|"]
    return "\n".join([*lines, *(aim.row for aim in aims_of(runs)), ""])


def _aim(text: str, figures: Iterator[Measured]) -> Aim:
    return Aim(text=text, figures=tuple(figures))


def _packs(
    runs: Sequence[Run],
    wanted: Callable[[str], bool],
    ratio: Callable[[float, float], float],
    enough: Callable[[float], bool],
) -> Iterator[Measured]:
    for run in runs:
        ways = run["samples"]["pack"]
        for way in ways:
            if way != "ours" and wanted(way):
                value = ratio(middle(ways["ours"]), middle(ways[way]))
                yield Measured(of=f"{_subject(run)}, {way}", value=value, unit="", holds=enough(value))


def _builds(runs: Sequence[Run], case: str, most: float) -> Iterator[Measured]:
    for run in runs:
        ways = run["samples"].get(case, {})
        if "ours" in ways and "by hand" in ways:
            value = middle(ways["ours"]) / middle(ways["by hand"])
            yield Measured(of=_build(run), value=value, unit="", holds=round(value, 2) <= most)


def _seconds(runs: Sequence[Run], case: str, most: float) -> Iterator[Measured]:
    for run in runs:
        if "ours" in (ways := run["samples"].get(case, {})):
            value = middle(ways["ours"])
            yield Measured(of=_build(run), value=value, unit=" s", holds=round(value, 2) <= most)


def _storage(runs: Sequence[Run]) -> Iterator[Measured]:
    for run in runs:
        if run["kind"] != "sparse" and "ours" in (ways := run["samples"].get("cold", {})):
            value = max(middle(ways["ours"], "storage") - (run["mib"] if run["source"] == "build" else 0), 0)
            yield Measured(of=_build(run), value=value, unit=" MiB", holds=value <= 8)


def _memory(runs: Sequence[Run]) -> Iterator[Measured]:
    """The most of all cases, one figure a kind of run."""
    for bench in ("build", "pack"):
        most = [
            middle(ways["ours"], "memory")
            for run in runs if run["bench"] == bench
            for ways in run["samples"].values() if "ours" in ways
        ]  # fmt: skip
        if most:
            yield Measured(of=f"`{bench}`, at most", value=max(most), unit=" MiB", holds=max(most) <= MEMORY_LIMIT)


def _starts(starts: Sequence[Mapping[str, Any]]) -> Iterator[Measured]:
    for start in starts:
        for way, most in (("--help", 0.2), ("check", 0.35)):
            value = middle(start[way])
            yield Measured(of=f"`{way}`", value=value, unit=" s", holds=round(value, 2) <= most)


def _curves(runs: Sequence[Run]) -> Iterator[Measured]:
    """Of the last two points of each curve: the growth in seconds for that in size, 1.0 is in proportion."""
    for run in runs:
        if run["bench"] != "scale":
            continue
        for command in ("pack", "inspect", "verify"):
            cases = {float(at): ways[command] for at, ways in run["samples"].items() if command in ways}
            points = [(at, middle(cases[at])) for at in sorted(cases)]
            if len(points) > 1:
                (before, seconds), (last, most) = points[-2:]
                value = (most / seconds) / (last / before)
                what = "size" if run["axis"] == "size" else "files"
                yield Measured(of=f"`{command}` by {what}", value=value, unit="", holds=value <= _STRAIGHT)


def _subject(run: Run) -> str:
    dropped = ", empty page cache" if run.get("dropped") else ""
    return Tree(mib=run["mib"], kind=run["kind"], files=run["files"]).title + dropped


def _build(run: Run) -> str:
    return f"{run['engine'].split()[0]}, {_subject(run)} {_SOURCES[run['source']]}"
