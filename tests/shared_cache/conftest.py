"""Shared caches of each sort, and machines that use one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from orchestrator.events import Event, Notice
from orchestrator.inputs.access import Access
from orchestrator.inputs.store import Store
from orchestrator.shared_cache.backend import CacheBackend
from orchestrator.shared_cache.entries import SharedInputs
from orchestrator.shared_cache.places import open_backend
from orchestrator.shared_cache.shared_cache import Patience, SharedCache
from tests.inputs.conftest import QUICK, no_proxy, server
from tests.support.registry import registry

__all__ = ["no_proxy", "server"]


@pytest.fixture(scope="session")
def registry_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry that wants a login; the login is in the environment."""
    folder = tmp_path_factory.mktemp("registry")
    with registry(folder) as running, pytest.MonkeyPatch.context() as patched:
        patched.setenv("REGISTRY_AUTH_FILE", str(running.auth_file(folder / "auth.json")))
        yield running.host


@pytest.fixture(params=["directory", "memory", "registry"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty shared cache of each sort."""
    if request.param == "directory":
        return str(tmp_path / "shared")
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return "memory://builds/cache"
    return f"oci://{request.getfixturevalue('registry_host')}/caches/{tmp_path.name.replace('_', '-').strip('-')}"


@pytest.fixture
def backend(address: str) -> Iterator[CacheBackend]:
    opened = open_backend(address, writable=True)
    yield opened
    opened.close()


class Machine:
    """One machine of several: its own input cache, what it was told, and its use of the shared cache."""

    def __init__(self, root: Path, backend: CacheBackend, *, writable: bool, limit: int, seconds: float) -> None:
        self.events: list[Event] = []
        self.shared = SharedCache(
            backend, writable=writable, emit=self.events.append, patience=Patience(seconds=seconds, least=1)
        )
        self.store = Store(root, self.events.append, shared=SharedInputs(self.shared, limit=limit))
        self.access = Access(store=self.store, emit=self.events.append, limits=QUICK)

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice) and event.level == "warning"]


MakeMachine = Callable[..., Machine]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[MakeMachine]:
    """Makes machines, each with an input cache that holds nothing."""
    made: list[Machine] = []

    def make(backend: CacheBackend, *, writable: bool = False, limit: int = 2**30, seconds: float = 20.0) -> Machine:
        root = tmp_path / f"machine-{len(made)}"
        made.append(Machine(root, backend, writable=writable, limit=limit, seconds=seconds))
        return made[-1]

    yield make
    for one in made:
        one.shared.close()
