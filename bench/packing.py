"""How long it takes from a staged tree to a finished image, ours verified and hashed: against the same by hand with an
engine, against other programs that put a tree into one file, and against copying that file.

By hand is what the guide's last step does: a step that writes the file (`tar` stands in for ops), the commit of its
layer, `create`, `cp`. The tree lies in the engine already.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.engines import MeasuredEngine
from bench.measure import MIB, MeasuredCommandError, Meter, Samples, Usage, storage_mib
from bench.trees import PROGRAM, Tree

COPY = "copy"
ABSENT = {
    "ops": "its Go module can't be had here: the module proxy refuses it",
    "kraftkit": "its Go module can't be had here: the module proxy refuses it",
}
_STAGED = "FROM scratch\nCOPY tree/ /stage/\n"
_PACKED = f'FROM bench-stage\nRUN ["/stage/{PROGRAM}", "tar", "-cf", "/bench.img", "/stage"]\n'
_EXPORTED = "FROM bench-stage AS stage\nFROM scratch\nCOPY --from=stage /stage/ /\n"
_PARTITION = "[Partition]\nType=root\nFormat=ext4\nCopyFiles={tree}:/\nSizeMinBytes={size}M\nSizeMaxBytes={size}M\n"


@dataclass(kw_only=True)
class PackBench:
    """One tree, packed in each way in turn. `absent` says why a peer isn't there."""

    folder: Path
    tree: Tree
    engines: Sequence[MeasuredEngine] = ()
    samples: Samples = field(default_factory=Samples)
    absent: dict[str, str] = field(default_factory=lambda: dict(ABSENT))

    def run(self, runs: int, *, peers: bool = True) -> dict[str, Any]:
        """All repetitions; the run, for the report."""
        self.tree.write(self.folder / "tree")
        # An engine that gets the tree as a context has all of it written once, before anything is measured.
        for engine in self.engines:
            self._build(engine, "staged", _STAGED, "-t", "bench-stage")
        ways = self._ways(peers)
        for number in range(runs):
            turn = number % len(ways)
            for way in [*ways][turn:] + [*ways][:turn]:
                self._measure(way, ways[way])
        for engine in self.engines:
            self._by_engine(engine, "rmi", "-f", "bench-stage")
            engine.prune()
        return {
            "bench": "pack",
            "mib": self.tree.mib,
            "kind": self.tree.kind,
            "files": self.tree.files,
            "samples": self.samples.rows,
            "absent": self.absent,
        }

    def _measure(self, way: str, work: Callable[[], Usage]) -> None:
        if way in self.absent:
            return
        engine = next((engine for engine in self.engines if way.endswith(f", {engine.name}")), None)
        before = storage_mib(engine.storage if engine else None)
        try:
            usage = work()
        except (MeasuredCommandError, FileNotFoundError) as problem:
            if way == "ours":
                raise
            self.absent[way] = str(problem).strip().splitlines()[-1][-300:]
            return
        more = storage_mib(engine.storage if engine else None) - before
        self.samples.add("pack", way, usage, storage=round(more, 1))
        if engine is not None:
            self._by_engine(engine, "rmi", "-f", "bench-packed")
            engine.prune()
        if way == "ours":
            self._copy()

    def _copy(self) -> None:
        """The limit, of our image; where that is one large file, of the file: there may be no room for three."""
        source = self.folder / "out/bench.img"
        if not self.tree.files:
            shutil.rmtree(self.folder / "out")
            source = self.folder / "tree/data"
        self.samples.add("pack", COPY, self._meter().copy(source, self.folder / "copy.img"))
        (self.folder / "copy.img").unlink()

    def _ways(self, peers: bool) -> dict[str, Callable[[], Usage]]:
        ways: dict[str, Callable[[], Usage]] = {"ours": self.ours}
        for engine in self.engines:
            ways[f"by hand, {engine.name}"] = partial(self.by_hand, engine)
            if peers:
                ways[f"build -o type=tar, {engine.name}"] = partial(self.export, engine)
        if peers:
            ways |= {"tar": self.tar, "mkfs.ext4 -d": self.mkfs, "mkosi's disk step": self.repart}
        return ways

    def ours(self) -> Usage:
        """`pack`: an image that is verified and hashed, a receipt, a bill of materials."""
        command = [sys.executable, "-m", "orchestrator", "pack", "tree", "--name", "bench", "--program", PROGRAM]
        return self._meter().run([*command, "--nanos", "stub", "-o", "out"])[0]

    def by_hand(self, engine: MeasuredEngine) -> Usage:
        """A step that writes the file, its commit, `create`, `cp`."""
        usage = self._build(engine, "packed", _PACKED, "--no-cache", "-t", "bench-packed")
        created, container = self._by_engine(engine, "create", "bench-packed", "true")
        usage = usage.and_then(created)
        usage = usage.and_then(self._by_engine(engine, "cp", f"{container.strip()}:/bench.img", "by-hand.img")[0])
        usage = usage.and_then(self._meter(engine).settle(self.folder / "by-hand.img"))
        usage = usage.and_then(self._by_engine(engine, "rm", container.strip())[0])
        return self._settled(usage, "by-hand.img", remove_only=True)

    def export(self, engine: MeasuredEngine) -> Usage:
        """The builder's own tar."""
        usage = self._build(engine, "exported", _EXPORTED, "--no-cache", "-o", "type=tar,dest=exported.tar")
        return self._settled(usage, "exported.tar")

    def tar(self) -> Usage:
        """GNU tar."""
        return self._settled(self._meter().run(["tar", "-C", "tree", "-cf", "tree.tar", "."])[0], "tree.tar")

    def mkfs(self) -> Usage:
        """A file system of the tree, by e2fsprogs."""
        image, inodes = self.folder / "tree.ext4", self.tree.files + 1000
        with image.open("wb") as stream:
            stream.truncate(self._room() * MIB)
        command = ["mkfs.ext4", "-q", "-F", "-N", str(inodes), "-d", "tree", image.name]
        return self._settled(self._meter().run(command)[0], image.name)

    def repart(self) -> Usage:
        """systemd-repart makes the disk for mkosi, with a partition of the tree."""
        definitions = self.folder / "definitions"
        definitions.mkdir(exist_ok=True)
        text = _PARTITION.format(tree=self.folder / "tree", size=self._room())
        (definitions / "root.conf").write_text(text)
        command = ["systemd-repart", "--empty=create", f"--size={self._room() + 8}M", "--dry-run=no", "--offline=yes"]
        if "--offline" not in self._meter().run(["systemd-repart", "--help"])[1]:
            command.pop()  # it came with systemd 254; before, a loop device is used
        command += [f"--definitions={definitions}", "tree.disk"]
        return self._settled(self._meter().run(command)[0], "tree.disk")

    def _room(self) -> int:
        """MiB of a file system that holds the tree."""
        return self.tree.mib + self.tree.mib // 8 + self.tree.files * 8 // 1024 + 64

    def _settled(self, usage: Usage, name: str, *, remove_only: bool = False) -> Usage:
        """With the file on the disk, which is then removed."""
        path = self.folder / name
        if not remove_only:
            usage = usage.and_then(self._meter().settle(path))
        path.unlink()
        return usage

    def _build(self, engine: MeasuredEngine, name: str, text: str, *options: str) -> Usage:
        # The context of all but the first has nothing but the Containerfile.
        context = self.folder if text is _STAGED else self.folder / name
        context.mkdir(exist_ok=True)
        (context / f"{name}.Containerfile").write_text(text)
        (self.folder / ".dockerignore").write_text("*\n!tree\n!*.Containerfile\n")
        arguments = ["build", "--network", "none", "-f", str(context / f"{name}.Containerfile"), *options, str(context)]
        return self._by_engine(engine, *arguments)[0]

    def _by_engine(self, engine: MeasuredEngine, *arguments: str) -> tuple[Usage, str]:
        return self._meter(engine).run([*engine.command, *arguments], engine.variables)

    def _meter(self, engine: MeasuredEngine | None = None) -> Meter:
        return Meter(folder=self.folder, engine=engine.pid if engine else 0)
