"""A boot as a pass or fail for runners, and its record in the receipt beside the image."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.digest import file_blake3
from orchestrator.errors import UsageError
from orchestrator.files import write_text
from orchestrator.image.stub import MESSAGE
from orchestrator.receipt.read import read_receipt, receipt_path
from orchestrator.receipt.receipt import SmokeRecord, receipt_text
from orchestrator.run.outcome import Outcome


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


def record(image: Path, verdict: Outcome) -> str:
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
            "passed": verdict.ok,
            "reason": verdict.reason,
            "accel": verdict.ran_on,
            "seconds": round(verdict.seconds, 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    write_text(path, receipt_text(receipt.model_copy(update={"smoke": seen})))
    return ""
