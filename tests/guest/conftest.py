"""The places where programs are rehearsed."""

from tests.support.packed import rehearsal_engine

__all__ = ["rehearsal_engine"]
