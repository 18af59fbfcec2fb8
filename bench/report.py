"""Writes docs/performance.md, and its plots, from runs of `python -m bench`: `make bench-report`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.aims import summary
from bench.measure import MEMORY_LIMIT, middle
from bench.trees import Tree

Rows = list[dict[str, float]]
LIMITS = ("copy", "tar")
"""Ways that do no more than any way must."""

HEAD = """\
# How long a build takes

Written by `make bench-report` from runs of `make bench`; do not edit. Each run does the same work
in turn, in each of the ways that a table compares, so that all wait for the same machine: only the
ratios travel. Seconds are medians, with the least and the most in brackets. *Memory* is that of all
processes of the command together, without an engine's daemon. *Written* is what these processes
wrote, *engine* what the daemon's wrote meanwhile, *storage* by how much the engine's own directory
grew: all in MiB, medians too.
"""
BUILDS = """\
## Whole builds

By hand is the vendor's guide: a build whose last step writes the image, `create`, `cp`. There,
`tar` stands in for ops, which takes longer than that, and nothing is staged, verified, hashed or
recorded. `ours, ops` is packer ops with a stand-in ops in Python, which takes longer than ops does.
`copy` is the limit: the finished image copied, to the disk.

| case | what has changed since the build before |
|---|---|
| cold | everything: `--no-cache`; only the base is there |
| nothing | nothing |
| warm | nothing, but the image is gone |
| manifest | the manifest |
| line | a line of the build script, so that its step runs again |
| data | the large file, where no step makes it; else a small one among the sources (the step runs) |
| second | nothing, but it is another project of the same sources, with another name and manifest |

*Beyond* is the engine's storage less the user's own step, which has the file once where it makes
it. A file that changes often belongs in `stage.files` as `{from: …}` or `{url: …}`: then no step
runs for it.
"""
PACKS = """\
## From a staged tree to a finished image

`ours` is `pack`: the image is verified and hashed, and has its receipt and bill of materials. By
hand it is the guide's last step alone: the tree lies in the engine already, a step writes the file,
its layer is committed, and `create` and `cp` bring it out. The others put the same tree into one
file and do no more. The limits: `copy` is `cp` of the large file, or of our image of the small ones,
`tar` is `tar` of the tree, `cp to a tar` is `cp CONTAINER:/stage -` of the engine's own command: all
to the disk.
"""
SCALES = """\
## Against size and number of files

`inspect` lists the whole tree, `verify` makes every check. The limits: `copy` is `cp` of the image,
`tar` is `tar` of the tree.

![Seconds and memory against size and number of files](performance-scale.svg)
"""
FARS = """\
## Far out

