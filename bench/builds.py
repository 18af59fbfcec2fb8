"""How long a whole build takes, against the same work by hand: in turn, in one run, because machines are noisy.

By hand is the vendor's guide with the engine's own command: a Containerfile whose last step writes the image (`tar`
stands in for ops, and is faster than ops is), `create` and `cp`. Ours is measured with both packers; for `ops` a
stand-in of ours, in Python, writes the image, which takes longer than ops does.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.disk import LARGE, NoRoomError, drop_caches, require_room
from bench.engines import MeasuredEngine
from bench.measure import MIB, MeasuredCommandError, Meter, Samples, Usage, storage_mib
from orchestrator.inputs.bases import BOOTSTRAP_TAG
from orchestrator.inputs.store import Store
from tests.standins.make_ops import make_ops
from tests.standins.nanos_release import make_release

REPOSITORY = Path(__file__).resolve().parents[1]
CASES = ("cold", "nothing", "warm", "manifest", "line", "data", "second")
WAYS = ("ours", "ours, ops", "by hand")
_COPIES = {
    ("docker", "by hand"): {"build": 4, "host": 5, "url": 6},
    ("podman", "by hand"): {"build": 5, "host": 5, "url": 6},
    ("docker", ""): {"build": 2, "host": 1, "url": 2},
    ("podman", ""): {"build": 3, "host": 1, "url": 2},
}
"""Copies of the large file that lie on the disk at once, beside the file of this machine: layers, contexts, what
Podman's commit has in /var/tmp, our cache, the image. "" is any other way."""
KINDS = ("random", "zero", "sparse")
SOURCES = ("build", "host", "url")
_MAKE = {
    "random": "head -c {size} /dev/urandom >data\n",
    "zero": "head -c {size} /dev/zero >data\n",
    "sparse": "truncate -s {size} data\n",
}
_MANY = "mkdir data; for n in $(seq {files}); do head -c 4096 /dev/urandom >data/$n; done\n"
_PROJECT = """\
name: NAME
runtime: local
base: {image: 'registry.invalid/bench:1', bootstrap: {debian: bookworm, packages: [binutils, gcc, libc6-dev, python3]}}
nanos: NANOS
packer: PACKER
manifest: manifest.json
build: {context: src, run: sh make.sh, program: prog}
stage: {files: [DATA, small.txt]}
"""
_BY_HAND = """\
FROM BASE AS program
WORKDIR /build
COPY src/ /build/
RUN sh make.sh
FROM BASE AS image
COPY --from=program /build/prog /build/small.txt /stage/
COPY DATA /stage/data
COPY manifest.json /
RUN tar -cf /bench.img /manifest.json /stage
"""


@dataclass(frozen=True, kw_only=True)
class BuildSubject:
    """What is built: a file of so many MiB, or with `files` so many of 4 KiB, made by `build.run` (`build`), a file of
    this machine (`host`), or one that a server on it has (`url`)."""

    mib: int = 50
    kind: str = "random"
    files: int = 0
    source: str = "build"

    @property
    def make(self) -> str:
        """The shell commands that make it."""
        return (_MANY if self.files else _MAKE[self.kind]).format(size=self.mib * MIB, files=self.files)


