"""Seconds and memory against the size of a tree and against the number of its files, and what happens far out."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.measure import MeasuredCommandError, Meter, Samples, Usage
from bench.trees import PROGRAM, Tree

SIZES = (64, 256, 1024, 4096)
COUNTS = (1000, 5000, 20_000, 80_000)
FAR = {
    "a sparse file of 64 GiB": Tree(mib=64 * 1024, kind="sparse"),
    "1,000,000 files of 16 bytes": Tree(files=1_000_000, small=16),
    "400,000 files of 16 bytes": Tree(files=400_000, small=16),
}


@dataclass(kw_only=True)
class ScaleBench:
    """Packs, lists and verifies trees in `folder`, one after the other."""

    folder: Path
    samples: Samples = field(default_factory=Samples)
    refused: dict[str, dict[str, str]] = field(default_factory=dict)

    def along(self, axis: str, values: tuple[int, ...], runs: int) -> dict[str, Any]:
        """`axis` is size (MiB) or files; the run, for the report."""
        for value in values:
            tree = Tree(files=value) if axis == "files" else Tree(mib=value)
            self._measure(str(value), tree, runs)
        return {"bench": "scale", "axis": axis, "samples": self.samples.rows, "refused": self.refused}

    def far(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Once each: an image, or the reason why there is none."""
        for name in names:
            self._measure(name, FAR[name], 1)
        return {"bench": "far", "samples": self.samples.rows, "refused": self.refused}

    def _measure(self, case: str, tree: Tree, runs: int) -> None:
        folder = self.folder / "scale"
        folder.mkdir()
        many = tree.files > COUNTS[-1]
        source = tree.write_tar(folder / "tree.tar") if many else tree.write(folder / "tree")
        pack = ["pack", source.name, "--name", "bench", "--program", PROGRAM, "--nanos", "stub", "-o", "out"]
        commands = {
            "pack": pack,
            "inspect": ["inspect", "out/bench.img", "tree"],
            "verify": ["verify", "out/bench.img"],
        }
        meter = Meter(folder=folder)
        try:
            for _ in range(runs):
                for name, words in commands.items():
                    usage = self._run(meter, case, name, words)
                    if usage is None:
                        break  # without an image there is nothing to look into
                    self.samples.add(case, name, usage)
                if (folder / "out/bench.img").exists():
                    self.samples.add(case, "copy", meter.copy(folder / "out/bench.img", folder / "copy.img"))
                    (folder / "copy.img").unlink()
                    if source.is_dir():
                        self.samples.add(case, "tar", _tar(meter, folder))
        finally:
            shutil.rmtree(folder)

    def _run(self, meter: Meter, case: str, name: str, words: list[str]) -> Usage | None:
        try:
            return meter.run([sys.executable, "-m", "orchestrator", *words])[0]
        except MeasuredCommandError as problem:
            self.refused.setdefault(case, {})[name] = " ".join(str(problem).partition("error: ")[2].split())[-400:]
            return None


def _tar(meter: Meter, folder: Path) -> Usage:
    """The other limit: GNU tar of the tree, to the disk."""
    usage, _ = meter.run(["tar", "-C", "tree", "--sparse", "-cf", "tree.tar", "."])
    usage = usage.and_then(meter.settle(folder / "tree.tar"))
    (folder / "tree.tar").unlink()
    return usage


def measure_start(folder: Path, runs: int) -> dict[str, Any]:
    """How long `--help`, `--version` and `check` take, and `python -c pass` as the limit."""
    (folder / "src").mkdir()
    (folder / "src/main.c").write_text("int main(void) { return 0; }\n")
    (folder / "project.yaml").write_text(
        "name: bench\nruntime: local\nbase: docker.io/library/gcc:13\n"
        "build: {context: src, run: gcc -o prog main.c, program: prog}\nnanos: {kernel: stub}\n"
    )
    ours = [sys.executable, "-m", "orchestrator"]
    ways = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "--help": [*ours, "--help"],
        "build --help": [*ours, "build", "--help"],
        "check": [*ours, "check", "project.yaml"],
    }
    samples, meter = Samples(), Meter(folder=folder)
    for number in range(runs + 1):
        for way, command in ways.items():
            usage, _ = meter.run(command)
            if number:  # the first one compiles modules and fills the disk's cache
                samples.add("start", way, usage)
    return {"bench": "start", "samples": samples.rows}
