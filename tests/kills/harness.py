"""Kills builds at random moments and looks at what stays: `make kill-test N=200 SEED=1 ENGINES="podman docker"`.

Of each build the orchestrator, the build step's process, the OCI runtime that runs it, the engine's service, or
orchestrator and service together are killed by SIGKILL. Then nothing half done may lie under a final name, and the next
build must give the same bytes. After it and `clean` nothing of ours may be left: no container, volume, mount, process,
interface or temporary file, and no byte of the secret (leftovers.py); at the end of all, after `clean --all`, no image.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.build.projects import COMPILE, write_project
from tests.kills import room
from tests.kills.grounds import GROUNDS, MARK, Ground, runtimes, steps
from tests.kills.leftovers import SECRET, Leftovers
from tests.kills.record import Row, write_rows
from tests.kills.room import processes
from tests.support.cli import ROOT, Run, orchestrator

TIMEOUT = 300.0
"""Seconds that a build may take; one that hangs is a fault."""


class KillError(AssertionError):
    """Something that a kill must not do."""


@dataclass
class Harness:
    """Kills on one ground. `rng` decides whom and when."""

    ground: Ground
    rng: random.Random
    place: room.Room
    longest: float = 0.0
    """Seconds after the start of a build in which it is killed; 0: as long as one takes here."""
    clean: bool = True
    """Whether `clean` comes before each look; without it the engine keeps its layers, and locks stay."""
    weight: int = 0
    """Bytes of the project: from 16 MiB on a BuildKit daemon keeps them, and gets what changed by a session."""
    row: Row = field(default_factory=Row)

    def run(self, kills: int) -> None:
        """As many kills. KillError at the first fault."""
        began = time.time()
        self._project = self._write_project()
        self._out = self.ground.folder / "out"
        self._said = self.ground.folder / "said"
        self._left = Leftovers(self.ground, self.place, self._out, self._project.parent)
        self._images, self._layers = self.ground.images(), self.ground.layers()
        self._left.begin()
        self._build_well()
        self._image = (self._out / "program.img").read_bytes()
        self._look(began)
        self._name_engine()
        if not self.longest:
            self._change_sources()
            start = time.monotonic()
            self._build_well()
            self.longest = time.monotonic() - start
        victims = [victim for victim in self.ground.victims if victim != "runtime" or self.place.alone]
        for number in range(kills):
            if self.place.stopped:
                break
            self._kill_one(victims[number % len(victims)], self.rng.uniform(0, self.longest))
        self._look_for_images()

    def _write_project(self) -> Path:
        folder = self.ground.folder / "project"
        # Not the secret itself: the step's text is in layers.
        digest = hashlib.sha256(SECRET).hexdigest()
        run = f'test "$(sha256sum </run/secrets/canary)" = "{digest}  -"\n{COMPILE}\nsleep {MARK}\n'
        secrets = [{"id": "canary", "file": "canary.txt"}]
        project = write_project(folder, build={"run": run, "program": "program", "secrets": secrets})
        (folder / "canary.txt").write_bytes(SECRET)
        if self.weight:
            (folder / "weight").write_bytes(bytes(self.weight))
        return project

    def _name_engine(self) -> None:
        receipt = json.loads((self._out / "program.receipt.json").read_text())
        self.row.engine = f"{receipt['engine']['kind'].capitalize()} {receipt['engine']['version']}"

    def _kill_one(self, victim: str, delay: float) -> None:
        began = time.time()
        self._change_sources()
        with self._started() as build:
            # The step lives for a part of the build only, and most is at stake while it does.
            if victim in ("step", "runtime") or self.rng.random() < 0.5:
                _wait_for_step(build)
                delay = self.rng.uniform(0, float(MARK) / 4)
            time.sleep(delay)
            stage = _stage(self._said)
            hit = self._kill(victim, build.pid)
            try:
                build.wait(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                build.kill()
                raise KillError(f"the build hangs after a kill of {victim}") from None
        self.ground.revive()
        what = f"{victim} killed in {stage}" if hit else f"{victim} not there in {stage}"
        self._look_at_results(build.returncode, what)
        try:
            self._build_well()
            self._look(began)
        except KillError as fault:
            raise KillError(f"{what}: {fault}") from fault
        self.row.count(victim, stage, build.returncode, hit=hit)
        number = f"{time.strftime('%H:%M:%S')} {self.ground.name} {self.row.kills}"
        print(f"{number}: {what}: exit {build.returncode}; the next is right, nothing left", flush=True)

    def _kill(self, victim: str, build: int) -> bool:
        service = self.ground.service(build) if victim in ("service", "all") else None
        chosen: dict[str, list[int | None]] = {
            "orchestrator": [build], "service": [service], "all": [build, service], "step": [*steps()],
        }  # fmt: skip
        if victim == "runtime":
            chosen["runtime"] = [*runtimes()]
        killed = []
        for pid in chosen[victim]:
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
        until = time.monotonic() + 10
        while time.monotonic() < until and {pid for pid, _, _ in processes()} & {*killed}:
            time.sleep(0.02)  # many threads take a moment to go
        return bool(killed)

    def _look_at_results(self, code: int, what: str) -> None:
        said = self._said.read_text(errors="replace")
        if "Traceback" in said or "this is a bug" in said:
            raise KillError(f"{what}: a bug, not an error:\n{said}")
        if SECRET.decode() in said:
            raise KillError(f"{what}: the secret is shown:\n{said}")
        if code == 0 and not (self._out / "program.img").exists():
            raise KillError(f"{what}: a build that ended well has no image")
        for path in self._out.glob("program.img"):
            if path.read_bytes() != self._image:
                raise KillError(f"{what}: {path} is half an image, or another one")

    def _build_well(self) -> None:
        done = self._command("build", self._project, "-o", self._out, *self._engine, "--verify-cached")
        if done.code != 0:
            raise KillError(f"the next build fails with {done.code}:\n{done.stderr[-3000:]}")
        if hasattr(self, "_image") and (self._out / "program.img").read_bytes() != self._image:
            raise KillError("the next build gives other bytes")
        if not hasattr(self, "_image"):
            self._left.keep_results()

    def _change_sources(self) -> None:
        (self._project.parent / "nonce").write_text(str(self.rng.random()))
        self._left.keep_results()

    def _clean(self, *more: str) -> str:
        done = self._command("clean", self._out, *self._engine, *more)
        if done.code != 0:
            raise KillError(f"clean fails with {done.code}:\n{done.stderr}")
        return done.stderr + done.stdout

    def _look(self, since: float) -> None:
        if self.clean:
            self._clean()
        until = time.monotonic() + 15
        while (left := self._left.find(locks=not self.clean)) and time.monotonic() < until:
            time.sleep(0.5)  # a daemon removes some things in its own time
        if left := [*left, *self._left.secrets(since)]:
            raise KillError("left after the next build and clean:\n" + "\n".join(left))

    def _look_for_images(self) -> None:
        """After `clean` bases stay, and what is known of the contexts that a daemon keeps; not after `clean --all`."""
        if self.clean:
            said = self._clean("--all")
            left = [
                *(f"image {image}" for image in self.ground.images() - self._images),
                *self._left.find(everything=True),
            ]
            if left:
                raise KillError("left after clean --all:\n" + "\n".join([*left, said]))
            self.row.layers = len(self.ground.layers() - self._layers)

    @property
    def _engine(self) -> tuple[str, str]:
        return "--engine", self.ground.spec

    def _environment(self) -> dict[str, str]:
        alone = {} if self.place.alone else {"TMPDIR": str(self.place.temporary[0])}
        return {**self.ground.environment, **alone}

    def _command(self, *arguments: str | Path) -> Run:
        return orchestrator(*arguments, env=self._environment(), timeout=TIMEOUT)

    @contextmanager
    def _started(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "orchestrator", "build", str(self._project), "-o", str(self._out)]
        with (
            self._said.open("wb") as said,
            subprocess.Popen(
                [*command, *self._engine, "--progress", "json"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self._environment()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            ) as build,
        ):
            yield build


def _stage(said: Path) -> str:
    """The stage of the last step that a build has begun, by its events; "start" before the first."""
    stage = "start"
    for line in said.read_text(errors="replace").splitlines():
        with suppress(ValueError):
            event = json.loads(line)
            if event["event"] == "step-started":
                stage = str(event["stage"]) or "the engine"
    return stage


def _wait_for_step(build: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + TIMEOUT
    while not steps() and build.poll() is None and time.monotonic() < until:
        time.sleep(0.02)


@contextmanager
def opened(ground: Ground) -> Iterator[Ground]:
    """A ground whose engine runs."""
    ground.open()
    try:
        yield ground
    finally:
        ground.close()


def _run(name: str, kills: int, seed: int, place: room.Room) -> Row | None:
    """None after a fault, which it prints."""
    folder = place.folder / name
    folder.mkdir()
    weight = 17 << 20 if name == "docker" else 0
    harness = Harness(GROUNDS[name](folder), random.Random(f"{seed} {name}"), place, weight=weight)
    try:
        with opened(harness.ground):
            harness.run(kills)
    except KillError as fault:
        print(f"FAULT on {name} after {harness.row.kills}, SEED={seed}: {fault}", file=sys.stderr, flush=True)
        return None
    harness.row.engine += f" ({name})"
    print(
        f"{harness.row.engine}: {harness.row.kills} kills, nothing half, nothing left; {harness.row.told()}", flush=True
    )
    return harness.row


def _run_beside(shares: Mapping[str, int], seed: int) -> list[Row | None]:
    """Each engine in a room of its own, all at a time. SIGINT ends them early."""
    rooms: list[room.OpenRoom] = []

    def stop(*_: object) -> None:
        for opened in rooms:
            opened.stop()

    signal.signal(signal.SIGINT, stop)
    for name, kills in shares.items():
        rooms.append(room.open_room("tests.kills.harness", ["--kills", str(kills), "--seed", str(seed), name]))
    rows: list[Row | None] = []
    for opened in rooms:
        if opened.wait() == 0:
            rows.append(Row.read(opened.folder / "row.json"))
            opened.remove()
        else:
            rows.append(None)
            print(f"{opened.folder} is kept", file=sys.stderr)
    return rows


def main(arguments: Sequence[str]) -> int:
    """`--kills N --seed S ENGINE…`: as many in all, shared among the engines; no more after a SIGINT to it alone."""
    parser = argparse.ArgumentParser(prog="make kill-test", description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--record", type=Path, help="a page whose table of kills gets a row for each engine")
    # Not `choices`: without an argument Python 3.11 takes the list of all of them for one that it doesn't have.
    parser.add_argument("engines", nargs="*", default=[*GROUNDS], metavar="|".join(GROUNDS))
    asked = parser.parse_args(arguments)
    if unknown := set(asked.engines) - set(GROUNDS):
        parser.error(f"unknown engines: {', '.join(sorted(unknown))}; known: {', '.join(GROUNDS)}")
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(10**6)
    if room.is_inside():
        (name,) = asked.engines
        row = _run(name, asked.kills, seed, room.this_room())
        if row is not None:
            row.write(room.this_room().folder / "row.json")
        return int(row is None)
    print(f"SEED={seed}", flush=True)
    count = len(asked.engines)
    shares = {name: asked.kills // count + (index < asked.kills % count) for index, name in enumerate(asked.engines)}
    if os.geteuid() == 0:
        rows = _run_beside(shares, seed)
    else:
        place = room.usual_room(Path(tempfile.mkdtemp(prefix="kills-")))
        rows = [_run(name, kills, seed, place) for name, kills in shares.items()]
    if None in rows:
        return 1
    if asked.record is not None:
        write_rows(asked.record, [row for row in rows if row is not None], seed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
