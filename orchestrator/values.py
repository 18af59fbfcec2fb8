"""What a manifest may say and an image's root tuple may hold."""

from __future__ import annotations

Value = None | str | int | list["Value"] | dict[str, "Value"]
"""A value of a root tuple: text, integer, vector, tuple, or null ("present, null"). Bytes decode as UTF-8
with surrogateescape."""
