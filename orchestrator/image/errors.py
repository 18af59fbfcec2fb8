"""The one error type of the image format."""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import VerificationError


class ImageError(VerificationError):
    """The bytes are not a Nanos image that this reader understands; `remedy` says what that usually means.

    `path`: the file, where the message names it.
    """

    def __init__(self, message: str, *, remedy: str = "", path: Path | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.path = path
