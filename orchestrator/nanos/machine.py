"""QEMU with the node's device set: found, started, watched, its end explained. The image is never written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestrator import process
from orchestrator.errors import EngineError, VerificationError
from orchestrator.image.reader import open_image
from orchestrator.run.outcome import End, Outcome
from orchestrator.run.qemu.accelerator import Accelerator, KvmBrokeError, choose, quoted, run
from orchestrator.run.qemu.machine import QemuMachine
from orchestrator.stub_kernel import MESSAGE, STUB_EXIT_STATUS

# What Nanos writes before it gives up; it then powers off with status 0 (its source; docs/guest.md).
_TROUBLE = (
    "unable to resolve program path",
    "couldn't find program interpreter",
    "program startup failed before exec",
    "klib automatic load failed",
    "missing dependencies for",
    "invalid mount point",
    "Process abort",
)
_KERNEL_CODES = {0x7D: "the kernel waits for gdb", 0x7E: "the kernel faulted", 0x7F: "the kernel halted"}


def check_bootable(image: Path) -> None:
    """VerificationError for a file that no BIOS starts: not an image, cut short, or without boot code."""
    with open_image(image) as opened:
        starts = opened.boot_sector
    if not starts:
        raise VerificationError(
            f"{image} has no boot code: a BIOS such as the node's finds nothing to start",
            remedy="take a Nanos release that has boot.img, and build again",
        )


def command(qemu: str, machine: QemuMachine, accel: Accelerator) -> list[str]:
    """QEMU's arguments. UsageError where a path can't be passed on."""
    arguments = [
        *(qemu, "-machine", "q35", "-accel", accel.name, "-cpu", accel.cpu, "-nodefaults", "-vga", "none"),
        *("-smp", str(machine.cpus), "-m", f"{machine.memory}M", "-nic", "none", "-no-reboot", "-display", "none"),
        *("-device", "virtio-scsi-pci,id=scsi0", "-device", "scsi-hd,bus=scsi0.0,drive=hd0"),
        # snapshot: the kernel writes its log and the file system's; that goes to a temporary file of QEMU's.
        *("-drive", f"file={quoted(machine.image)},format=raw,if=none,id=hd0,snapshot=on"),
        *("-device", "isa-debug-exit", "-device", "virtio-rng-pci", "-serial", "stdio"),
    ]
    if machine.workspace is not None:
        share = f"local,path={quoted(machine.workspace)},mount_tag=0,security_model=none,multidevs=remap,id=fs0"
        arguments += ["-virtfs", share]
    if machine.vsock is not None:
        arguments += ["-device", f"vhost-vsock-pci,guest-cid={machine.vsock}"]
    return arguments


def boot(machine: QemuMachine, output: Callable[[bytes], None]) -> Outcome:
    """Boot and wait; `output` gets the serial log as it comes. EngineError: no QEMU, or KVM asked for in vain.
    VerificationError: no image, or one without boot code."""
    qemu = process.which("qemu-system-x86_64")
    if qemu is None:
        raise EngineError("qemu-system-x86_64 is missing", remedy="apt-get install qemu-system-x86")
    check_bootable(machine.image)
    accel = choose(qemu, machine.accel)
    log = bytearray()

    def take(data: bytes) -> None:
        log.extend(data)
        output(data)

    started = time.monotonic()
    try:
        outcome = explain(run(accel, command(qemu, machine, accel), machine.timeout, take), machine.timeout)
    except KvmBrokeError:
        outcome = _failed("KVM gave up on the machine; try --accel tcg")
    trouble = next((line for line in _lines(log) if any(mark in line for mark in _TROUBLE)), None)
    if outcome.end == "powered-off" and trouble is not None:
        outcome = replace(outcome, ok=False, end="guest", reason=f"the kernel reported: {trouble}")
    # QEMU's own failures end with 1 too; doubt counts as failed.
    if outcome.status == 1 and b"qemu-system-x86_64: " in log:
        outcome = _failed("QEMU itself failed; its message is in the log", status=1)
    took = time.monotonic() - started
    return replace(outcome, seconds=took, ran_on=accel.name, output={"serial": bytes(log)})


def explain(status: int | None, timeout: float) -> Outcome:
    """How a machine ended, by QEMU's status (None: stopped at the time limit). Nanos tells its program's exit code
    only by debug_exit."""
    if status is None:
        reason = f"did not end within {timeout:g} s, and was stopped"
        return Outcome(ok=False, end="timeout", exit_code=None, reason=reason)
    if status < 0:
        return _failed(f"QEMU was ended by signal {-status}", status=status)
    if status == 0:
        reason = "powered off (without debug_exit in the manifest the program's exit code is not known)"
        return Outcome(ok=True, end="powered-off", exit_code=None, reason=reason, status=status)
    if status == STUB_EXIT_STATUS:
        reason = "the stub kernel ran: it is not Nanos, the program was not run"
        return Outcome(ok=False, end="stub", exit_code=None, reason=reason, status=status)
    code = 0 if status == 1 else status >> 1
    end: End = "guest" if code in _KERNEL_CODES else "exit"
    reason = _KERNEL_CODES.get(code, f"the program ended with {code}")
    return Outcome(ok=code == 0, end=end, exit_code=code, reason=reason, status=status)


def judge(booted: Outcome) -> Outcome:
    """Passed (ok): the program ended with 0; or the machine powered off after the kernel wrote something and no trouble
    of its own; or the stub kernel said its line, which proves the image's layout and nothing about the program."""
    if booted.end == "stub":
        if MESSAGE.encode() in booted.log:
            said = "the stub kernel said its line; it is not Nanos, the program was not run"
            return replace(booted, ok=True, reason=said)
        return replace(booted, reason="the stub kernel ended without its line")
    if booted.end == "powered-off" and not booted.log.strip():
        return replace(booted, ok=False, reason="powered off without a word on the serial port")
    return booted


def _failed(reason: str, status: int | None = None) -> Outcome:
    return Outcome(ok=False, end="emulator", exit_code=None, reason=reason, status=status)


def _lines(log: bytes | bytearray) -> list[str]:
    return [line.strip() for line in log.decode(errors="replace").splitlines()]
