"""A scheduler and workers as a user starts them; and within this process, with runners of the tests'."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.fleet.client import FleetClient
from orchestrator.fleet.credentials import Role, load_credentials, make_credentials
from orchestrator.fleet.messages import FleetState
from tests.support.cli import ROOT


@dataclass(frozen=True, kw_only=True)
class RunningFleet:
    """Processes of a fleet on this machine. `worker_log`: what its worker says."""

    address: str
    tls: Path
    store: Path
    worker_log: Path
    worker_address: str

    def client(self) -> FleetClient:
        """A client of it."""
        return FleetClient(self.address, load_credentials(Role.CLIENT, self.tls))

    def state(self) -> FleetState:
        """What `fleet status` shows."""
        with closing(self.client()) as client:
            return client.state()


@contextmanager
def command(*words: object, log: Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m orchestrator …` for as long as the context lasts. Its stdout can be read, `log` is its stderr."""
    with log.open("w") as sink:
        running = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *map(str, words)], stdout=subprocess.PIPE, stderr=sink, text=True,
            cwd=ROOT,
        )  # fmt: skip
        try:
            yield running
        finally:
            running.terminate()
            running.communicate(timeout=20)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFleet]:
    """A scheduler, and a worker without an engine."""
    folder = tmp_path_factory.mktemp("fleet")
    make_credentials(folder / "tls", ["127.0.0.1"])
    log = folder / "worker.log"
    with ExitStack() as stack:
        serve = ["fleet", "serve", "--host", "127.0.0.1", "--port", "0", "--tls", folder / "tls", "--store",
                 folder / "store", "--dashboard", "none"]  # fmt: skip
        scheduler = stack.enter_context(command(*serve, log=folder / "scheduler.log"))
        assert scheduler.stdout is not None
        address = scheduler.stdout.readline().strip()
        worker = ["fleet", "worker", address, "--tls", folder / "tls", "--host", "127.0.0.1", "--store",
                  folder / "work", "--name", "here", "--engine", "unix:///nowhere/engine.sock"]  # fmt: skip
        stack.enter_context(command(*worker, log=log))
        client = FleetClient(address, load_credentials(Role.CLIENT, folder / "tls"))
        stack.callback(client.close)
        deadline = time.monotonic() + 30
        while not (workers := client.state().workers) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield RunningFleet(address=address, tls=folder / "tls", store=folder / "store", worker_log=log,
                           worker_address=workers[0].address)  # fmt: skip
