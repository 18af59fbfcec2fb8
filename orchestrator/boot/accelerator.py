"""KVM where it works, else QEMU's own emulation: found by a short start of QEMU, before anything is booted."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Final

from orchestrator import process
from orchestrator.errors import EngineError

# The second for nested virtualisation: some outer hosts offer arch-capabilities and then refuse its register, and
# QEMU aborts (seen with QEMU 7.2 on a 6.18 kernel: MSR 0x10a).
_KVM_PROCESSORS: Final = ("max", "max,-arch-capabilities")
_QUIT: Final = b'{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n'
_PROBE_SECONDS: Final = 10.0


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
        said = _failure(qemu, cpu)
        if not said:
            return Accelerator(name="kvm", cpu=cpu)
    if asked == "kvm":
        raise EngineError(f"KVM does not work here: {said}", remedy="give access to /dev/kvm, or use --accel tcg")
    return TCG


def _failure(qemu: str, cpu: str) -> str:
    """What QEMU said when it could not start a virtual processor with KVM; "" when it could."""
    with tempfile.TemporaryFile() as commands:
        commands.write(_QUIT)
        commands.seek(0)
        arguments = [qemu, "-machine", "q35", "-accel", "kvm", "-cpu", cpu, "-m", "16M", "-nodefaults", "-S"]
        try:
            done = process.run(
                [*arguments, "-display", "none", "-qmp", "stdio"], stdin=commands, timeout=_PROBE_SECONDS
            )
        except TimeoutError:
            return "QEMU did not start within 10 s"
    return "" if done.status == 0 else done.tail(1) or f"QEMU ended with {done.status}"
