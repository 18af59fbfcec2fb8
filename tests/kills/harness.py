"""Kills builds at random moments and looks at what stays: `make kill-test N=200 SEED=1 ENGINES="podman docker"`.

Of each build the orchestrator, the build step's process, the engine's service, or orchestrator and service together are
killed by SIGKILL. Then nothing half done may lie under a final name, the next build must give the same bytes, and after
it and `clean` nothing of ours may be left: no container, mount, process or temporary file, and no byte of the secret.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.build.projects import COMPILE, write_project
from tests.kills.grounds import GROUNDS, MARK, Ground, processes
from tests.support.cli import ROOT, Run, orchestrator

SECRET = b"kill-canary-7f2c91-7f2c91"
TIMEOUT = 300.0
"""Seconds that a build may take; one that hangs is a fault."""


class KillError(AssertionError):
    """Something that a kill must not do."""


@dataclass
class Harness:
    """Kills on one ground. `rng` decides whom and when."""

    ground: Ground
    rng: random.Random
    longest: float = 0.0
    """Seconds after the start of a build in which it is killed; 0: as long as one takes here."""
    clean: bool = True
    """Whether `clean` comes before the last look; without it the engine keeps its layers, and locks stay."""
    tally: Counter[str] = field(default_factory=Counter)

    def run(self, kills: int) -> None:
        """As many kills. KillError at the first fault."""
        self._began = time.time()
        self._project = self._write_project()
        self._out = self.ground.folder / "out"
        self._before = self.ground.containers()
        self._build_well()
        self._image = (self._out / "program.img").read_bytes()
        if not self.longest:
            self._change_sources()
            began = time.monotonic()
            self._build_well()
            self.longest = time.monotonic() - began
        for number in range(kills):
            victim = self.ground.victims[number % len(self.ground.victims)]
            self._kill_one(number, victim, self.rng.uniform(0, self.longest))
        self._look_for_leftovers()

    def _write_project(self) -> Path:
        folder = self.ground.folder / "project"
        # Not the secret itself: the step's text is in layers.
        digest = hashlib.sha256(SECRET).hexdigest()
        run = f'test "$(sha256sum </run/secrets/canary)" = "{digest}  -"\n{COMPILE}\nsleep {MARK}\n'
        secrets = [{"id": "canary", "file": "canary.txt"}]
        project = write_project(folder, build={"run": run, "program": "program", "secrets": secrets})
        (folder / "canary.txt").write_bytes(SECRET)
        return project

    def _kill_one(self, number: int, victim: str, delay: float) -> None:
        self._change_sources()
        with self._started() as build:
            # The step lives for a part of the build only, and most is at stake while it does.
            if victim == "step" or self.rng.random() < 0.5:
                _wait_for_step(build)
                delay = self.rng.uniform(0, float(MARK) / 4)
            time.sleep(delay)
            hit = self._kill(victim, build.pid)
            try:
                said = build.communicate(timeout=TIMEOUT)[1]
            except subprocess.TimeoutExpired:
                build.kill()
                raise KillError(f"the build hangs after a kill of {victim}") from None
        self.ground.revive()
        what = f"{victim} killed at {delay:.2f} s" if hit else f"{victim} not there at {delay:.2f} s"
        self._look_at_results(build.returncode, said)
        self._build_well()
        self.tally[f"{victim}: {'exit ' + str(build.returncode) if hit else 'not there'}"] += 1
        print(f"{number + 1} {what}: exit {build.returncode}; the next is right", flush=True)

    def _kill(self, victim: str, build: int) -> bool:
        service = self.ground.service(build) if victim in ("service", "all") else None
        chosen: dict[str, list[int | None]] = {
            "orchestrator": [build], "service": [service], "all": [build, service], "step": [*_steps()],
        }  # fmt: skip
        hit = False
        for pid in chosen[victim]:
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    hit = True
        return hit

    def _look_at_results(self, code: int, said: str) -> None:
        if "Traceback" in said or "this is a bug" in said:
            raise KillError(f"a bug, not an error:\n{said}")
        if SECRET.decode() in said:
            raise KillError(f"the secret is shown:\n{said}")
        if code == 0 and not (self._out / "program.img").exists():
            raise KillError("a build that ended well has no image")
        for path in self._out.glob("program.img"):
            if path.read_bytes() != self._image:
                raise KillError(f"{path} is half an image, or another one")

    def _build_well(self) -> None:
        done = self._command("build", self._project, "-o", self._out, *self._engine, "--verify-cached")
        if done.code != 0:
            raise KillError(f"the next build fails with {done.code}:\n{done.stderr[-3000:]}")
        if hasattr(self, "_image") and (self._out / "program.img").read_bytes() != self._image:
            raise KillError("the next build gives other bytes")

    def _change_sources(self) -> None:
        (self._project.parent / "nonce").write_text(str(self.rng.random()))

    def _look_for_leftovers(self) -> None:
        done = self._command("clean", self._out, *self._engine) if self.clean else None
        if done is not None and done.code != 0:
            raise KillError(f"clean fails with {done.code}:\n{done.stderr}")
        until = time.monotonic() + 15
        while (left := self._left()) and time.monotonic() < until:
            time.sleep(0.5)  # a daemon removes some things in its own time
        if left:
            raise KillError("left after the next build and clean:\n" + "\n".join(left))

    def _left(self) -> list[str]:
        below = f"{self.ground.folder}/"
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        temporary = self.ground.folder / "tmp"
        return [
            *(f"container {identity}" for identity in self.ground.containers() - self._before),
            *(f"mount {line}" for line in mounts if below in line and "/merged " in line and self.ground.ours(line)),
            *(f"process {pid}" for pid in _steps()),
            *(f"file {path}" for path in temporary.iterdir() if not path.name.startswith("orchestrator-podman")),
            *(f"file {path}" for path in self._out.glob(".orchestrator-*") if self.clean or path.suffix != ".lock"),
            *(f"the secret in {path}" for path in self._changed() if SECRET in path.read_bytes()),
        ]

    def _changed(self) -> Iterator[Path]:
        """Files that are new or changed since the first build, except the secret's own."""
        for place in (self.ground.folder, Path("/var/tmp"), Path("/tmp"), Path("/run")):
            for folder, _folders, names in os.walk(place):
                for path in (Path(folder, name) for name in names):
                    with suppress(OSError):
                        status = path.lstat()
                        new = max(status.st_mtime, status.st_ctime) >= self._began
                        if new and path.is_file() and not path.is_symlink() and path.name != "canary.txt":
                            yield path

    @property
    def _engine(self) -> tuple[str, str]:
        return "--engine", self.ground.spec

    def _environment(self) -> dict[str, str]:
        return {**self.ground.environment, "TMPDIR": str(self.ground.folder / "tmp")}

    def _command(self, *arguments: str | Path) -> Run:
        return orchestrator(*arguments, env=self._environment(), timeout=TIMEOUT)

    @contextmanager
    def _started(self) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "orchestrator", "build", str(self._project), "-o", str(self._out)]
        with subprocess.Popen(
            [*command, *self._engine, "--progress", "plain"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self._environment()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as build:
            yield build


def _steps() -> list[int]:
    """The processes of build steps of ours."""
    return [pid for pid, command, _ in processes() if command[:2] == [b"sleep", MARK.encode()]]


def _wait_for_step(build: subprocess.Popen[str]) -> None:
    until = time.monotonic() + TIMEOUT
    while not _steps() and build.poll() is None and time.monotonic() < until:
        time.sleep(0.02)


@contextmanager
def opened(ground: Ground) -> Iterator[Ground]:
    """A ground whose engine runs."""
    (ground.folder / "tmp").mkdir(parents=True, exist_ok=True)
    ground.open()
    try:
        yield ground
    finally:
        ground.close()


def main(arguments: Sequence[str]) -> int:
    """`--kills N --seed S ENGINE…`: as many kills in all, shared among the engines."""
    parser = argparse.ArgumentParser(prog="make kill-test", description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=None)
    # Not `choices`: without an argument Python 3.11 takes the list of all of them for one that it doesn't have.
    parser.add_argument("engines", nargs="*", default=[*GROUNDS], metavar="|".join(GROUNDS))
    asked = parser.parse_args(arguments)
    if unknown := set(asked.engines) - set(GROUNDS):
        parser.error(f"unknown engines: {', '.join(sorted(unknown))}; known: {', '.join(GROUNDS)}")
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"SEED={seed}", flush=True)
    for index, name in enumerate(asked.engines):
        kills = asked.kills // len(asked.engines) + (index < asked.kills % len(asked.engines))
        folder = Path(tempfile.mkdtemp(prefix="kills-"))
        harness = Harness(GROUNDS[name](folder), random.Random(f"{seed} {name}"))
        try:
            with opened(harness.ground):
                harness.run(kills)
        except KillError as fault:
            print(f"FAULT on {name}, SEED={seed}: {fault}\n{folder} is kept", file=sys.stderr)
            return 1
        print(f"{name}: {kills} kills, nothing half, nothing left; {dict(harness.tally)}", flush=True)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if (mount := line.split(" ")[4]).startswith(f"{folder}/"):  # a store stays mounted on itself
                subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
