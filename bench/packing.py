"""How long it takes from a staged tree to a finished image, ours verified and hashed: against the same by hand with an
engine, against other programs that put a tree into one file, and against copying that file.

By hand is what the guide's last step does: a step that writes the file (`tar` stands in for ops), the commit of its
layer, `create`, `cp`. The tree lies in the engine already. The limits are `tar` of the tree, the tree out of the engine
as a tar (`cp CONTAINER:/stage -`), and `cp` of the large file or of our image.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.disk import LARGE, NoRoomError, drop_caches, require_room
from bench.engines import MeasuredEngine
from bench.measure import MIB, MeasuredCommandError, Meter, Samples, Usage, storage_mib
from bench.trees import PROGRAM, Tree

COPY, TAR = "copy", "tar"
_COPIES = {"by hand, docker": 2, "by hand, podman": 3, "build -o type=tar, docker": 2, "build -o type=tar, podman": 3}
"""Copies of the tree that lie on the disk at once, beside the tree; one for any other way. Podman's commit has the
container's own, one in /var/tmp and the layer."""
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
    """One tree, packed in each way in turn. `absent` says why a way isn't there; `drop`: nothing of it is in the page
    cache when a way begins."""

    folder: Path
    tree: Tree
    engines: Sequence[MeasuredEngine] = ()
    drop: bool = False
    samples: Samples = field(default_factory=Samples)
    absent: dict[str, str] = field(default_factory=lambda: dict(ABSENT))

    def run(self, runs: int, *, peers: bool = True) -> dict[str, Any]:
        """All repetitions; the run, for the report."""
        self.tree.write(self.folder / "tree")
        for engine in self.engines if not self._large else ():
            self._stage(engine)
        groups = self._ways(peers)
        for number in range(runs):
            if not self._large:  # all in turn
                self._repeat({way: work for ways in groups.values() for way, work in ways.items()}, number)
                continue
            for name, ways in groups.items():
                there = next((engine for engine in self.engines if engine.name == name), None)
                with self._only_here(there, ways):
                    self._repeat(ways, number)
        for engine in self.engines if not self._large else ():
            self._unstage(engine)
        return {
            "bench": "pack",
            "mib": self.tree.mib,
            "kind": self.tree.kind,
            "files": self.tree.files,
            "dropped": self.drop,
            "samples": self.samples.rows,
            "absent": self.absent,
        }

    @property
    def _large(self) -> bool:
        return self.tree.mib >= LARGE and self.tree.kind != "sparse"

    def _repeat(self, ways: dict[str, Callable[[], Usage]], number: int) -> None:
        """Each way once; who is first changes with the number of the repetition."""
        turn = number % len(ways)
        for way in [*ways][turn:] + [*ways][:turn]:
            self._measure(way, ways[way])

    def _stage(self, engine: MeasuredEngine) -> None:
        """An engine that gets the tree as a context has all of it written once, before anything is measured."""
        self._build(engine, "staged", _STAGED, "-t", "bench-stage")

    def _unstage(self, engine: MeasuredEngine) -> None:
        self._by_engine(engine, "rmi", "-f", "bench-stage")
        engine.prune()

    @contextmanager
    def _only_here(self, engine: MeasuredEngine | None, ways: Iterable[str]) -> Iterator[None]:
        """A large tree lies in one place at a time: on the disk, or in one engine. `engine` None: on the disk."""
        tree = self.folder / "tree"
        if engine is None:
            yield
            return
        try:
            require_room(2 if engine.name == "docker" else 3, self.tree.mib, f"the tree in {engine.name}")
            self._stage(engine)
        except (NoRoomError, MeasuredCommandError) as problem:
            self.absent |= {way: str(problem).strip().splitlines()[-1][-300:] for way in ways}
            engine.prune()
            yield
            return
        shutil.rmtree(tree)
        engine.prune()  # the context
        try:
            yield
        finally:
            self._unstage(engine)
            self.tree.write(tree)

    def _measure(self, way: str, work: Callable[[], Usage]) -> None:
        if way in self.absent:
            return
        engine = next((engine for engine in self.engines if way.endswith(f", {engine.name}")), None)
        before = storage_mib(engine.storage if engine else None)
        try:
            if self.tree.kind != "sparse":
                require_room(_COPIES.get(way, 1.13), self.tree.mib, way)
            if self.drop:
                drop_caches()
            usage = work()
        except (MeasuredCommandError, FileNotFoundError, NoRoomError) as problem:
            if way == "ours":
                raise
            self.absent[way] = str(problem).strip().splitlines()[-1][-300:]
            if engine is not None:
                engine.prune()
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
        if self.drop:
            drop_caches()
        self.samples.add("pack", COPY, self._meter().copy(source, self.folder / "copy.img"))
        (self.folder / "copy.img").unlink()

    def _ways(self, peers: bool) -> dict[str, dict[str, Callable[[], Usage]]]:
        """The ways, by where the tree lies: "" on the disk, or in an engine of that name."""
        here: dict[str, Callable[[], Usage]] = {"ours": self.ours, TAR: self.tar}
        if peers:
            here |= {"mkfs.ext4 -d": self.mkfs, "mkosi's disk step": self.repart}
        groups = {"": here}
        for engine in self.engines:
            ways: dict[str, Callable[[], Usage]] = {
                f"by hand, {engine.name}": partial(self.by_hand, engine),
                f"cp to a tar, {engine.name}": partial(self.take_out, engine),
            }
            if peers:
                ways[f"build -o type=tar, {engine.name}"] = partial(self.export, engine)
            groups[engine.name] = ways
        return groups

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

    def take_out(self, engine: MeasuredEngine) -> Usage:
        """`create`, and `cp` of the tree as a tar, which goes to a file."""
        usage, container = self._by_engine(engine, "create", "bench-stage", "true")
        copy = shlex.join([*engine.command, "cp", f"{container.strip()}:/stage", "-"])
        written = self._meter(engine).run(["sh", "-c", f"{copy} >staged.tar"], engine.variables)[0]
        usage = usage.and_then(written).and_then(self._meter(engine).settle(self.folder / "staged.tar"))
        usage = usage.and_then(self._by_engine(engine, "rm", container.strip())[0])
        return self._settled(usage, "staged.tar", remove_only=True)

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
