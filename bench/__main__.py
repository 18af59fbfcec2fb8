"""Measurements by hand: `python -m bench COMMAND --help`, or `make bench`.

Each adds its run to a JSON file; `report` merges such files, also those of other days, into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import report
from bench.builds import CASES, KINDS, SOURCES, WAYS, BuildBench, BuildSubject, measure_builds
from bench.disk import NoRoomError
from bench.engines import open_engine
from bench.measure import MIB, MeasuredCommandError
from bench.packing import PackBench
from bench.scaling import COUNTS, FAR, SIZES, ScaleBench, measure_start
from bench.trees import Tree
from orchestrator import __version__

_QUICK: tuple[str, ...] = (
    "start --runs 10",
    "build --engines docker,podman --source build --mib 50 --runs 3 --ways ours,by-hand",
    "pack --engines docker,podman --mib 1024 --runs 2 --no-peers",
    "pack --engines docker --files 20000 --runs 3 --no-peers",
    "build --engines docker,podman --source host --mib 1024 --runs 1 --cases cold,manifest --ways ours,by-hand",
    "build --engines docker,podman --source build --mib 1024 --runs 1 --cases cold --ways ours,by-hand",
)
"""The tables that matter most, in some ten minutes on a quiet machine of two cores."""
_FULL: tuple[str, ...] = (
    "start --runs 20",
    "build --engines docker,podman --source build --mib 50 --runs 5",
    "build --engines docker,podman --source host --mib 50 --runs 5",
    "build --engines docker,podman --source url --mib 50 --runs 5",
    "build --engines docker,podman --source build --files 20000 --runs 5 --cases cold,manifest,nothing",
    "build --engines docker,podman --source build --mib 1024 --runs 5",
    "build --engines docker,podman --source url --mib 1024 --runs 5 --cases cold,manifest,data",
    "build --engines docker,podman --source build --mib 1024 --kind zero --runs 3 --cases cold,manifest",
    "build --engines docker,podman --source build --mib 1024 --kind sparse --runs 3 --cases cold,manifest",
    "pack --engines docker,podman --mib 1024 --runs 5",
    "pack --engines docker,podman --files 20000 --runs 5",
    "pack --engines docker,podman --mib 8192 --runs 3",
    "pack --engines docker,podman --mib 8192 --kind zero --runs 3",
    "pack --engines docker,podman --mib 8192 --kind sparse --runs 3",
    "build --engines docker,podman --source host --mib 4096 --runs 3 --cases cold,manifest --ways ours,by-hand",
    "build --engines docker,podman --source host --mib 8192 --runs 3 --cases cold,manifest --ways ours,by-hand",
    "scale --axis size --runs 3",
    "scale --axis files --runs 3",
    "far",
)
"""All of it: hours. Of 8 GiB by hand, what does not fit on the disk is left out, with the reason."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Where a run works, and what keeps its result."""

    options: argparse.Namespace
    folder: Path

    def keep(self, document: dict[str, Any]) -> None:
        """Add it to the file, and say so."""
        whole = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "orchestrator": __version__,
            "cpus": os.cpu_count(),
            "load": round(os.getloadavg()[1], 1),
            **document,
        }
        path: Path = self.options.json
        path.parent.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([*earlier, whole], indent=1) + "\n")
        print(report.section(whole))
        sys.stdout.flush()


@contextmanager
def _working(options: argparse.Namespace) -> Iterator[_Run]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield _Run(options=options, folder=Path(folder))


def _build(options: argparse.Namespace) -> None:
    ways = tuple(way for way in WAYS if way.replace(", ", "-").replace(" ", "-") in options.ways)
    subject = BuildSubject(mib=options.mib, kind=options.kind, files=options.files, source=options.source)
    for name in options.engines:
        with _working(options) as run, open_engine(name) as engine:
            bench = BuildBench(folder=run.folder, engine=engine, subject=subject, ways=ways, before=options.before,
                               drop=options.drop_caches)  # fmt: skip
            run.keep(measure_builds(bench, options.cases, options.runs))


def _pack(options: argparse.Namespace) -> None:
    tree = Tree(mib=0 if options.files else options.mib, kind=options.kind, files=options.files)
    with _working(options) as run, ExitStack() as stack:
        engines = [stack.enter_context(open_engine(name)) for name in options.engines]
        bench = PackBench(folder=run.folder, tree=tree, engines=engines, drop=options.drop_caches)
        run.keep(bench.run(options.runs, peers=not options.no_peers))


