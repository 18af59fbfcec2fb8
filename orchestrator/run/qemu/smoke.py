"""The record of a boot as a pass or fail, in the receipt beside the image."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from orchestrator.digest import file_blake3
from orchestrator.errors import UsageError
from orchestrator.files import write_text
from orchestrator.receipt.read import read_receipt, receipt_path
from orchestrator.receipt.receipt import SmokeRecord, receipt_text
from orchestrator.run.outcome import Outcome


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
