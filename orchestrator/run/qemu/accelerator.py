"""KVM where it works, else QEMU's own emulation: found by a short start of QEMU, before anything is booted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from orchestrator import process
from orchestrator.errors import EngineError, UsageError

_KVM_BROKE: Final = b"KVM internal error"
"""What QEMU prints when KVM gave up on the guest; it then stands still for ever."""
# The second for nested virtualisation: some outer hosts offer arch-capabilities and then refuse its register, and
# QEMU aborts (seen with QEMU 7.2 on a 6.18 kernel: MSR 0x10a).
_KVM_PROCESSORS: Final = ("max", "max,-arch-capabilities")
_PROBE_SECONDS: Final = 10.0
_PROBE_STATUS: Final = 0x2A << 1 | 1  # isa-debug-exit's way of passing on a byte
PROBE: Final = (
    ("0f20e0", "mov eax, cr4"),
    ("660d00000400", "or eax, 0x40000"),
    ("0f22e0", "mov cr4, eax"),
    ("6631c9", "xor ecx, ecx"),
    ("0f01d0", "xgetbv"),
    ("ba0105", "mov dx, 0x501"),
    ("b02a", "mov al, 0x2a"),
    ("ee", "out dx, al"),
    ("f4", "hlt"),
)
"""A boot sector that does what kernels do first, and ends QEMU. Some nested KVMs start a machine and then can't do
xgetbv, which Nanos needs (seen here); that /dev/kvm is there, or makes a machine, says nothing of it."""


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """QEMU's -accel and -cpu."""

    name: str
    cpu: str


TCG: Final = Accelerator(name="tcg", cpu="max")


@cache  # the machine stays the same, and a KVM that doesn't work takes seconds to show it
def choose(qemu: str, asked: str = "auto") -> Accelerator:
    """The accelerator to use: `asked` is auto, kvm or tcg. EngineError, with QEMU's words, for a kvm that fails."""
    if asked == "tcg":
        return TCG
    said = ""
    for cpu in _KVM_PROCESSORS:
        accelerator = Accelerator(name="kvm", cpu=cpu)
        said = failure(qemu, accelerator)
        if not said:
            return accelerator
    if asked == "kvm":
        raise EngineError(f"KVM does not work here: {said}", remedy="allow access to /dev/kvm, or use --accel tcg")
    return TCG


def failure(qemu: str, accelerator: Accelerator) -> str:
    """What went wrong when a machine ran the probe; "" when it did well."""
    log = bytearray()
    with tempfile.NamedTemporaryFile(prefix="probe-", suffix=".img") as disk:
        disk.write(b"".join(bytes.fromhex(code) for code, _ in PROBE).ljust(510, b"\0") + b"\x55\xaa" + bytes(65024))
        disk.flush()
        arguments = [
            *(qemu, "-machine", "q35", "-accel", accelerator.name, "-cpu", accelerator.cpu, "-m", "64M"),
            *("-nodefaults", "-display", "none", "-no-reboot", "-device", "isa-debug-exit"),
            *("-drive", f"file={quoted(Path(disk.name))},format=raw,if=none,id=hd0,snapshot=on"),
            *("-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=hd0"),
        ]
        try:
            status = run(accelerator, arguments, _PROBE_SECONDS, log.extend)
        except KvmBrokeError:
            return "a test machine starts, but fails at an instruction that Nanos needs (KVM internal error)"
    if status == _PROBE_STATUS:
        return ""
    lines = log.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"a test machine did not finish within {_PROBE_SECONDS:g} s"


class KvmBrokeError(Exception):
    """KVM gave up on a guest."""


def run(
    accelerator: Accelerator, arguments: Sequence[str], timeout: float, output: Callable[[bytes], None]
) -> int | None:
    """QEMU to its end: `process.stream`, but KvmBrokeError at once where it would stand still until the time is up."""
    tail = b""

    def take(data: bytes) -> None:
        nonlocal tail
        output(data)
        tail = tail[-len(_KVM_BROKE) :] + data
        if accelerator.name == "kvm" and _KVM_BROKE in tail:
            raise KvmBrokeError

    return process.stream(arguments, timeout=timeout, output=take)


def quoted(path: Path) -> str:
    """A path inside one of QEMU's options. UsageError where it can't be passed on."""
    absolute = str(path.resolve())
    if "\n" in absolute:
        raise UsageError(f"{path!r}: QEMU takes no line break in a path", remedy="rename it")
    return absolute.replace(",", ",,")
