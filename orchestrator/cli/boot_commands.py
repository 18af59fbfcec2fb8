"""boot: the image in QEMU, with the devices that a node gives it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from orchestrator.amounts import seconds
from orchestrator.cli.console import Relay, answer, answer_outcome, say
from orchestrator.cli.parameters import (
    DIRECTORY,
    cpus_option,
    existing_image,
    files_option,
    image_argument,
    json_failures,
    json_option,
    runtime_option,
    task_option,
    timeout_option,
)
from orchestrator.cli.results import answer_result
from orchestrator.errors import ProgramError


@click.command(short_help="Start the image in QEMU with the node's devices; show its serial log and exit code.")
@image_argument
@task_option
@files_option
@runtime_option
@click.option("--workspace", type=DIRECTORY, metavar="DIR", help="Share this as /workspace (default: a temporary one).")
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True,
              help="How to run the machine. auto: KVM if it works, else QEMU's emulation.")  # fmt: skip
@timeout_option
@click.option(
    "--memory",
    type=click.IntRange(min=16),
    metavar="MIB",
    help="Memory of the guest (default: the receipt's, else 512).",
)
@cpus_option
@click.option("--smoke", is_flag=True, help="Only test whether the image starts; record pass or fail in the receipt.")
@json_option
@json_failures
def boot(  # noqa: PLR0913 - one parameter an option
    *,
    image: Path,
    task: Path | None,
    files: tuple[Path, ...],
    runtime: str | None,
    workspace: Path | None,
    accel: str,
    timeout: float,
    memory: int | None,
    cpus: int | None,
    smoke: bool,
    as_json: bool,
) -> None:
    """Start the image in QEMU as a node does: no network, read-only disk, /workspace shared. Never writes the image.

    Exit 0: the program ended with 0, or the machine powered off (Nanos reports the exit code only with debug_exit in
    the manifest; the output says which). 7: it failed or timed out; 6: the image cannot boot; 3: QEMU is missing.
    """
    from orchestrator.kinds import kind_of_image
    from orchestrator.receipt.read import guest_limits, read_receipt, takes_task_files
    from orchestrator.run.qemu.machine import QemuMachine
    from orchestrator.run.qemu.task_boot import Work, boot_with_task
    from orchestrator.run.qemu.vsock import can_serve
    from orchestrator.run.recorded import record_boot

    receipt = read_receipt(existing_image(image))
    local = takes_task_files(receipt, runtime)
    if not local and not can_serve():
        say("this image gets its task from a node over vsock, and this machine has no vhost-vsock")
    limits = guest_limits(receipt, memory=memory, cpus=cpus)
    machine = QemuMachine(
        image=image, accel=accel, timeout=timeout, workspace=workspace, memory=limits.memory, cpus=limits.cpus
    )
    work = Work(local=local, task=task, files=files)
    kind = kind_of_image(image)
    with Relay() as relay:
        outcome = boot_with_task(kind.boot, machine, work, _ignore if as_json else partial(relay, "stdout"))
    recorded, result = "", outcome.result
    if smoke:
        # Whether it starts is all that is asked: what it answered to a task is shown, and doesn't count.
        outcome = replace(kind.judge(outcome), result=None)
        recorded = record_boot(image, outcome)
    if as_json:
        document = outcome.to_dict() | {
            "status": outcome.status, "accel": outcome.ran_on, "log": outcome.log.decode(errors="replace"),
            **({"result": result.to_dict()} if result is not None else {}),
            **({"recorded": not recorded} if smoke else {}),
        }  # fmt: skip
        answer_outcome(document, ok=outcome.failure is None)
        return
    say(f"{image}: {outcome.failure or outcome.reason} ({seconds(outcome.seconds)}, {outcome.ran_on})")
    if result is not None and result.error is None:
        answer_result(result, kept=workspace is not None)
    if smoke:
        answer("smoke test passed" if outcome.ok else "smoke test failed")
        say(f"not recorded: {recorded}" if recorded else "recorded in the receipt")
    if outcome.failure is not None:
        remedy = "see its serial log above; raise --timeout, or run `rehearse` to learn more"
        raise ProgramError(outcome.failure, remedy=remedy)


def _ignore(_data: bytes) -> None:
    pass


COMMANDS = (boot,)
