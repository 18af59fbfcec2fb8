"""Runs a workflow's programs one after the other, each rehearsed or booted, and tells what a node would record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.digest import file_blake3
from orchestrator.errors import UsageError
from orchestrator.events import Emit, ignore
from orchestrator.files import copy, make_directory, write_new
from orchestrator.inputs.access import Access
from orchestrator.inputs.download import fetch
from orchestrator.inputs.store import Store
from orchestrator.receipt.read import guest_limits, read_receipt, takes_task_files
from orchestrator.run.node.files import RESULT, TASK
from orchestrator.run.node.local_node import host_path, workspace_file
from orchestrator.run.node.task import WORKSPACE
from orchestrator.run.outcome import Outcome
from orchestrator.run.qemu.machine import Boot, QemuMachine
from orchestrator.run.qemu.task_boot import Work, boot_with_task
from orchestrator.run.sandbox.rehearsal import Rehearse, RehearseOptions
from orchestrator.run.workflow.workflow_file import OutsideFile, OutsideInput, ParentInput, WorkflowStep
from orchestrator.temporary import own_directory

_OURS = (TASK, RESULT)


@dataclass(frozen=True, kw_only=True)
class RecordedFile:
    """A file with its BLAKE3, hex."""

    path: str
    blake3: str
    size: int


Runner = Callable[[Path, Path, Path], Outcome]
"""(image, task.json, workspace) → how it ended; the files lie in the workspace already."""


def rehearse_runner(rehearse: Rehearse, options: RehearseOptions, emit: Emit = ignore) -> Runner:
    """Programs run as `rehearse` does."""

    def run(image: Path, task: Path, workspace: Path) -> Outcome:
        return rehearse(image, replace(options, task=task, workspace=workspace), emit).outcome

    return run


def boot_runner(boot: Boot, timeout: float) -> Runner:
    """Programs run as `boot` does, each in a machine of its own."""

    def run(image: Path, task: Path, workspace: Path) -> Outcome:
        receipt = read_receipt(image)
        memory, cpus = guest_limits(receipt)
        machine = QemuMachine(image=image, timeout=timeout, workspace=workspace, memory=memory, cpus=cpus)
        work = Work(local=takes_task_files(receipt), task=task)
        return boot_with_task(boot, machine, work, lambda _data: None)

    return run


@dataclass(frozen=True, kw_only=True)
class StepRun:
    """One program's run. `workspace` is the host's directory; `error` is why it has no result."""

    step: WorkflowStep
    image: Path
    inputs: tuple[RecordedFile, ...]
    outcome: Outcome
    files: tuple[RecordedFile, ...]
    workspace: Path
    error: str | None

    def to_dict(self, number: int) -> dict[str, Any]:
        """As the node would record it: a proof, and after it a verification of it."""
        result = self.outcome.result
        outcome = self.outcome.to_dict()
        return outcome | {
            "ok": self.error is None,
            "reason": self.error or outcome["reason"],
            "program": self.step.program,
            "image": str(self.image),
            "transaction": "proof" if number == 0 else "verification",
            "args": list(self.step.arguments),
            "inputs": [asdict(file) for file in self.inputs],
            "data": result.data.decode(errors="replace") if result else "",
            "files": [asdict(file) for file in self.files],
            "error": self.error,
        }


def find_images(steps: Sequence[WorkflowStep], named: Mapping[str, Path], folder: Path) -> tuple[Path, ...]:
    """Each step's image: by `given` (its `program` → image), else a path from the workflow's folder."""
    unknown = [name for name in named if name not in {step.program for step in steps}]
    if unknown:
        raise UsageError(f"the workflow has no program {unknown[0]}", remedy="write --program PROGRAM=IMAGE as there")
    images = []
    for step in steps:
        image = named.get(step.program, folder / step.program)
        if not image.is_file():
            what = f"there is no image {image}" if step.program in named else f"which image is program {step.program}?"
            raise UsageError(what, remedy=f"--program {step.program}=IMAGE")
        images.append(image)
    return tuple(images)


def run_workflow(
    steps: Sequence[WorkflowStep],
    images: Sequence[Path],
    folder: Path,
    runner: Runner,
    told: Callable[[StepRun], None] = lambda _done: None,
    out: Path | None = None,
) -> tuple[StepRun, ...]:
    """Run all, to the first that gives no result. `folder` is the workflow's; `out` keeps the workspaces."""
    for step in steps:  # what can be known to be wrong is said before anything runs
        _check_inputs(step, folder)
    done: list[StepRun] = []
    with own_directory("workflow") as temporary:
        for number, (step, image) in enumerate(zip(steps, images, strict=True)):
            workspace = (out or temporary) / f"{number + 1}-{image.stem}"
            if workspace.exists():
                raise UsageError(f"{workspace} already exists", remedy="use another -o, or remove it")
            make_directory(workspace)
            parent = done[-1] if done else None
            inputs = tuple(_put_input(step_input, workspace, folder, parent) for step_input in step.inputs)
            task = Path(temporary) / f"task-{number + 1}.json"
            document = {"id": f"task-{number + 1}", "args": step.arguments, "files": [file.path for file in inputs]}
            write_new(task, json.dumps(document).encode())
            done.append(_finish(step, image, inputs, runner(image, task, workspace), workspace))
            told(done[-1])
            if done[-1].error is not None:
                break
    return tuple(done)


