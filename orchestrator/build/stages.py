"""What a build makes one after the other, by the names that `build --from` takes."""

from __future__ import annotations

from typing import Final

STAGES: Final = ("packages", "gevulot", "program")
"""Debian packages on the bases, the shim, and the program with its staged tree; each is made from those before it."""


def begins_by(begin: str, stage: str) -> bool:
    """Whether `stage` is made anew by a build that begins at stage `begin` ("" = takes all from the cache)."""
    return begin != "" and STAGES.index(stage) >= STAGES.index(begin)
