"""A fleet with its page (`fleet serve --web`), as processes, and one who asks."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from orchestrator.build.check import check_project
from orchestrator.events import ignore
from orchestrator.fleet.client import FleetClient
from orchestrator.fleet.credentials import Role, load_credentials, make_credentials
from orchestrator.fleet.messages import JobEnded, JobOrder
from orchestrator.fleet.packed_project import pack_project
from tests.build.projects import write_project
from tests.fleet.conftest import command
from tests.support.cli import ROOT

TOKEN = "a-token-of-the-tests"


@dataclass(kw_only=True)
class WatchedFleet:
    """`folder` has its certificates (`tls`) and its store. `web`: where its page is asked for."""

    folder: Path
    web: str
    address: str = ""
    url: str = ""
    scheduler: subprocess.Popen[str] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def serve(self) -> None:
        """Begin its scheduler, at the same ports as before."""
        port = self.address.rpartition(":")[2] or "0"
        (self.folder / "token").write_text(TOKEN)
        options = ["--host", "127.0.0.1", "--port", port, "--tls", self.folder / "tls", "--dashboard", "none",
                   "--store", self.folder / "store", "--web", self.web,
                   "--token-file", self.folder / "token"]  # fmt: skip
        log = self.folder / "scheduler.log"
        self.scheduler = self._stack.enter_context(command("fleet", "serve", *options, log=log))
        assert self.scheduler.stdout is not None
        self.address = self.scheduler.stdout.readline().strip()
        self.url = self.scheduler.stdout.readline().strip()
        assert self.url, log.read_text()
        self.web = f"{self.web.rpartition(':')[0]}:{self.url.rstrip('/').rpartition(':')[2]}"

    def worker(self, name: str, *labels: str) -> subprocess.Popen[bytes]:
        """A worker whose builds speak and wait."""
        running = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet.speaking_worker", self.address, str(self.folder), name, *labels],
            cwd=ROOT,
        )

        def end() -> None:
            running.kill()
            running.wait()

        self._stack.callback(end)
        return running

    def let(self, project: str, failure: str = "") -> None:
        """Builds of it end: as they should, or with a failure."""
        part = self.folder / f"part-{project}"
        part.write_text(failure)
        part.rename(self.folder / f"go-{project}")

    @contextmanager
    def ordered(self, *projects: str) -> Iterator[list[Future[JobEnded]]]:
        """One who orders these, and waits."""
        with (
            closing(FleetClient(self.address, load_credentials(Role.CLIENT, self.folder / "tls"))) as client,
            ThreadPoolExecutor(len(projects)) as pool,
        ):
            try:
                yield [pool.submit(client.order, self._lent(client, name), lambda _line: None) for name in projects]
            finally:
                client.stop()

    def _lent(self, client: FleetClient, name: str) -> JobOrder:
        packed = pack_project(check_project(write_project(self.folder / "sent" / name, name=name)),
                              self.folder / f"{name}.tar", ignore)  # fmt: skip
        client.lend(packed.path, packed.sha256, packed.size)
        return JobOrder(name=name, context=packed.sha256, project=packed.project, program="0" * 64)

    def browser(self, *, token: bool = True) -> httpx.Client:
        """One who asks for the page, with the token or without, and believes the fleet's authority."""
        headers = {"Authorization": f"Bearer {TOKEN}"} if token else {}
        trusted = ssl.create_default_context(cafile=str(self.folder / "tls" / "ca.pem"))
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=20, verify=trusted)


@contextmanager
def watched_fleet(folder: Path, web: str) -> Iterator[WatchedFleet]:
    """One without workers, for as long as the context lasts."""
    make_credentials(folder / "tls", ["127.0.0.1", "127.0.0.2"])
    fleet = WatchedFleet(folder=folder, web=web)
    with fleet._stack:
        fleet.serve()
        yield fleet
