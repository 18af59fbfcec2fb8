"""Images of C programs, and the places where they are rehearsed."""

from tests.support.packed import packed, place

__all__ = ["packed", "place"]
