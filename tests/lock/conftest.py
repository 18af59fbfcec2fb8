from __future__ import annotations

from tests.inputs.conftest import no_proxy, server, store

__all__ = ["no_proxy", "server", "store"]
