"""Images of C programs."""

from tests.support.packed import packed

__all__ = ["packed"]
