"""How large what lies beside an image may be."""

from __future__ import annotations

from typing import Final

LARGEST: Final = 64 * 1024 * 1024