def _finish(
    step: WorkflowStep, image: Path, inputs: tuple[RecordedFile, ...], outcome: Outcome, workspace: Path
) -> StepRun:
    result, error = outcome.result, outcome.program_failure
    # What the program said of its task explains more than how it then ended.
    if result is not None and result.error is not None:
        error = result.error if error is None else f"{result.error} ({error})"
    files = []
    for path in result.files if result is not None and error is None else ():
        real = workspace_file(workspace, WORKSPACE, path)
        if real is None:
            error = f"its result names {path}, which does not exist"
            break
        files.append(_record(path, real))
    return StepRun(
        step=step, image=image, inputs=inputs, outcome=outcome, files=tuple(files), workspace=workspace, error=error
    )


def _record(path: str, real: Path) -> RecordedFile:
    return RecordedFile(path=path, blake3=file_blake3(real), size=real.stat().st_size)


def _put_input(
    step_input: OutsideInput | ParentInput, workspace: Path, folder: Path, parent: StepRun | None
) -> RecordedFile:
    """Put one input into the workspace."""
    source: Path | None
    if isinstance(step_input, OutsideInput):
        source, path = _source(step_input.Input, folder), step_input.Input.vm_path
    else:
        path = step_input.Output.file_name
        has = {file.path for file in parent.files} if parent is not None else set()
        if parent is None or path not in has:
            raise UsageError(
                f"the previous program produced no file {path}",
                remedy=f"name one of its result's: {', '.join(sorted(has)) or 'it gave none'}",
            )
        source = workspace_file(parent.workspace, WORKSPACE, path)
    target = host_path(workspace, WORKSPACE, path)
    if target is None or source is None:
        raise UsageError(f"{path} cannot be put into {WORKSPACE}", remedy="give it another name")
    make_directory(target.parent)
    copy(source, target)
    return _record(path, target)


def _check_inputs(step: WorkflowStep, folder: Path) -> None:
    """UsageError for what is wrong with a step's inputs whatever the programs do."""
    seen = set()
    for step_input in step.inputs:
        path = step_input.Output.file_name if isinstance(step_input, ParentInput) else step_input.Input.vm_path
        target = host_path(Path("/"), WORKSPACE, path)
        outside = isinstance(step_input, OutsideInput)
        if target is None or (outside and not path.startswith("/")) or target.name in _OURS:
            remedy = f"give a vm_path below {WORKSPACE}" if outside else f"name a file of the result, below {WORKSPACE}"
            raise UsageError(f"{path}: a program's files lie in {WORKSPACE}", remedy=remedy)
        if target in seen:
            raise UsageError(f"{step.program}: two inputs are {path}", remedy="give each its own vm_path")
        seen.add(target)
        if (
            isinstance(step_input, OutsideInput)
            and step_input.Input.file_url is None
            and not (folder / step_input.Input.local_path).is_file()
        ):
            raise UsageError(
                f"there is no file {folder / step_input.Input.local_path}",
                remedy="paths are from the workflow's folder",
            )


def _source(file: OutsideFile, folder: Path) -> Path:
    if file.file_url is None:
        return folder / file.local_path
    if not re.fullmatch(r"[0-9a-f]{64}", file.local_path):
        raise UsageError(
            f"{file.local_path}: with file_url, local_path is the file's BLAKE3", remedy="`hash FILE` gives it"
        )
    entry = fetch(Access(store=Store()), file.file_url, title=file.vm_path)
    if (is_really := file_blake3(entry.path)) != file.local_path:
        raise UsageError(
            f"{file.file_url} has BLAKE3 {is_really}, not {file.local_path}", remedy="correct local_path or file_url"
        )
    return entry.path
