"""The errors of the image format: one type, and what it is in particular."""

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


class ShortFileError(ImageError):
    """A file that goes into an image has fewer bytes than it had."""


class ChangedFileError(ImageError):
    """A file that goes into an image is not, or did not stay, what it should be; `file` is its path there."""

    def __init__(self, file: str) -> None:
        super().__init__(
            f"{file} changed while it was written to the image", remedy="write it again when it is at rest"
        )
        self.file = file
