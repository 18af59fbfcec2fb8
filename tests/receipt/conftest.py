"""What a build would know of a small image, as the tests of provenance have it."""

from __future__ import annotations

from tests.provenance.conftest import built, image

__all__ = ["built", "image"]