@dataclass(kw_only=True)
class BuildBench:
    """Builds of one subject in `folder`. `before`: a checkout of another version, which does the same in turn; `drop`:
    nothing is in the page cache when a build begins; `absent` says why a way isn't there."""

    folder: Path
    engine: MeasuredEngine
    subject: BuildSubject
    ways: tuple[str, ...] = WAYS
    before: Path | None = None
    drop: bool = False
    absent: dict[str, str] = field(default_factory=dict)
    samples: Samples = field(default_factory=Samples)
    changes: int = 0
    address: str = ""
    cached: str = ""

    def __post_init__(self) -> None:
        self.meter = Meter(folder=self.folder, engine=self.engine.pid)

    @property
    def image(self) -> Path:
        """Ours."""
        return self.folder / "out/bench.img"

    def prepare(self, first: str) -> None:
        """Write the projects and the Containerfile; one build of ours makes the base for all.

        Where the case `first` begins from nothing, that is all that's needed of it, and what it builds is small.
        """
        whole = self.subject
        if first == "cold":
            self.subject = replace(whole, mib=1, files=0)
        for name in ("src", "outside", "fetched"):
            (self.folder / name).mkdir()
        by_hand = {"build": "--from=program /build/data", "host": "outside/data", "url": "fetched/data"}
        data = by_hand[self.subject.source]
        exception = "" if self.subject.source == "build" else f"!{data}\n"
        # Nothing of ours and nothing that was measured goes to the engine by hand.
        (self.folder / ".dockerignore").write_text(f"*\n!src\n!manifest.json\n!Containerfile\n{exception}")
        if "ours, ops" in self.ways:
            make_ops(self.folder / "ops", interpreter="/usr/bin/python3")
            make_release(self.folder / "release")
        for case in ("cold", "manifest", "data"):
            self.change(case)
        self.ours()
        listed = self.by_engine("images", "--format", "{{.Repository}}:{{.Tag}}")[1]
        base = next(name for name in listed.splitlines() if name.startswith(BOOTSTRAP_TAG))
        (self.folder / "Containerfile").write_text(_BY_HAND.replace("BASE", base).replace("DATA", data))
        for way in self.all_ways:
            if way != "ours" and first != "cold":
                self.work(way, "prepare")()
        self.subject = whole

    @property
    def all_ways(self) -> tuple[str, ...]:
        """With the version to compare with."""
        return self.ways if self.before is None else (*self.ways, "before")

    def change(self, case: str) -> None:
        """What the case wants changed."""
        self.changes += 1
        outside = self.subject.source != "build"
        if case in ("cold", "data") and outside:
            self.meter.run(["sh", "-ec", f"cd outside; rm -rf data; {self.subject.make}sync data"])
        elif case == "data":
            (self.folder / "src/small.txt").write_text(f"{self.changes}\n")
        if case in ("line", "cold"):
            script = "" if outside else self.subject.make
            (self.folder / "src/make.sh").write_text(f"cp /bin/true prog\n{script}touch small.txt # {self.changes}\n")
        elif case in ("manifest", "second"):
            (self.folder / "manifest.json").write_text(json.dumps({"Args": [str(self.changes)]}))
        elif case == "warm":
            for image in self.folder.glob("out*/*.img"):
                image.unlink()
        self.write_projects()

    def write_projects(self) -> None:
        """The project.yaml of each packer, and that of another project of the same sources."""
        data = "data"
        if self.subject.source == "host":
            data = "{from: outside/data, to: data}"
        elif self.subject.source == "url":
            with (self.folder / "outside/data").open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest != self.cached:
                self.forget()
                self.cached = digest
            data = f"{{url: '{self.address}', sha256: {digest}, to: data}}"
        native = _PROJECT.replace("DATA", data).replace("PACKER", "native").replace("NANOS", "{kernel: stub}")
        ops = _PROJECT.replace("DATA", data).replace("PACKER", "ops\nops: {path: ops}")
        ops = ops.replace("NANOS", "{path: release}")
        projects = {
            "native": native.replace("NAME", "bench"),
            "native-second": native.replace("NAME", f"other{self.changes}"),
            "ops": ops.replace("NAME", "bench-ops"),
            "ops-second": ops.replace("NAME", f"ops{self.changes}"),
        }
        for name, text in projects.items():
            file = self.folder / f"{name}.yaml"
            if not file.exists() or file.read_text() != text:
                file.write_text(text)
            lock = self.folder / f"{name}.lock"
            if "second" in name and (known := self.folder / f"{name.removesuffix('-second')}.lock").exists():
                lock.write_bytes(known.read_bytes())
            # A build says each time that a file isn't the lock's, so it is never the same as the one before.
            if self.subject.source == "host" and lock.exists():
                lock_command = [sys.executable, "-m", "orchestrator", "lock", file.name, "--upgrade", "file:data"]
                self.meter.run([*lock_command, "--engine", self.engine.url])

    def forget(self) -> None:
        """Let go of the file that our cache has of the server."""
        if self.cached:
            Store().remove(f"sha256-{self.cached}")

    def ours(self, *options: str, project: str = "native", checkout: Path = REPOSITORY, out: str = "out") -> Usage:
        """One build with the orchestrator."""
        command = [sys.executable, "-m", "orchestrator", "build", f"{project}.yaml"]
        command += ["--engine", self.engine.url, "-o", out, *options]
        return self.meter.run(command, {"PYTHONPATH": str(checkout)})[0]

    def by_hand(self, *options: str) -> Usage:
        """The same by hand."""
        usage = Usage()
        if self.subject.source == "url":
            usage = self.meter.run(["curl", "-sS", "-o", "fetched/data", self.address])[0]
        # No step needs a network, and a daemon without a bridge has none to give.
        build = ["build", "--network", "none", "-t", "bench-by-hand", "-f", "Containerfile", *options, "."]
        usage = usage.and_then(self.by_engine(*build)[0])
        return usage.and_then(self.take_out("bench-by-hand", "/bench.img", "by-hand.img"))

    def take_out(self, image: str, path: str, target: str) -> Usage:
        """`create`, `cp` and `rm`."""
        usage, container = self.by_engine("create", image, "true")
        usage = usage.and_then(self.by_engine("cp", f"{container.strip()}:{path}", target)[0])
        usage = usage.and_then(self.meter.settle(self.folder / target))
        (self.folder / target).unlink()
        return usage.and_then(self.by_engine("rm", container.strip())[0])

    def by_engine(self, *arguments: str) -> tuple[Usage, str]:
        """The engine's own command."""
        return self.meter.run([*self.engine.command, *arguments], self.engine.variables)

    def work(self, way: str, case: str) -> Callable[[], Usage]:
        """One way of doing what a case asks for."""
        options = ["--no-cache"] if case == "cold" else []
        suffix = "-second" if case == "second" else ""
        if way == "by hand":
            return partial(self.by_hand, *options)
        if way == "ours, ops":
            return partial(self.ours, *options, project=f"ops{suffix}", out="out-ops")
        if way == "before":
            assert self.before is not None
            return partial(self.ours, *options, project=f"native{suffix}", checkout=self.before, out="out-before")
        return partial(self.ours, *options, project=f"native{suffix}")

    def repeat(self, cases: tuple[str, ...], number: int) -> None:
        """Each case once, one way after the other; who is first changes with the number of the repetition."""
        turn = number % len(self.all_ways)
        ways = (*self.all_ways[turn:], *self.all_ways[:turn])
        if self.subject.mib >= LARGE and self.subject.kind != "sparse":
            self._repeat_apart(cases, ways)
            return
        for case in cases:
            self.change(case)
            for way in ways:
                self._measure(way, case)
        self._copy()
        if "cold" in cases:  # the next repetition begins without what is in the cache
            self.engine.prune()

    def _repeat_apart(self, cases: tuple[str, ...], ways: tuple[str, ...]) -> None:
        """One way after the other, each with all cases, so that the disk never holds what two of them made."""
        for way in ways:
            try:
                copies: float = _COPIES[self.engine.name, way if way == "by hand" else ""][self.subject.source]
                outside = self.folder / "outside/data"
                # What is there now is small, or is made anew in the same place.
                there = outside.stat().st_size / MIB / self.subject.mib if outside.exists() else 0
                copies += 0 if self.subject.source == "build" else 1 - there
                require_room(copies, self.subject.mib, f"{way} on {self.engine.name}")
                for case in cases:
                    self.change(case)
                    self._measure(way, case)
                if way == "ours":
                    self._copy()
            except (NoRoomError, MeasuredCommandError) as problem:
                if way == "ours" and isinstance(problem, MeasuredCommandError):
                    raise
                self.absent[way] = str(problem).strip().splitlines()[-1][-300:]
            finally:
                self._clear()

    def _measure(self, way: str, case: str) -> None:
        before, work = storage_mib(self.engine.storage), self.work(way, case)
        if self.drop:
            drop_caches()
        usage = work()
        self.samples.add(case, way, usage, storage=round(storage_mib(self.engine.storage) - before, 1))

    def _copy(self) -> None:
        """The limit."""
        if not self.image.exists():
            return
        if self.drop:
            drop_caches()
        self.samples.add("copy", "copy", self.meter.copy(self.image, self.folder / "copy.img"))
        (self.folder / "copy.img").unlink()

    def _clear(self) -> None:
        """Let go of what one way made, but for the receipt, which says on what it was."""
        for pattern in ("out*/*.img", "by-hand.img", "fetched/data"):
            for path in self.folder.glob(pattern):
                path.unlink()
        command = [*self.engine.command, "rmi", "-f", "bench-by-hand"]
        subprocess.run(command, env={**os.environ, **self.engine.variables}, capture_output=True, check=False)
        self.engine.prune()

    def document(self) -> dict[str, Any]:
        """The run, for the report."""
        receipt = json.loads(self.image.with_suffix(".receipt.json").read_text())
        return {
            "bench": "build",
            "engine": f"{receipt['engine']['kind']} {receipt['engine']['version']}",
            "by_hand": self.engine.builder,
            "mib": self.subject.mib,
            "source": self.subject.source,
            "kind": self.subject.kind,
            "files": self.subject.files,
            "dropped": self.drop,
            "absent": self.absent,
            "samples": self.samples.rows,
        }


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Not on the terminal."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of `folder`'s file `data`, on a server of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/data"
        finally:
            server.shutdown()


def measure_builds(bench: BuildBench, cases: tuple[str, ...], runs: int) -> dict[str, Any]:
    """All repetitions; the run, for the report."""
    with served(bench.folder / "outside") as address:
        bench.address = address
        bench.prepare(cases[0])
        try:
            for number in range(runs):
                bench.repeat(cases, number)
        finally:
            bench.forget()
        return bench.document()
