"""Writes docs/performance.md from runs of bench/bench_build.py.

python bench/report.py RUNS.JSON >docs/performance.md
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

HEAD = """\
# How long a build takes

Written by `make bench-report` from runs of `bench/bench_build.py`; do not edit. Each run does the same
work in turn, with the orchestrator and by hand as the vendor's guide does it, so that both wait for the
same machine: only the ratios travel. By hand, `cat` stands in for ops, which takes longer than that.
`copy` is the limit: the finished image copied, to the disk.

| case | what has changed since the build before |
|---|---|
| cold | everything: `--no-cache`; only the base is there |
| nothing | nothing |
| manifest | the manifest |
| line | a line of the build script, so that its step runs again |
"""


def table(run: dict[str, Any]) -> str:
    """One run as Markdown: medians, with the least and the most."""
    where = "of this machine" if run.get("data") == "host" else "made by build.run"
    rows = [
        f"## {run['engine']}, {run['mib']} MiB {where}",
        "",
        f"orchestrator {run['orchestrator']}, {run['at']}; {run['cpus']} processors, load {run['load']} at the end; "
        f"{len(run['seconds']['copy']['copy'])} repetitions.",
        "",
        "| case | ours, s | by hand, s | ratio |",
        "|---|---|---|---|",
    ]
    for case, ways in run["seconds"].items():
        if case == "copy":
            rows.append(f"| copy | {shown(ways['copy'])} | | |")
            continue
        ratio = statistics.median(ways["ours"]) / statistics.median(ways["by hand"])
        rows.append(f"| {case} | {shown(ways['ours'])} | {shown(ways['by hand'])} | {ratio:.2f} |")
    return "\n".join(rows) + "\n"


def shown(seconds: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def main() -> None:
    """Print the page."""
    runs = json.loads(Path(sys.argv[1]).read_text())
    print("\n".join([HEAD, *map(table, runs)]), end="")


if __name__ == "__main__":
    main()
