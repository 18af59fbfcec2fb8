"""Writes docs/performance.md, and its plot, from runs of bench/bench_build.py.

python bench/report.py RUNS.JSON docs/performance.md
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

HEAD = """\
# How long a build takes

Written by `make bench-report` from runs of `bench/bench_build.py` (`make bench`); do not edit. Each
run does the same work in turn, with the orchestrator and by hand as the vendor's guide does it (a
build whose last step writes the image, `create`, `cp`), so that both wait for the same machine:
only the ratios travel. By hand, `tar` stands in for ops, which takes longer than that, and nothing
is staged, verified, hashed or recorded. `copy` is the limit: the finished image copied, to the disk.

| case | what has changed since the build before |
|---|---|
| cold | everything: `--no-cache`; only the base is there |
| nothing | nothing |
| manifest | the manifest |
| line | a line of the build script, so that its step runs again |
| data | the large file, where it is a file of this machine; else a small one among the sources (the step runs) |
| second | nothing, but it is another project of the same sources, with another name and manifest |

A file that changes often belongs in `stage.files` as `{from: …}` or `{url: …}`: then no step runs for
it.

Seconds are medians, with the least and the most in brackets. Memory, a median too, is that of the
command's largest process, without the engine's daemon. "Written" is what the whole machine wrote to
its disks meanwhile, by whomever; the engine's own writing is part of it, and so is that of others.
"""
PLOTTED = """
![Seconds by case, ours and by hand, with the limit as a line](performance.svg)
"""
WAYS = ("ours", "by hand")


def title(run: dict[str, Any]) -> str:
    """Engine, amount and place."""
    what = f"{run['files']} files of 4 KiB" if run.get("files") else f"{run['mib']} MiB ({run.get('kind', 'random')})"
    return f"{run['engine']}, {what} {'of this machine' if run.get('data') == 'host' else 'made by build.run'}"


def table(run: dict[str, Any]) -> str:
    """One run as Markdown."""
    repetitions = len(run["seconds"]["copy"]["copy"])
    rows = [
        f"## {title(run)}",
        "",
        f"orchestrator {run['orchestrator']}, {run['at']}; {run['cpus']} processors, load {run['load']} at the end;",
        f"{repetitions} repetition{'s' if repetitions != 1 else ''}.{_about_load(run)}",
        "",
        "| case | ours, s | by hand, s | ratio | memory, MiB: ours | by hand | written, MiB: ours | by hand |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, ways in run["seconds"].items():
        if case == "copy":
            rows.append(f"| copy | {shown(ways['copy'])} | | | | | {_more(run, 'written', case, 'copy')} | |")
            continue
        ratio = statistics.median(ways["ours"]) / statistics.median(ways["by hand"])
        cells = [shown(ways[way]) for way in WAYS]
        more = [_more(run, what, case, way) for what in ("memory", "written") for way in WAYS]
        rows.append(f"| {case} | {' | '.join(cells)} | {ratio:.2f} | {' | '.join(more)} |")
    return "\n".join(rows) + "\n"


def _about_load(run: dict[str, Any]) -> str:
    busy = run["load"] > 2 * run["cpus"]
    return " The machine was busy with other work, so even the ratios are rough." if busy else ""


def _more(run: dict[str, Any], what: str, case: str, way: str) -> str:
    values = run.get(what, {}).get(case, {}).get(way, [])
    return f"{statistics.median(values):.0f}" if values else ""


def shown(seconds: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def plot(runs: list[dict[str, Any]], target: Path) -> None:
    """A picture for each run: bars by case, a whisker from the least to the most, the limit as a line."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    figure, pictures = pyplot.subplots(len(runs), 1, figsize=(7, 2.4 * len(runs)), squeeze=False)
    for run, picture in zip(runs, pictures[:, 0], strict=True):
        cases = [case for case in run["seconds"] if case != "copy"]
        for offset, way in zip((-0.2, 0.2), WAYS, strict=True):
            values = [run["seconds"][case][way] for case in cases]
            middle = [statistics.median(value) for value in values]
            spread = [
                [centre - min(value) for centre, value in zip(middle, values, strict=True)],
                [max(value) - centre for centre, value in zip(middle, values, strict=True)],
            ]
            places = [number + offset for number in range(len(cases))]
            picture.bar(places, middle, 0.38, yerr=spread, capsize=2, label=way)
        picture.axhline(statistics.median(run["seconds"]["copy"]["copy"]), color="black", lw=0.8, ls="--", label="copy")
        picture.set_xticks(range(len(cases)), cases)
        picture.set_ylabel("seconds")
        picture.set_title(title(run))
        picture.legend()
    figure.tight_layout()
    figure.savefig(target, format="svg", metadata={"Date": None})


def main() -> None:
    """Write the page, and the plot beside it."""
    runs, page = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    plot(runs, page.with_suffix(".svg"))
    page.write_text("\n".join([HEAD + PLOTTED, *map(table, runs)]))


if __name__ == "__main__":
    main()
