"""A boot as a pass or fail for runners, and its record in the receipt beside the image."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.digest import file_blake3
from orchestrator.errors import UsageError
from orchestrator.files import write_text
from orchestrator.image.stub import MESSAGE, STUB_EXIT_STATUS
from orchestrator.receipt.document import SmokeRecord, receipt_text
from orchestrator.receipt.read import read_receipt, receipt_path
from orchestrator.run.qemu.machine import Booted


@dataclass(frozen=True, kw_only=True)
class Smoke:
    """Whether the image started, and why we think so."""

    passed: bool
    reason: str


def judge(booted: Booted) -> Smoke:
    """Passed: the program ended with 0; or the machine powered off after the kernel wrote something and no trouble of
    its own; or the stub kernel said its line, which proves the image's layout and nothing about the program."""
    if booted.status == STUB_EXIT_STATUS:
        if MESSAGE.encode() in booted.log:
            return Smoke(passed=True, reason="the stub kernel said its line; it is not Nanos, the program was not run")
        return Smoke(passed=False, reason="the stub kernel ended without its line")
    if booted.ok and booted.code is None and not booted.log.strip():
        return Smoke(passed=False, reason="powered off without a word on the serial port")
    return Smoke(passed=booted.ok, reason=booted.reason)


def record(image: Path, smoke: Smoke, booted: Booted) -> str:
    """Write it into the image's receipt, as `smoke`; why not, where there is no receipt of this very image, else ""."""
    path = receipt_path(image)
    try:
        receipt = read_receipt(image)
    except UsageError as error:
        return error.message
    if receipt is None:
        return f"there is no {path.name} beside the image"
    if file_blake3(image) != receipt.image.blake3:
        return f"{path.name} is of another image"
    seen = SmokeRecord.model_validate(
        {
            "passed": smoke.passed,
            "reason": smoke.reason,
            "accel": booted.accel,
            "seconds": round(booted.seconds, 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    write_text(path, receipt_text(receipt.model_copy(update={"smoke": seen})))
    return ""
