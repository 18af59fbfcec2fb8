"""How long a build takes, against the same work by hand: in turn, in one run, because machines are noisy.

    python bench/bench_build.py --engine URL [--mib 50] [--runs 5] [--data build|host] [--before DIR] [--json FILE]

By hand is the vendor's guide with the engine's own command: a Containerfile whose last step writes the image (`cat`
stands in for ops, and is faster than ops is), `create` and `cp`. What each case has changed since the build before:

    cold       every step runs anew; only the base is there
    nothing    nothing
    manifest   the manifest
    line       a line of the build script, so that its step runs again
    copy       the limit: the finished image is copied, to the disk

A random file of so many MiB goes into the image. `build.run` makes it, or with `--data host` it lies on this machine,
where by hand it is copied with the sources. With --before, a checkout of another version does the same in turn. With
--json the run is added to FILE, from which bench/report.py writes docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.inputs.bases import BOOTSTRAP_TAG

MIB = 1024 * 1024
CASES = ("cold", "nothing", "manifest", "line")
PROJECT = """\
name: bench
runtime: local
base: {image: 'registry.invalid/bench:1', bootstrap: {debian: bookworm}}
nanos: {kernel: stub}
packer: native
manifest: manifest.json
build: {context: src, run: sh make.sh, program: prog}
stage: {files: [DATA]}
"""
BY_HAND = """\
FROM BASE AS program
WORKDIR /build
COPY src/ /build/
RUN sh make.sh
FROM BASE AS image
COPY --from=program /build/prog /build/data /stage/
COPY manifest.json /
RUN cat /manifest.json /stage/prog /stage/data >/bench.img
"""


@dataclass(kw_only=True)
class Bench:
    """One run in `folder`, on the engine at the URL `engine`; `seconds` by case and way, one a repetition."""

    folder: Path
    engine: str
    mib: int
    data: str = "build"
    before: Path | None = None
    cases: tuple[str, ...] = CASES
    changes: int = 0
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def image(self) -> Path:
        """Ours."""
        return self.folder / "out/bench.img"

    @property
    def command(self) -> list[str]:
        """The engine's own, by which a person would build."""
        return ["podman", "--url", self.engine] if "podman" in self.engine else ["docker", "--host", self.engine]

    def prepare(self) -> None:
        """Write the project and the Containerfile; one build of ours makes the base for both."""
        (self.folder / "src").mkdir()
        data = "data" if self.data == "build" else "{from: src/data, to: data}"
        (self.folder / "project.yaml").write_text(PROJECT.replace("DATA", data))
        (self.folder / "before.yaml").write_text(PROJECT.replace("DATA", "data"))
        # Nothing of ours and nothing that was measured goes to the engine by hand.
        (self.folder / ".dockerignore").write_text("*\n!src\n!manifest.json\n!Containerfile\n")
        self.change("cold")
        self.change("manifest")
        self.ours()
        self.earlier()
        listed = self.run([*self.command, "images", "--format", "{{.Repository}}:{{.Tag}}"])
        base = next(name for name in listed.splitlines() if name.startswith(BOOTSTRAP_TAG))
        (self.folder / "Containerfile").write_text(BY_HAND.replace("BASE", base))
        self.by_hand()

    def change(self, case: str) -> None:
        """What the case wants changed."""
        self.changes += 1
        if case == "cold" and self.data == "host":
            with (self.folder / "src/data").open("wb") as sink:
                for _ in range(self.mib):
                    sink.write(os.urandom(MIB))
            os.sync()
        if case in ("line", "cold"):
            make = f"head -c {self.mib * MIB} /dev/urandom >data\n" if self.data == "build" else ""
            (self.folder / "src/make.sh").write_text(f"cp /bin/true prog\n{make}# {self.changes}\n")
        elif case == "manifest":
            (self.folder / "manifest.json").write_text(json.dumps({"Args": [str(self.changes)]}))

    def ours(self, *options: str) -> None:
        """One build with the orchestrator."""
        self.build(Path(__file__).resolve().parents[1], "project.yaml", "-o", "out", *options)

    def earlier(self, *options: str) -> None:
        """The same with the version to compare with."""
        if self.before is not None:
            self.build(self.before, "before.yaml", "-o", "before", *options)

    def build(self, checkout: Path, project: str, *options: str) -> None:
        """One build with the orchestrator of a checkout."""
        command = [sys.executable, "-m", "orchestrator", "build", project, "--engine", self.engine]
        self.run([*command, *options], PYTHONPATH=str(checkout))

    def by_hand(self, *options: str) -> None:
        """The same by hand."""
        self.run([*self.command, "build", *options, "-t", "bench-by-hand", "-f", "Containerfile", "."])
        container = self.run([*self.command, "create", "bench-by-hand", "true"]).strip()
        self.run([*self.command, "cp", f"{container}:/bench.img", "by-hand.img"])
        self.run([*self.command, "rm", container])
        os.sync()

    def copy(self) -> None:
        """The limit."""
        shutil.copyfile(self.image, self.folder / "copy.img")
        os.sync()

    def repeat(self) -> None:
        """Each case once, one way after the other."""
        for case in self.cases:
            options = ["--no-cache"] if case == "cold" else []
            self.change(case)
            self.time(case, "ours", partial(self.ours, *options))
            self.time(case, "by hand", partial(self.by_hand, *options))
            if self.before is not None:
                self.time(case, "before", partial(self.earlier, *options))
        self.time("copy", "copy", self.copy)

    def time(self, case: str, way: str, work: Callable[[], None]) -> None:
        """Take down how long `work` takes."""
        began = time.monotonic()
        work()
        self.seconds.setdefault(case, {}).setdefault(way, []).append(round(time.monotonic() - began, 3))

    def run(self, command: list[str], **variables: str) -> str:
        """The command's output; what it said is shown where it fails."""
        environment = {**os.environ, **variables}
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if ended.returncode:
            raise SystemExit(f"{' '.join(command)}: {ended.stderr[-2000:]}")
        return ended.stdout

    def document(self, engine: str) -> dict[str, Any]:
        """The run, for the report."""
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "orchestrator": __version__,
            "cpus": os.cpu_count(),
            "load": round(os.getloadavg()[1], 1),
            "engine": engine,
            "mib": self.mib,
            "data": self.data,
            "seconds": self.seconds,
        }


def main() -> None:
    """Run, print, and add to the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", required=True, metavar="URL")
    parser.add_argument("--mib", type=int, default=50)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--data", choices=("build", "host"), default="build")
    parser.add_argument("--before", type=Path, metavar="DIR")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            folder=Path(folder),
            engine=options.engine,
            mib=options.mib,
            data=options.data,
            before=options.before,
            cases=tuple(options.cases.split(",")),
        )
        bench.prepare()
        for _ in range(options.runs):
            bench.repeat()
        receipt = json.loads(bench.image.with_suffix(".receipt.json").read_text())
    document = bench.document(f"{receipt['engine']['kind']} {receipt['engine']['version']}")
    print(json.dumps(document, indent=2))
    if options.json is not None:
        earlier = json.loads(options.json.read_text()) if options.json.exists() else []
        options.json.write_text(json.dumps([*earlier, document], indent=1) + "\n")


if __name__ == "__main__":
    main()
