"""What a build gives, whether it has just run or is known to have nothing to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.receipt.receipt import Receipt


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished build: where the image and its receipt are, and what the receipt says."""

    image: Path
    receipt: Path
    document: Receipt
