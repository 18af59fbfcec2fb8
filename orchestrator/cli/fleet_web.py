"""`fleet serve --web`: the page of `report`, live, with what the fleet of this scheduler does."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator.cli.report_command import page_library, require_web
from orchestrator.errors import UsageError
from orchestrator.files import create, make_directory

if TYPE_CHECKING:
    from orchestrator.fleet.credentials import Credentials
    from orchestrator.fleet.messages import FleetState
    from orchestrator.fleet.scheduler import FleetScheduler
    from orchestrator.web.job_board import JobBoard
    from orchestrator.web.serve import WebCertificate

DEFAULT: Final = "127.0.0.1:8788"
_TOKEN: Final = "web.token"
_PATIENCE: Final = 2.0
_WAITING, _NAMES = 50, 50


@dataclass(frozen=True, kw_only=True)
class FleetWebOptions:
    """What `--web` and its kin say; `store` is the scheduler's directory, `hosts` are further names of this server."""

    address: str
    store: Path
    receipts: Path | None
    token_file: Path | None
    hosts: Sequence[str]
    credentials: Credentials


@dataclass(kw_only=True)
class FleetPage:
    """A page that is served: what a scheduler must be given, and what its user is told."""

    board: JobBoard
    receipts: Path
    url: str
    token: str
    token_file: Path
    fingerprint: str
    """Of the certificate, SHA-256 in hexadecimal; "" where there is no TLS."""
    _scheduler: tuple[FleetScheduler, asyncio.AbstractEventLoop] | None = field(default=None, init=False)

    def show(self, scheduler: FleetScheduler) -> None:
        """Show this scheduler's state from now on. Called in its event loop."""
        self._scheduler = (scheduler, asyncio.get_running_loop())

    @property
    def lines(self) -> list[str]:
        """Where it is. The token itself is for a terminal alone: everything else is a log."""
        shown = f"{self.url}#{self.token}" if sys.stderr.isatty() else f"{self.url} (its token is in {self.token_file})"
        lines = [f"page:      {shown}"]
        return [*lines, f"           its certificate: SHA-256 {self.fingerprint}"] if self.fingerprint else lines

    def state(self) -> dict[str, Any] | None:
        """The fleet's, for fleet.js; None while there is none, or it has no time to answer. Not in its event loop."""
        if self._scheduler is None:
            return None
        scheduler, loop = self._scheduler

        async def ask() -> FleetState:
            return scheduler.fleet_state()

        with suppress(TimeoutError, RuntimeError):  # busy, or ended
            return _shown(asyncio.run_coroutine_threadsafe(ask(), loop).result(timeout=_PATIENCE))
        return None


@contextmanager
def fleet_page(options: FleetWebOptions) -> Iterator[FleetPage]:
    """Serve the page for as long as the context lasts. UsageError for an address or a token that are none."""
    require_web("--web")
    from orchestrator.web.access import WebAccess, lasting_session
    from orchestrator.web.application import WebSettings, make_application
    from orchestrator.web.fleet_news import FleetNews
    from orchestrator.web.job_board import JobBoard
    from orchestrator.web.serve import allowed_hosts, bind, read_token, serving

    host, port = _address(options.address)
    token_file = _token_file(options)
    token, receipts = read_token(token_file), options.receipts or options.store / "receipts"
    certificate, names, fingerprint = _certificate(options.credentials, host)
    with closing(bind(host, port, "give another address to --web")) as listening:
        port = listening.getsockname()[1]
        cookie = f"fleet-{port}"
        access = WebAccess(
            token=token, hosts=allowed_hosts(host, port, [*names, *options.hosts]), name=cookie,
            session=lasting_session(token, cookie), tls=certificate is not None,
        )  # fmt: skip
        shown = f"{'http' if certificate is None else 'https'}://{_shown_host(host, names)}:{port}/"
        page = FleetPage(board=JobBoard(), receipts=receipts, url=shown, token=token, token_file=token_file,
                         fingerprint=fingerprint)  # fmt: skip
        make_directory(receipts, 0o700)
        settings = WebSettings(
            places=[receipts], follow=page.board.follow, library=page_library(no_charts=False), access=access,
            fleet=FleetNews(page.state), hint="It is in the file that the fleet's scheduler names as it begins.",
        )  # fmt: skip
        with serving(make_application(settings), listening, settings.stopping, certificate):
            yield page


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--web {text}: is no HOST:PORT", remedy=f"write it as {DEFAULT}, or leave it out")
    return host or "0.0.0.0", int(port)


def _token_file(options: FleetWebOptions) -> Path:
    """The file of the token: the one that was named, or one in the store, which stays when the scheduler restarts."""
    if options.token_file is not None:
        return options.token_file
    from orchestrator.web.serve import read_token

    path = options.store / _TOKEN
    make_directory(options.store, 0o700)
    with suppress(FileExistsError), create(path, 0o600) as sink:
        sink.write(f"{read_token(None)}\n".encode())
    return path


def _certificate(credentials: Credentials, host: str) -> tuple[WebCertificate | None, list[str], str]:
    """What the server shows, the names in it, its fingerprint. None on a loopback address: nobody is between."""
    from orchestrator.fleet.credentials import read_certificate
    from orchestrator.web.serve import WebCertificate, is_loopback

    if is_loopback(host):
        return None, [], ""
    named = read_certificate(credentials.certificate)
    names = [f"[{name}]" if ":" in name else name for name in named.hosts]
    return WebCertificate(certificate=credentials.certificate, key=credentials.key), names, named.fingerprint


def _shown_host(host: str, names: Sequence[str]) -> str:
    """How a browser calls this server."""
    from orchestrator.web.serve import EVERYWHERE

    if host in EVERYWHERE:
        return next(iter(names), socket.gethostname())
    return f"[{host}]" if ":" in host else host


def _shown(state: FleetState) -> dict[str, Any]:
    """What fleet.js shows of a state."""
    running: dict[str, list[str]] = {}
    for job in state.jobs:
        if job.state == "running":
            running.setdefault(job.worker, []).append(job.name)
    waiting = [job for job in state.jobs if job.state == "waiting"]
    return {
        "workers": [
            {"name": worker.name, "slots": worker.slots, "labels": worker.labels,
             "running": len(running.get(worker.name, ())), "jobs": running.get(worker.name, [])[:_NAMES]}
            for worker in sorted(state.workers, key=lambda worker: worker.name)
        ],
        "lost": [worker.model_dump(mode="json") for worker in reversed(state.lost)],
        "waiting": [{"name": job.name, "labels": job.labels, "since": job.since} for job in waiting[:_WAITING]],
        "waits": len(waiting),
        "running": sum(map(len, running.values())),
        "done": state.done,
        "earlier": state.earlier,
        "failed": state.failed,
        "dashboard": state.dashboard,
    }  # fmt: skip
