"""A boot as a pass or fail for runners, and its record in the receipt beside the image."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.digest import file_blake3
from orchestrator.files import write_text
from orchestrator.image.stub import MESSAGE, STUB_EXIT_STATUS
from orchestrator.receipt import receipt_text
from orchestrator.run.qemu.machine import Booted
from orchestrator.text import parse_json


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
    receipt = image.with_suffix(".receipt.json")
    try:
        document: Any = parse_json(receipt.read_bytes())
        digest = document["image"]["blake3"]
    except FileNotFoundError:
        return f"there is no {receipt.name} beside the image"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{receipt.name} can't be read"
    if file_blake3(image) != digest:
        return f"{receipt.name} is of another image"
    document["smoke"] = {
        "passed": smoke.passed,
        "reason": smoke.reason,
        "accel": booted.accel,
        "seconds": round(booted.seconds, 1),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(receipt, receipt_text(document))
    return ""
