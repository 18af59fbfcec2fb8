"""The one error type of the image format."""

from __future__ import annotations

from orchestrator.errors import VerificationError


class ImageError(VerificationError):
    """The bytes are not a Nanos image that this reader understands; `remedy` says what that usually means."""
