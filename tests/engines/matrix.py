"""The matrix: `make test-engines`, or with `ONLY=podman-sid` a part of it. Not collected by `make test`: it takes long.

It needs root, mmdebstrap, a cgroup2 hierarchy and 10 GB of disk.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import record
from tests.engines.client import Client, make_users_cache
from tests.engines.daemons import ENGINES, UNIX, MatrixEngine, serve
from tests.engines.machines import Machine
from tests.engines.scenarios import SCENARIOS, Bench, NotHereError

FOLDER = Path(tempfile.gettempdir()) / f"mx{os.getpid()}"


@pytest.fixture(scope="session")
def digests() -> dict[str, str]:
    return record.digests()


@pytest.fixture(scope="session")
def users_cache() -> Iterator[Path]:
    """A cache of a user who isn't root, with the base in it."""
    FOLDER.mkdir(exist_ok=True)
    cache = make_users_cache(FOLDER / "cache")
    yield cache
    shutil.rmtree(cache)


@pytest.fixture(scope="module", params=ENGINES, ids=lambda engine: engine.id)
def bench(request: pytest.FixtureRequest, digests: dict[str, str]) -> Iterator[Bench]:
    engine: MatrixEngine = request.param
    # Short: sockets lie in it, and a rehearsal goes elsewhere than TMPDIR where their paths get too long.
    place = FOLDER / str(ENGINES.index(engine))
    folder = place / "s"
    (folder / "tmp").mkdir(parents=True)
    cache = request.getfixturevalue("users_cache") if engine.rootless else None
    try:
        with Machine(engine.release, place / "m", shared=folder if engine.way == UNIX else None) as machine:
            service = serve(engine, machine)
            client = Client(service=service, folder=folder, cache=cache)
            client.own(folder)
            yield Bench(client=client, digests=digests)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_engine(bench: Bench, scenario: str) -> None:
    try:
        with record.keeping(bench.client.service.engine.title, scenario):
            SCENARIOS[scenario](bench)
    except NotHereError as reason:
        pytest.skip(str(reason))
    record.keep_digests(bench.digests)
