"""The plots of docs/performance.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import MEMORY_LIMIT, middle
from bench.report import title

_WIDTH = 0.8
_STYLES = {"copy": "--", "tar": "-."}
"""How the ways that do no more than any way must are drawn."""


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    return pyplot


def plot_builds(runs: Sequence[Mapping[str, Any]], target: Path) -> None:
    """A picture for each run: bars by case, a whisker from the least to the most, the limit as a line."""
    if not runs:
        return
    figure, pictures = _pyplot().subplots(len(runs), 1, figsize=(7, 2.4 * len(runs)), squeeze=False)
    for run, picture in zip(runs, pictures[:, 0], strict=True):
        rows = {case: ways for case, ways in run["samples"].items() if case != "copy"}
        all_ways = list(dict.fromkeys(way for ways in rows.values() for way in ways))
        for number, way in enumerate(all_ways):
            cases = [case for case in rows if way in rows[case]]
            seconds = [[row["seconds"] for row in rows[case][way]] for case in cases]
            medians = [middle(rows[case][way]) for case in cases]
            spread = [
                [centre - min(values) for centre, values in zip(medians, seconds, strict=True)],
                [max(values) - centre for centre, values in zip(medians, seconds, strict=True)],
            ]
            width = _WIDTH / len(all_ways)
            places = [list(rows).index(case) + width * (number - (len(all_ways) - 1) / 2) for case in cases]
            picture.bar(places, medians, width * 0.95, yerr=spread, capsize=2, label=way)
        picture.axhline(middle(run["samples"]["copy"]["copy"]), color="black", lw=0.8, ls="--", label="copy")
        picture.set_xticks(range(len(rows)), list(rows))
        picture.set_ylabel("seconds")
        picture.set_title(title(run))
        picture.legend()
    figure.tight_layout()
    figure.savefig(target, format="svg", metadata={"Date": None})


def plot_scales(runs: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Time above, memory below, a column an axis; a thin line is proportional to the last point."""
    if not runs:
        return
    figure, pictures = _pyplot().subplots(2, len(runs), figsize=(3.8 * len(runs), 5.2), squeeze=False)
    for run, (above, below) in zip(runs, pictures.T, strict=True):
        commands = list(dict.fromkeys(way for ways in run["samples"].values() for way in ways))
        for command in commands:
            cases = {float(case): ways[command] for case, ways in run["samples"].items() if command in ways}
            places = sorted(cases)
            seconds = [middle(cases[place]) for place in places]
            if command in _STYLES:
                above.plot(places, seconds, color="black", lw=0.8, ls=_STYLES[command], label=command)
                continue
            (line,) = above.plot(places, seconds, marker="o", ms=3, label=command)
            straight = [seconds[-1] * place / places[-1] for place in places]
            above.plot(places, straight, lw=0.5, ls=":", color=line.get_color())
            memory = [middle(cases[place], "memory") for place in places]
            below.plot(places, memory, marker="o", ms=3, label=command)
        below.axhline(MEMORY_LIMIT, color="black", lw=0.8, ls="--", label=f"{MEMORY_LIMIT} MiB")
        axis = "MiB" if run["axis"] == "size" else "files of 4 KiB"
        for picture, what in ((above, "seconds"), (below, "memory, MiB")):
            picture.set_xscale("log")
            picture.set_yscale("log")
            picture.set_xlabel(axis)
            picture.set_ylabel(what)
            picture.legend()
    figure.tight_layout()
    figure.savefig(target, format="svg", metadata={"Date": None})
