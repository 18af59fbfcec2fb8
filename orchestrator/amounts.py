"""Numbers of bytes and seconds, for people."""

from __future__ import annotations

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(number: float) -> str:
    """A byte count: `13.2 MiB`."""
    unit = 0
    while number >= 1024 and unit < len(UNITS) - 1:
        number /= 1024
        unit += 1
    return f"{number:.0f} B" if unit == 0 else f"{number:.1f} {UNITS[unit]}"


def seconds(number: float) -> str:
    """A duration: `0.4s`, `12.0s`, `3m07s`."""
    return f"{number:.1f}s" if number < 60 else f"{int(number) // 60}m{int(number) % 60:02d}s"
