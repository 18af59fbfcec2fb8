from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.events import Event
from orchestrator.inputs.access import Access, FetchLimits
from orchestrator.inputs.store import Store
from tests.support.servers import FileServer, file_server

QUICK = FetchLimits(connect=2, stall=0.3, total=20, attempts=3, backoff=0.001, backoff_max=0.002)
"""Waits short enough for tests; the faults are real, the patience is small."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The servers are on this host; this host's proxies and ~/.netrc are not part of the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def access(store: Store, events: list[Event]) -> Access:
    return Access(store=store, emit=events.append, limits=QUICK)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def leftovers(store: Store) -> list[str]:
    """What the cache holds besides entries, names and locks."""
    return sorted(path.name for path in (store.root / "tmp").iterdir())
