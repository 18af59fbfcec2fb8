"""What a kind of image answers that runs finished images; what it answers beside that is in `image_kind.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.events import Emit

if TYPE_CHECKING:
    from orchestrator.run.outcome import Outcome
    from orchestrator.run.qemu.machine import QemuMachine
    from orchestrator.run.sandbox.rehearsal import Rehearsal, RehearseOptions


class GuestRunner(Protocol):
    """Runs images of one kind."""

    def boot(self, machine: QemuMachine, output: Callable[[bytes], None]) -> Outcome:
        """In a machine, as `run.qemu.machine.Boot` says."""

    def judge(self, booted: Outcome) -> Outcome:
        """A boot as a pass (ok) or a fail for runners: whether the image started, whatever its program did."""

    def rehearse(self, image: Path, options: RehearseOptions, emit: Emit) -> Rehearsal:
        """Its program on this kernel, under the guest's limits. EngineError where no place can be had, UsageError for
        the rest."""
