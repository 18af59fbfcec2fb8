"""The places where programs are rehearsed."""

from tests.support.packed import place

__all__ = ["place"]
