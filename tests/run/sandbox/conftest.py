"""Images of C programs, and the places where they are rehearsed."""

from tests.support.packed import packed, rehearsal_engine

__all__ = ["packed", "rehearsal_engine"]
