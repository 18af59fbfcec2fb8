"""What a command takes: seconds, the memory of all its processes together, what they and an engine write."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

MIB = 1024 * 1024
MEMORY_LIMIT = 200
"""MiB that a build may take, whatever the size of its image."""
_INTERVAL = 0.08


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Seconds; the rest in MiB: `memory` of the command's processes at their most, shared pages counted once; what
    these wrote, what an engine's processes wrote meanwhile, what the whole machine wrote to its disks."""

    seconds: float = 0.0
    memory: float = 0.0
    written: float = 0.0
    engine: float = 0.0
    disks: float = 0.0

    def and_then(self, other: Usage) -> Usage:
        """Of two commands, one after the other."""
        return Usage(
            seconds=self.seconds + other.seconds,
            memory=max(self.memory, other.memory),
            written=self.written + other.written,
            engine=self.engine + other.engine,
            disks=self.disks + other.disks,
        )

    def row(self) -> dict[str, float]:
        """For a JSON file."""
        return {name: round(value, 3) for name, value in vars(self).items()}


@dataclass(kw_only=True)
class Samples:
    """Usages by case and way, one a repetition."""

    rows: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)

    def add(self, case: str, way: str, usage: Usage, **more: float) -> None:
        """One repetition more; `more` are other figures of it."""
        self.rows.setdefault(case, {}).setdefault(way, []).append({**usage.row(), **more})


class MeasuredCommandError(SystemExit):
    """A command that failed: a measurement of it means nothing."""


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Runs commands in `folder`. `engine`: the process of an engine's daemon, 0 where it isn't known."""

    folder: Path
    engine: int = 0

    def run(self, command: Sequence[str], variables: Mapping[str, str] | None = None) -> tuple[Usage, str]:
        """What it took, and its output. MeasuredCommandError where it fails."""
        before, began = disk_bytes(), time.monotonic()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                list(command),
                cwd=self.folder,
                env={**os.environ, **(variables or {})},
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
            )
            with _Sampler(process.pid, self.engine) as sampler:
                _, code, used = os.wait4(process.pid, 0)
                seconds = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(code)
            out.seek(0)
            err.seek(0)
            if process.returncode:
                said = err.read().decode(errors="replace")[-2000:]
                raise MeasuredCommandError(f"{' '.join(command)} ended with {process.returncode}: {said}")
            usage = Usage(
                seconds=seconds,
                memory=sampler.memory / 1024,
                # What it wrote after the last look is not in the samples; the kernel's own count, in blocks, has it.
                written=max(sampler.written, used.ru_oublock * 512) / MIB,
                engine=sampler.engine_written / MIB,
                disks=(disk_bytes() - before) / MIB,
            )
            return usage, out.read().decode(errors="replace")

    def copy(self, source: Path, target: Path) -> Usage:
        """The limit: `cp`, to the disk."""
        usage, _ = self.run(["cp", "--sparse=auto", str(source), str(target)])
        return usage.and_then(self.settle(target))

    def settle(self, path: Path) -> Usage:
        """Wait until a file lies on the disk, as ours does when it is named."""
        began = time.monotonic()
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        return Usage(seconds=time.monotonic() - began)


class _Sampler:
    """Looks at a command's processes, and at an engine's, until it is left."""

    def __init__(self, pid: int, engine: int) -> None:
        self._pid, self._engine = pid, engine
        self.memory = 0
        self._written: dict[int, int] = {}
        (tree,) = _trees(engine)
        self._before = {pid: _written_by(pid) for pid in tree}
        self._engine_written = dict(self._before)
        self._ended = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    @property
    def written(self) -> int:
        return sum(self._written.values())

    @property
    def engine_written(self) -> int:
        return sum(self._engine_written.values()) - sum(self._before.values())

    def _run(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        own, engine = _trees(self._pid, self._engine)
        # The first process's own count has peaks between two looks. What wait4 knows is no use: it begins with ours.
        self.memory = max(self.memory, sum(_memory_of(pid, "Pss") for pid in own), _memory_of(self._pid, "VmHWM"))
        for tree, written in ((own, self._written), (engine, self._engine_written)):
            for pid in tree:
                written[pid] = max(written.get(pid, 0), _written_by(pid))


def _trees(*tops: int) -> list[list[int]]:
    """Of processes, each with all below it. Not every kernel lists a process's children: all are looked at."""
    below: dict[int, list[int]] = {}
    for name in (path.name for path in Path("/proc").iterdir()):
        if name.isdigit():
            with suppress(OSError, ValueError):
                below.setdefault(_parent(name), []).append(int(name))
    trees = []
    for top in tops:
        tree = [top] if top else []
        for pid in tree:  # it grows meanwhile
            tree += below.get(pid, [])
        trees.append(tree)
    return trees


def _parent(pid: str) -> int:
    # The name before it, in parentheses, may hold anything.
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _memory_of(pid: int, what: str) -> int:
    """KiB: `Pss`, where a page of several processes counts in parts, or `VmHWM`, the most so far."""
    path = Path(f"/proc/{pid}/{'smaps_rollup' if what == 'Pss' else 'status'}")
    with suppress(OSError, StopIteration, ValueError):
        return int(next(line for line in path.read_text().splitlines() if line.startswith(f"{what}:")).split()[1])
    return 0


def _written_by(pid: int) -> int:
    with suppress(OSError, StopIteration, ValueError):
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("write_bytes:")).split()[1])
    return 0


def disk_bytes() -> int:
    """Bytes that this machine has written to its disks since it started: of whole disks, by /proc/diskstats."""
    disks = {
        path.name for path in Path("/sys/block").iterdir() if not path.name.startswith(("loop", "ram", "zram", "dm-"))
    }
    rows = [line.split() for line in Path("/proc/diskstats").read_text().splitlines()]
    return sum(int(row[9]) * 512 for row in rows if row[2] in disks)


def storage_mib(folder: Path | None) -> float:
    """What lies in an engine's storage, in MiB of its disk; 0 where that isn't known."""
    if folder is None:
        return 0.0
    # Layers come and go meanwhile: what du says of those that it misses is not of interest.
    done = subprocess.run(["du", "-skx", str(folder)], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) / 1024 if done.stdout else 0.0


def middle(rows: Sequence[Mapping[str, Any]], what: str = "seconds") -> float:
    """The median of one figure."""
    return statistics.median([float(row.get(what, 0.0)) for row in rows])
