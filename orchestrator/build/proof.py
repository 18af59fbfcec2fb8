"""By what a finished image is known again, without reading it: what was written beside it, and the stamps of all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Self

from orchestrator.build.result import Result
from orchestrator.build.stamps import stamp
from orchestrator.documents import Document
from orchestrator.receipt.read import read_receipt, receipt_path
from orchestrator.receipt.receipt import SEEN_LATER, Receipt, receipt_document


class Proof(Document):
    """How a finished image and what lies beside it looked when they had been written."""

    image: str
    results: dict[str, str]
    """The image and what lies beside it: the stamp of each, by name."""
    receipt: str
    """Digest of what the receipt says, but for what runs of the image add."""

    @classmethod
    def of(cls, result: Result) -> Self:
        """Of what a build has just written. OSError where something of it is missing."""
        return cls(image=os.path.realpath(result.image), results=stamps_of(result), receipt=digest_of(result.document))

    def check(self) -> Receipt | None:
        """The image's receipt where all is as it was, else None. OSError and UsageError for what can't be read."""
        image = Path(self.image)
        document = read_receipt(image)
        if document is None or digest_of(document) != self.receipt:
            return None
        now = stamps_of(Result(image=image, receipt=receipt_path(image), document=document))
        return document if now == self.results else None


def stamps_of(result: Result) -> dict[str, str]:
    """The stamps of what a build wrote, by name."""
    return {path.name: stamp(path.lstat()) for path in files_of(result)}


def files_of(result: Result) -> list[Path]:
    """The image and what lies beside it, but for the receipt."""
    return [result.image, *(result.image.parent / attachment.file for attachment in result.document.attachments)]


def digest_of(receipt: Receipt) -> str:
    """Of what a receipt says, but for what runs of the image add."""
    document = {key: value for key, value in receipt_document(receipt).items() if key not in SEEN_LATER}
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()