An image takes at most 500,000 files, directories and links: with more, `build` and `pack` refuse the
tree, and say why. Memory does not grow with the size of files, but with their number: 20,000 take
some 80 MiB more while they are packed, so that from some 35,000 on a build takes more than 200 MiB.
"""
STARTS = """\
## Start-up
"""
_ORDER = ("start", "build", "pack", "scale", "far")
_CHAPTERS = {"start": STARTS, "build": BUILDS, "pack": PACKS, "scale": SCALES, "far": FARS}


def title(run: Mapping[str, Any]) -> str:
    """What was measured, in a line."""
    subject = Tree(mib=run.get("mib", 0), kind=run.get("kind", ""), files=run.get("files", 0)).title
    subject += ", empty page cache" if run.get("dropped") else ""
    if run["bench"] == "build":
        places = {"build": "made by build.run", "host": "a file of this machine", "url": "by URL"}
        return f"{run['engine']}, {subject}, {places[run['source']]}"
    if run["bench"] == "scale":
        return "By size" if run["axis"] == "size" else "By number of files"
    if run["bench"] == "far":
        return f"Once: {', '.join(sorted({*run['samples'], *run['refused']}))}"
    return {"pack": subject, "start": "Commands"}[run["bench"]]


def section(run: Mapping[str, Any]) -> str:
    """One run as Markdown."""
    rows = run["samples"]
    tables = {"build": _build_table, "pack": _pack_table}
    table = tables.get(run["bench"], _plain_table)(run, rows)
    counts = {len(samples) for ways in rows.values() for samples in ways.values()}
    least, most = min(counts, default=0), max(counts, default=0)
    least, most = (least, most) if counts else (1, 1)
    repeated = f"{least}" if least == most else f"{least} to {most}"
    busy = run["load"] > 2 * run["cpus"]
    facts = [
        f"orchestrator {run['orchestrator']}, {run['at']}; {run['cpus']} processors, load {run['load']} at the end;",
        f"{repeated} repetition{'s' if most != 1 else ''}.",
    ]
    facts += [f"By hand: {run['by_hand']}."] if "by_hand" in run else []
    facts += ["The machine was busy with other work: even the ratios are rough."] if busy else []
    return "\n".join([f"### {title(run)}", "", *_wrapped(" ".join(facts)), "", *table, ""])


def _build_table(run: Mapping[str, Any], rows: Mapping[str, Any]) -> list[str]:
    lines = [
        "| case | way | seconds | of by hand | of copy | memory | written | engine | storage | beyond |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    copy = rows.get("copy", {}).get("copy")
    for case, ways in rows.items():
        hand = ways.get("by hand")
        for way, samples in ways.items():
            ratio = f"{middle(samples) / middle(hand):.2f}" if hand and way != "by hand" else ""
            limit = f"{middle(samples) / middle(copy):.1f}" if copy and case != "copy" else ""
            steps = run["source"] == "build" and case in ("cold", "line", "data") and run.get("kind") != "sparse"
            own = (run["files"] * 4 / 1024 if run["files"] else run["mib"]) if steps else 0
            beyond = f"{max(middle(samples, 'storage') - own, 0):.0f}" if case != "copy" else ""
            lines.append(
                f"| {case} | {way} | {shown(samples)} | {ratio} | {limit} | {_memory(samples)} "
                f"| {_mib(samples, 'written')} | {_mib(samples, 'engine')} | {_mib(samples, 'storage')} | {beyond} |"
            )
    return [*lines, "", *_wrapped(_not_there(run["absent"]))] if run.get("absent") else lines


def _pack_table(run: Mapping[str, Any], rows: Mapping[str, Any]) -> list[str]:
    ways = rows["pack"]
    lines = [
        "| way | seconds | of ours | of `cp` | of `tar` | memory | written | engine | storage |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    tar = ways.get("tar")
    for way, samples in ways.items():
        lines.append(
            f"| {way} | {shown(samples)} | {middle(samples) / middle(ways['ours']):.2f} "
            f"| {middle(samples) / middle(ways['copy']):.2f} "
            f"| {f'{middle(samples) / middle(tar):.2f}' if tar else ''} | {_memory(samples)} "
            f"| {_mib(samples, 'written')} | {_mib(samples, 'engine')} | {_mib(samples, 'storage')} |"
        )
    return [*lines, "", *_wrapped(_not_there(run["absent"]))]


def _not_there(absent: Mapping[str, str]) -> str:
    reasons: dict[str, list[str]] = {}
    for name, reason in absent.items():
        reasons.setdefault(reason.rstrip("."), []).append(name)
    return " ".join(f"Not measured: {', '.join(names)} ({reason})." for reason, names in reasons.items())


def _plain_table(run: Mapping[str, Any], rows: Mapping[str, Any]) -> list[str]:
    """Seconds and memory of each command, a row a case."""
    commands = list(dict.fromkeys(way for ways in rows.values() for way in ways))
    if run["bench"] == "start":
        lines = ["| command | seconds | memory |", "|---|---|---|"]
        return lines + [
            f"| `{way}` | {shown(rows['start'][way])} | {_memory(rows['start'][way])} |" for way in commands
        ]
    what = {"size": "MiB", "files": "files"}.get(run.get("axis", ""), "tree")
    heads = [f"{command}, s" if command in LIMITS else f"{command}, s | MiB" for command in commands]
    columns = 1 + sum(1 if command in LIMITS else 2 for command in commands)
    lines = [f"| {what} | {' | '.join(heads)} |", "|---" * columns + "|"]
    if not rows:
        lines = []
    for case, ways in rows.items():
        cells = []
        for command in commands:
            samples = ways.get(command, [])
            cells += [shown(samples) if samples else "" if command in LIMITS else "refused"]
            cells += [_mib(samples, "memory") if samples else ""] if command not in LIMITS else []
        lines.append(f"| {case} | {' | '.join(cells)} |")
    for case, reasons in run["refused"].items():
        lines += ["", *_wrapped("; ".join(f"{case}, {command}: {said}" for command, said in reasons.items()))]
    return lines


def shown(samples: Rows) -> str:
    """Median, least and most."""
    seconds = [row["seconds"] for row in samples]
    spread = f" ({min(seconds):.2f} to {max(seconds):.2f})" if len(seconds) > 1 else ""
    return f"{middle(samples):.2f}{spread}"


def _mib(samples: Rows, what: str) -> str:
    return f"{middle(samples, what):.0f}"


def _memory(samples: Rows) -> str:
    """Marked where it is more than a build may take."""
    most = middle(samples, "memory")
    return f"{most:.0f}" if most <= MEMORY_LIMIT else f"**{most:.0f}**"


def _wrapped(text: str) -> list[str]:
    lines: list[str] = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= 100:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def latest(runs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of runs of the same, the last; in the page's order. Those of an earlier form of these files are left out."""
    by_title = {(run["bench"], title(run)): run for run in sorted(_known(runs), key=lambda run: str(run["at"]))}
    order = {key: number for number, key in enumerate(by_title)}
    return [by_title[key] for key in sorted(by_title, key=lambda key: (_ORDER.index(key[0]), order[key]))]


def _known(runs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [run for run in runs if run.get("bench") in _ORDER]


def write(runs: Sequence[Mapping[str, Any]], page: Path) -> None:
    """The page, and its plots beside it."""
    from bench import plots

    kept = latest(runs)
    parts, chapter = [HEAD, summary(kept)], ""
    for run in kept:
        if run["bench"] != chapter:
            chapter = run["bench"]
            parts.append(_CHAPTERS[chapter])
            if chapter == "build":
                parts.append("![Seconds by case, in each way, with the limit as a line](performance.svg)\n")
        parts.append(section(run))
    page.write_text("\n".join(parts))
    plots.plot_builds([run for run in kept if run["bench"] == "build"], page.with_suffix(".svg"))
    plots.plot_scales([run for run in kept if run["bench"] == "scale"], page.with_name(f"{page.stem}-scale.svg"))
