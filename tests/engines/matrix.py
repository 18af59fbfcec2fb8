"""The matrix: `make test-engines`, or with `ONLY=podman-sid` a part of it. Not collected by `make test`: it takes long.

It needs root, mmdebstrap, a cgroup2 hierarchy and 10 GB of disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.inputs.store import Store
from tests.build.projects import BASE, cache_with_base
from tests.engines import record
from tests.engines.client import Client
from tests.engines.daemons import ENGINES, UNIX, MatrixEngine, serve
from tests.engines.machines import Machine
from tests.engines.scenarios import SCENARIOS, Bench, NotHereError
from tests.support.user import NOBODY

FOLDER = Path(tempfile.gettempdir()) / f"matrix-{os.getpid()}"


@pytest.fixture(scope="session")
def digests() -> dict[str, str]:
    return record.digests()


@pytest.fixture(scope="session")
def users_cache() -> Iterator[Path]:
    """A cache of a user who isn't root, with the base in it."""
    FOLDER.mkdir(exist_ok=True)
    cache = cache_with_base(FOLDER / "cache", BASE)
    # An import brings the entry, not what it was made for; of the names that lead nowhere no notice is taken.
    shutil.copytree(Store().root / "names", cache / "names", dirs_exist_ok=True)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(cache)], check=True)
    yield cache
    shutil.rmtree(cache)


@pytest.fixture(scope="module", params=ENGINES, ids=lambda engine: engine.id)
def bench(request: pytest.FixtureRequest, digests: dict[str, str]) -> Iterator[Bench]:
    engine: MatrixEngine = request.param
    folder = FOLDER / engine.id / "shared"
    (folder / "tmp").mkdir(parents=True)
    cache = request.getfixturevalue("users_cache") if engine.rootless else None
    try:
        with Machine(
            engine.release, FOLDER / engine.id / "m", shared=folder if engine.way == UNIX else None
        ) as machine:
            service = serve(engine, machine)
            client = Client(service=service, folder=folder, cache=cache)
            client.own(folder)
            yield Bench(client=client, digests=digests)
    finally:
        shutil.rmtree(FOLDER / engine.id, ignore_errors=True)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_engine(bench: Bench, scenario: str) -> None:
    title = bench.client.service.engine.title
    try:
        SCENARIOS[scenario](bench)
    except NotHereError as reason:
        record.write(title, scenario, record.Cell(outcome="refused", reason=str(reason)))
        pytest.skip(str(reason))
    except BaseException as fault:
        record.write(title, scenario, record.Cell(outcome="failed", reason=" ".join(f"{fault}".split())[:400]))
        raise
    record.write(title, scenario, record.Cell(outcome="ok"))
    record.keep_digests(bench.digests)
