"""Fixtures for all tests. Engines start when the first test asks for one; unit tests need none."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from orchestrator.engine.base import Engine
from tests.support import engines

# A shell starts what runs in its background with SIGINT ignored, and so do some runners of CI: the tests of
# interrupts, and the programs that they interrupt, would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
