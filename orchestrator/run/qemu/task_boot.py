"""A boot with a task: files into the workspace, the node's stand-in where the program asks one, the result out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.files import make_directory
from orchestrator.run.node.files import prepare, read_result, read_task
from orchestrator.run.node.local_node import LocalNode
from orchestrator.run.node.task import WORKSPACE
from orchestrator.run.outcome import Outcome
from orchestrator.run.qemu.machine import Boot, QemuMachine
from orchestrator.run.qemu.vsock import can_serve, node_for_guest
from orchestrator.temporary import own_directory


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the program is given. `local`: tasks are files; else it asks a node. `task` None: there is none."""

    local: bool
    task: Path | None = None
    files: tuple[Path, ...] = ()


def boot_with_task(boot: Boot, machine: QemuMachine, work: Work, output: Callable[[bytes], None]) -> Outcome:
    """Boot; the outcome has no result without a task. A machine without a workspace gets a temporary one.

    Errors: UsageError for the task and its files; EngineError as of `boot`, and for a node's task where the host has
    no vhost-vsock (without a task such a program is booted without a node).
    """
    with ExitStack() as stack:
        temporary = stack.enter_context(own_directory("boot"))
        folder = machine.workspace or temporary / "workspace"
        make_directory(folder)
        task = read_task(work.task, work.files, WORKSPACE) if work.task is not None else None
        prepare(folder, task, work.files, local=work.local)
        node, vsock = LocalNode(task=task, workspace=folder), None
        if not work.local and (task is not None or can_serve()):
            vsock = stack.enter_context(node_for_guest(node))
        outcome = boot(replace(machine, workspace=folder, vsock=vsock), output)
        if task is None:
            return outcome
        return replace(outcome, result=read_result(folder) if work.local else node.outcome)
