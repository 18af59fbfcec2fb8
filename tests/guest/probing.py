"""A probe asked in QEMU or in a rehearsal, run after run, until every question has an answer."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.boot.machine import Machine
from orchestrator.boot.run import Work, boot_with_task
from orchestrator.rehearse.run import Options, rehearse
from tests.guest.answers import STOPS, Answer, read_log
from tests.guest.packing import Contents, pack

HERE = Path(__file__).parent
PROBES = {"probe": ("probe.c",), "probe2": tuple(f"probe2/{path.name}" for path in sorted(HERE.glob("probe2/*.c")))}
CPUS, MEMORY = 2, 1024
"""Of the machine and of the rehearsal; some answers tell them."""
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


def in_qemu(accel: str, timeout: float) -> Runner:
    """The image in QEMU with the node's devices."""

    def run(image: Path, workspace: Path) -> Ended:
        machine = Machine(
            image=image, accel=accel, cpus=CPUS, memory=MEMORY, timeout=timeout, workspace=workspace
        )
        booted, _ = boot_with_task(machine, Work(local=True), lambda _: None)
        return Ended(ok=booted.ok, text=booted.log.decode(errors="replace"), reason=booted.reason)

    return run


def in_rehearsal(timeout: float, engine: str = "none") -> Runner:
    """The image rehearsed."""

    def run(image: Path, workspace: Path) -> Ended:
        options = Options(
            engine=engine, timeout=timeout, cpus=CPUS, memory=MEMORY, runtime="local", workspace=workspace
        )
        done = rehearse(image, options)
        text = b"\n".join(done.run.output.get(name, b"") for name in ("stdout", "stderr")).decode(errors="replace")
        return Ended(ok=done.ok, text=text, reason=done.run.words(done.limits))

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
            answers[log.open] = Answer(outcome=STOPS, detail=ended.reason)
            arguments = ("-after", log.open)
    raise RuntimeError(f"{program.name} did not come to its end in {_RUNS} runs")
