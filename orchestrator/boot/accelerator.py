"""KVM where it works, else QEMU's own emulation: found by a short start of QEMU, before anything is booted."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Final

from orchestrator import process
from orchestrator.errors import EngineError

KVM_BROKE: Final = b"KVM internal error"
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
        raise EngineError(f"KVM does not work here: {said}", remedy="give access to /dev/kvm, or use --accel tcg")
    return TCG


def failure(qemu: str, accelerator: Accelerator) -> str:
    """What went wrong when a machine ran the probe; "" when it did well."""
    log = bytearray()

    def watch(data: bytes) -> None:
        log.extend(data)
        if KVM_BROKE in log:
            raise _BrokeError

    with tempfile.NamedTemporaryFile(prefix="probe-", suffix=".img") as disk:
        disk.write(b"".join(bytes.fromhex(code) for code, _ in PROBE).ljust(510, b"\0") + b"\x55\xaa" + bytes(65024))
        disk.flush()
        arguments = [
            *(qemu, "-machine", "q35", "-accel", accelerator.name, "-cpu", accelerator.cpu, "-m", "64M"),
            *("-nodefaults", "-display", "none", "-no-reboot", "-device", "isa-debug-exit"),
            *("-drive", f"file={disk.name.replace(',', ',,')},format=raw,if=none,id=hd0,snapshot=on"),
            *("-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=hd0"),
        ]
        try:
            status = process.stream(arguments, timeout=_PROBE_SECONDS, output=watch)
        except _BrokeError:
            return "it starts a machine, and fails at an instruction that Nanos needs (KVM internal error)"
    if status == _PROBE_STATUS:
        return ""
    lines = log.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"a machine did not do its work within {_PROBE_SECONDS:g} s"


class _BrokeError(Exception):
    pass