def _scale(options: argparse.Namespace) -> None:
    values = options.values or (SIZES if options.axis == "size" else COUNTS)
    with _working(options) as run:
        run.keep(ScaleBench(folder=run.folder).along(options.axis, values, options.runs))


def _far(options: argparse.Namespace) -> None:
    names = tuple(name for name in FAR if options.only in name)
    with _working(options) as run:
        run.keep(ScaleBench(folder=run.folder).far(names))


def _start(options: argparse.Namespace) -> None:
    with _working(options) as run:
        run.keep(measure_start(run.folder, options.runs))


def _profile(lines: tuple[str, ...]) -> Callable[[argparse.Namespace], None]:
    def run(options: argparse.Namespace) -> None:
        for line in _with_runs(lines, options.runs):
            print(f"== {line}", flush=True)
            if (room := shutil.disk_usage(tempfile.gettempdir()).free // MIB) < options.room:
                print(f"left out: the disk has only {room} MiB")
                continue
            began = time.monotonic()
            try:
                main([*line.split(), "--json", str(options.json)])
            except (MeasuredCommandError, NoRoomError) as problem:
                print(f"failed: {problem}", flush=True)
            print(f"(that took {time.monotonic() - began:.0f} s)", flush=True)

    return run


def _with_runs(lines: tuple[str, ...], runs: int | None) -> list[str]:
    """The lines with another number of repetitions, where one is asked for."""
    return [re.sub(r"--runs \d+", f"--runs {runs}", line) if runs else line for line in lines]


def _report(options: argparse.Namespace) -> None:
    report.write([run for path in options.runs for run in json.loads(path.read_text())], options.page)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name: str, work: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(work=work)
        added.add_argument("--json", type=Path, default=Path("target/bench.json"), help="Add the run to this file.")
        return added

    build = command("build", _build, "Whole builds, against the same by hand.")
    pack = command("pack", _pack, "From a staged tree to a finished image, against others and `cp`.")
    for parser_of in (build, pack):
        parser_of.add_argument("--engines", type=_words, default=("docker", "podman"), help="docker, podman, URLs")
        parser_of.add_argument("--mib", type=int, default=50)
        parser_of.add_argument("--kind", choices=KINDS, default="random")
        parser_of.add_argument("--files", type=int, default=0, help="So many files of 4 KiB instead of one.")
        parser_of.add_argument("--runs", type=int, default=5)
        parser_of.add_argument("--drop-caches", action="store_true", help="Begin with an empty page cache; as root.")
    build.add_argument("--source", choices=SOURCES, default="build", help="What makes the file.")
    build.add_argument("--cases", type=_words, default=CASES, help=", ".join(CASES))
    build.add_argument("--ways", type=_words, default=("ours", "ours-ops", "by-hand"))
    build.add_argument("--before", type=Path, metavar="DIR", help="A checkout of another version.")
    pack.add_argument("--no-peers", action="store_true", help="Only ours, by hand and the limits (copy, tar).")
    scale = command("scale", _scale, "Seconds and memory against size or number of files.")
    scale.add_argument("--axis", choices=("size", "files"), default="size")
    scale.add_argument("--values", type=_numbers, default=())
    scale.add_argument("--runs", type=int, default=3)
    far = command("far", _far, "A million files; a sparse file of 64 GiB.")
    far.add_argument("--only", default="", help="Part of a name: sparse, files.")
    start = command("start", _start, "How long --help and check take.")
    start.add_argument("--runs", type=int, default=10)
    for name, lines in (("quick", _QUICK), ("full", _FULL)):
        profile = command(name, _profile(lines), f"{len(lines)} of the above, one after the other.")
        profile.add_argument("--runs", type=int, help="Repetitions of each, instead of its own number.")
        profile.add_argument("--room", type=int, default=12 * 1024, help="MiB that must be free on the disk.")
    page = commands.add_parser("report", help="Write docs/performance.md and its plots from runs.")
    page.set_defaults(work=_report)
    page.add_argument("runs", type=Path, nargs="+", metavar="RUNS.json")
    page.add_argument("--page", type=Path, default=Path("docs/performance.md"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run one command."""
    options = _parser().parse_args(arguments)
    options.work(options)


if __name__ == "__main__":
    main()
