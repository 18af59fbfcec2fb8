"""What a run of an image showed, in the receipt beside it: the last boot as a pass or fail, the last rehearsal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from orchestrator.digest import file_blake3
from orchestrator.errors import UsageError
from orchestrator.files import write_text
from orchestrator.receipt.read import read_receipt, receipt_path
from orchestrator.receipt.receipt import RehearsalRecord, SmokeRecord, receipt_text
from orchestrator.run.outcome import Outcome


def record_boot(image: Path, verdict: Outcome) -> str:
    """Write it into the image's receipt, as `smoke`; why not, where there is no receipt of this very image, else ""."""
    seen = SmokeRecord.model_validate(_told(verdict, verdict.ok, verdict.reason) | {"accel": verdict.ran_on})
    return _record(image, seen)


def record_rehearsal(image: Path, ended: Outcome, failure: str | None) -> str:
    """The same of a rehearsal, as `rehearsal`. `failure`: why it counts as failed, None where it does not."""
    seen = RehearsalRecord.model_validate(
        _told(ended, failure is None, failure or ended.reason) | {"engine": ended.ran_on, "peak_memory": ended.peak}
    )
    return _record(image, seen)


def _told(ended: Outcome, passed: bool, reason: str) -> dict[str, object]:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"passed": passed, "reason": reason, "seconds": round(ended.seconds, 1), "at": at}


def _record(image: Path, seen: SmokeRecord | RehearsalRecord) -> str:
    path = receipt_path(image)
    try:
        receipt = read_receipt(image)
    except UsageError as error:
        return error.message
    if receipt is None:
        return f"there is no {path.name} beside the image"
    if file_blake3(image) != receipt.image.blake3:
        return f"{path.name} is of another image"
    key = "smoke" if isinstance(seen, SmokeRecord) else "rehearsal"
    write_text(path, receipt_text(receipt.model_copy(update={key: seen})))
    return ""
