"""Fixtures for all tests. Engines start when the first test asks for one; unit tests need none."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from orchestrator.engine.base import Engine
from tests.support import engines

# A shell starts what runs in its background with SIGINT ignored, and so do some runners of CI: the tests of
# interrupts, and the programs that they interrupt, would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# How long an example takes is the machine's affair: two workers and the engines' daemons share two cores.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of rehearsals, which need more of the machine than a newcomer may have."""
    for item in items:
        if "packed" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.sandbox)


class EngineScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Gives a worker of pytest-xdist all of Docker's tests, all that use the user's own private Podman, or a file's.

    Not by `xdist_group`: its marks change nothing under pytest 9.2 (pytest-xdist 3.8 writes to a name nobody reads).
    """

    def _split_scope(self, nodeid: str) -> str:
        # One worker has the Docker daemon: beside another's tests, those of interrupted builds saw images come and go.
        # Of Podman each worker has a store of its own (tests/support/engines.py), but not where `private` is asked for.
        path, _, rest = nodeid.partition("::")
        parameters = rest.partition("[")[2].rstrip("]").split("-")
        text = _text(Path(__file__).parent.parent / path)
        if "docker" in parameters or ("docker_engine" in text and "podman" not in parameters):
            return "docker"
        return "private" if '"private"' in text else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """How `make test` shares the tests out."""
    return EngineScheduling(config, log)


@functools.cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("docker", marks=pytest.mark.engine),
        pytest.param("podman", marks=pytest.mark.engine),
    ],
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine in turn: the same scenarios on Docker and on Podman. A missing one fails the test."""
    starting = engines.docker_engine() if request.param == "docker" else engines.podman_engine()
    with starting as started:
        yield started


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> str:
    """A local image with a static busybox, for FROM."""
    return engines.ensure_base(engine)
