"""What is booted, and what a kind of image answers that can boot it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.run.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class QemuMachine:
    """What to boot. `memory` is MiB, `timeout` seconds; `workspace` is shared as /workspace (9p
    tag 0); `vsock` is the guest's CID, None for no vsock device."""

    image: Path
    accel: str = "auto"
    cpus: int = 2
    memory: int = 512
    timeout: float = 120.0
    workspace: Path | None = None
    vsock: int | None = None


Boot = Callable[[QemuMachine, Callable[[bytes], None]], Outcome]
"""Boots and waits; is given what gets the serial log as it comes. EngineError: no QEMU, or KVM asked for in vain.
VerificationError: no image, or one that no machine starts."""
