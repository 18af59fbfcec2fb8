"""my-prover -> my-verifier, each with its task, in QEMU or rehearsed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.nanos.machine import boot
from orchestrator.run.node.task import ProgramResult
from orchestrator.run.qemu.machine import QemuMachine
from orchestrator.run.qemu.task_boot import Work, boot_with_task
from orchestrator.run.sandbox.rehearsal import RehearseOptions, rehearse

_TIMEOUT = 900.0


@dataclass(frozen=True, kw_only=True)
class Way:
    """How images are run; `accel` None rehearses them."""

    accel: str | None
    engine: str = "none"


def prove_and_verify(images: tuple[Path, Path], folder: Path, way: Way) -> str:
    """What the verifier says of the prover's proof, or which of the two failed and how."""
    made = folder / "prover"
    error, _ = _run(images[0], {"id": "prove", "args": ["--preimage", "12345"], "files": []}, (), made, way)
    if error:
        return f"my-prover: {error}"
    files = (made / "proof.bin", made / "public.txt")
    task = {"id": "verify", "args": [], "files": [file.name for file in files]}
    error, result = _run(images[1], task, files, folder / "verifier", way)
    return (
        f"my-verifier: {error}" if error or result is None else f"my-verifier: {result.data.decode(errors='replace')}"
    )


def _run(
    image: Path, task: Mapping[str, object], files: Sequence[Path], workspace: Path, way: Way
) -> tuple[str | None, ProgramResult | None]:
    workspace.mkdir(parents=True)
    asked = workspace.with_suffix(".json")
    asked.write_text(json.dumps(task))
    if way.accel is not None:
        machine = QemuMachine(image=image, accel=way.accel, timeout=_TIMEOUT, workspace=workspace)
        outcome = boot_with_task(boot, machine, Work(local=True, task=asked, files=tuple(files)), lambda _: None)
    else:
        options = RehearseOptions(
            engine=way.engine, timeout=_TIMEOUT, runtime="local", task=asked, files=tuple(files), workspace=workspace
        )
        outcome = rehearse(image, options).run
    result = outcome.result
    if not outcome.ok:
        return outcome.reason, None
    if result is None or result.error is not None:
        return (result.error if result else None) or "no result", None
    return None, result
