"""A probe asked in QEMU or in a rehearsal, run after run, until every question has an answer."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.nanos.machine import command, explain
from orchestrator.run.qemu.accelerator import choose
from orchestrator.run.qemu.machine import QemuMachine
from orchestrator.run.sandbox.rehearsal import RehearseOptions, rehearse
from tests.guest.answers import STOPS, Answer, read_log
from tests.guest.packing import Contents, pack

HERE = Path(__file__).parent
PROBES = {"probe": ("probe.c",), "probe2": tuple(f"probe2/{path.name}" for path in sorted(HERE.glob("probe2/*.c")))}
CPUS, MEMORY = 2, 1024
"""Of the machine and of the rehearsal; some answers tell them."""
HANGS = "hangs"
_RUNS = 100
_SWIFT = Path("/dev/shm")
"""The guest waits for the host's disk each time a file is closed (fsync); in memory that takes no time."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a program wrote (standard output and error, or the serial log), whether it ended well, and how it ended."""

    ok: bool
    text: str
    reason: str


Runner = Callable[[Path, Path], Ended]
"""Runs an image to its end, with a directory as /workspace."""


def in_qemu(accel: str, quiet: float) -> Runner:
    """The image in QEMU with the node's devices; one that writes nothing for `quiet` seconds counts as hanging."""

    def run(image: Path, workspace: Path) -> Ended:
        qemu = "qemu-system-x86_64"
        machine = QemuMachine(image=image, cpus=CPUS, memory=MEMORY, workspace=workspace)
        arguments = command(qemu, machine, choose(qemu, accel))
        log = bytearray()
        with subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as running:
            assert running.stdout is not None
            while select.select([running.stdout], [], [], quiet)[0]:
                data = os.read(running.stdout.fileno(), 65536)
                if not data:
                    break
                log += data
            else:
                running.kill()
                return Ended(ok=False, text=log.decode(errors="replace"), reason=HANGS)
        outcome = explain(running.returncode, 0)
        return Ended(ok=outcome.ok, text=log.decode(errors="replace"), reason=outcome.reason)

    return run


def in_rehearsal(timeout: float, engine: str = "none") -> Runner:
    """The image rehearsed."""

    def run(image: Path, workspace: Path) -> Ended:
        options = RehearseOptions(
            engine=engine, timeout=timeout, cpus=CPUS, memory=MEMORY, runtime="local", workspace=workspace
        )
        done = rehearse(image, options)
        text = b"\n".join(done.run.output.get(name, b"") for name in ("stdout", "stderr")).decode(errors="replace")
        return Ended(ok=done.ok, text=text, reason=done.run.reason)

    return run


def compile_probe(name: str, folder: Path) -> Path:
    """The probe's program."""
    program = folder / name
    sources = [str(HERE / source) for source in (*PROBES[name], "ask.c")]
    subprocess.run(["gcc", "-w", "-O1", "-o", str(program), *sources, "-pthread"], check=True)
    return program


def ask(program: Path, nanos: Path, run: Runner) -> dict[str, Answer]:
    """Every answer. After a question that ended the run, another one goes on behind it, in the same workspace."""
    answers: dict[str, Answer] = {}
    arguments: tuple[str, ...] = ()
    again: set[str] = set()
    with (
        tempfile.TemporaryDirectory(prefix="probe-") as folder,
        tempfile.TemporaryDirectory(prefix="guest-", dir=_SWIFT if _SWIFT.is_dir() else None) as workspace,
    ):
        image = Path(folder) / f"{program.name}.img"
        for _ in range(_RUNS):
            pack(nanos, Contents(program=program, name=program.name, arguments=arguments), image)
            ended = run(image, Path(workspace))
            log = read_log(ended.text)
            answers |= log.answers
            if log.ended:
                return answers
            if log.open is None:
                raise RuntimeError(f"{program.name} ended between two questions: {ended.reason}\n{ended.text[-2000:]}")
            if ended.reason == HANGS and log.open not in again:
                again.add(log.open)  # a busy host can look like that, and some hangs come by chance: the same once more
                arguments = ("-after", list(log.answers)[-1]) if log.answers else arguments
                continue
            answers[log.open] = Answer(outcome=STOPS, detail=ended.reason)
            arguments = ("-after", log.open)
    raise RuntimeError(f"{program.name} did not come to its end in {_RUNS} runs")


def refused(program: Path, nanos: Path, rehearsal: Runner, names: Iterable[str]) -> list[str]:
    """The questions whose rehearsal fails, each asked by itself: what stops the guest is told as an error, and Linux
    goes on."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        image = Path(folder) / f"{program.name}.img"
        for name in names:
            workspace = Path(folder) / name
            workspace.mkdir()
            pack(nanos, Contents(program=program, name=program.name, arguments=("-only", name)), image)
            if not rehearsal(image, workspace).ok:
                rows.append(name)
    return rows
