"""Fixtures for all tests. Engines start when the first test asks for one; unit tests need none."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from orchestrator.engine.base import Engine
from tests.support import engines

# A shell starts what runs in its background with SIGINT ignored, and so do some runners of CI: the tests of
# interrupts, and the programs that they interrupt, would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# How long an example takes is the machine's affair: two workers and the engines' daemons share two cores.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which tests share a worker of pytest-xdist: those of an engine, else those of a file.

    First of all, as pytest-xdist reads the groups at this call too, and takes every test for one of its own after that.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
        if "packed" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.sandbox)


def _group(item: pytest.Item) -> str:
    # One worker has an engine: beside another's tests, those of interrupted builds saw images come and go. A test of
    # both is Docker's worker's, which has a Podman store of its own.
    callspec = getattr(item, "callspec", None)
    parameters = (
        {value for value in callspec.params.values() if isinstance(value, str)} if callspec is not None else set()
    )
    for engine in ("docker", "podman"):
        if engine in parameters:
            return engine
    text = _text(item.path)
    if "docker_engine" in text:
        return "docker"
    return "podman" if "podman" in text or '"private"' in text else str(item.path)


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
