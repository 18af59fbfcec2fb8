"""Commands about a fleet: init, serve, worker, status, manifests."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from orchestrator.cli.console import answer, answer_block, answer_json, say
from orchestrator.cli.parameters import DIRECTORY, engine_option, json_failures, json_option, tls_option
from orchestrator.errors import UsageError
from orchestrator.events import Event, Notice

if TYPE_CHECKING:
    from orchestrator.cli.fleet_web import FleetPage
    from orchestrator.fleet.scheduler import FleetScheduler, SchedulerSettings

_ADDRESS: Final = "tls://HOST:PORT"


@click.group(short_help="Build on many machines: scheduler, workers, their state.")
def fleet() -> None:
    """Build on many machines: certificates, scheduler, workers, and what they do (docs/fleet.md)."""


@fleet.command(name="init")
@click.argument("directory", type=DIRECTORY, metavar="[DIR]", required=False)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name or address of the scheduler, for its certificate; may be repeated.",
)
@json_option
@json_failures
def fleet_init(directory: Path | None, hosts: tuple[str, ...], as_json: bool) -> None:
    """Make the certificates of a fleet: an authority's, and one each for scheduler, workers and clients.

    What is there already stays; delete a certificate to have a new one.
    """
    from orchestrator.fleet.credentials import make_credentials
    from orchestrator.user_paths import fleet_credentials

    folder = directory or fleet_credentials()
    written = make_credentials(folder, hosts or (socket.gethostname(), "localhost", "127.0.0.1"))
    for path in written:
        say(f"wrote {path}")
    say("each worker needs ca.pem, worker.pem and worker.key; each client ca.pem, client.pem and client.key")
    say("keep ca.key here: whoever has it makes certificates of the fleet")
    if as_json:
        answer_json({"ok": True, "directory": str(folder), "written": [str(path) for path in written]})
        return
    answer(str(folder))


@fleet.command(name="serve")
@click.option("--host", default="", metavar="ADDRESS", help="Listen at this address.  [default: all]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8786,
    show_default=True,
    metavar="N",
    help="Listen at this port; 0: at one that is free.",
)
@click.option(
    "--store",
    type=DIRECTORY,
    metavar="DIR",
    default=Path("fleet-store"),
    show_default=True,
    help="Keep what is sent and what was built here.",
)
@click.option(
    "--dashboard",
    metavar="HOST:PORT",
    default="127.0.0.1:8787",
    show_default=True,
    help="Show Dask's own pages here, without TLS or login; `none`: nowhere.",
)
@click.option(
    "--web", is_flag=False, flag_value="127.0.0.1:8788", metavar="[HOST:PORT]",
    help="Show the page of `report` here, live, behind a token; with the fleet's TLS unless HOST is this machine's own."
    "  [default: 127.0.0.1:8788]",
)  # fmt: skip
@click.option(
    "--receipts", type=DIRECTORY, metavar="DIR",
    help="With --web: keep the receipts of what is built here, the newest 1,000.  [default: in the store]",
)  # fmt: skip
@click.option(
    "--token-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="With --web: the token to ask for is in FILE.  [default: web.token in the store, made once]",
)  # fmt: skip
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME",
    help="With --web: another name of this server, such as a proxy's. May be repeated.",
)  # fmt: skip
@tls_option
def fleet_serve(  # noqa: PLR0913 - one parameter an option
    *,
    host: str,
    port: int,
    store: Path,
    dashboard: str,
    web: str | None,
    receipts: Path | None,
    token_file: Path | None,
    hosts: tuple[str, ...],
    tls: Path | None,
) -> None:
    """Run the fleet's scheduler until Ctrl-C. Workers and clients connect to it, and with --web browsers do."""
    _require()
    from orchestrator.cli.fleet_web import FleetWebOptions, fleet_page
    from orchestrator.fleet.credentials import Role, load_credentials
    from orchestrator.fleet.scheduler import SchedulerSettings

    credentials, store = load_credentials(Role.SCHEDULER, tls), store.absolute()
    settings = SchedulerSettings(credentials=credentials, store=store, host=host, port=port,
                                 dashboard="" if dashboard == "none" else dashboard)  # fmt: skip
    if web is None:
        if receipts or token_file or hosts:
            raise UsageError("--receipts, --token-file and --allow-host are for --web", remedy="leave them out")
        _serve(settings, None)
        return
    options = FleetWebOptions(address=web, store=store, receipts=receipts, token_file=token_file, hosts=hosts,
                              credentials=credentials)  # fmt: skip
    with fleet_page(options) as page:
        _serve(replace(settings, watcher=page.board, receipts=page.receipts), page)


def _serve(settings: SchedulerSettings, page: FleetPage | None) -> None:
    from orchestrator.fleet.scheduler import serving

    def ready(scheduler: FleetScheduler) -> None:
        say(f"workers:   python -m orchestrator fleet worker {scheduler.address}")
        say(f"builds:    python -m orchestrator build --fleet {scheduler.address} PROJECT.YAML…")
        if scheduler.pages:
            say(f"dashboard: {scheduler.pages}")
        answer(scheduler.address)
        if page is not None:
            page.show(scheduler)
            for line in page.lines:
                say(line)
            answer(page.url)

    async def serve(stop: asyncio.Event) -> None:
        scheduler = await serving(settings, _say_event, ready)
        try:
            await stop.wait()
        finally:
            await scheduler.shut()

    _run_until_interrupt(serve)


@fleet.command(name="worker")
@click.argument("address", metavar=_ADDRESS)
@engine_option
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME",
    help="What this machine has, as gpu or fast-disk; may be repeated.",
)
@click.option(
    "--slots",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Do up to N builds at the same time.",
)
@click.option("--name", metavar="NAME", help="How it is called in messages.  [default: the host's name, and a number]")
@click.option("--host", default="", metavar="ADDRESS", help="Where the scheduler reaches this machine.")
@click.option("--store", type=DIRECTORY, metavar="DIR", help="Keep what is sent here.  [default: with the cache]")
@tls_option
def fleet_worker(  # noqa: PLR0913 - one parameter an option
    *,
    address: str,
    engine: str,
    labels: tuple[str, ...],
    slots: int,
    name: str | None,
    host: str,
    store: Path | None,
    tls: Path | None,
) -> None:
    """Build for a fleet until Ctrl-C, on an engine of this machine. It comes back when the scheduler restarts."""
    _require()
    from orchestrator.cli.fleet_builds import require_address, worker_name
    from orchestrator.cli.fleet_runner import ProcessRunner
    from orchestrator.fleet.credentials import Role, load_credentials
    from orchestrator.fleet.worker import WorkerSettings, working
    from orchestrator.user_paths import cache_root

    settings = WorkerSettings(
        credentials=load_credentials(Role.WORKER, tls), address=require_address(address), name=name or worker_name(),
        store=(store or cache_root() / "fleet").absolute(), slots=slots, labels=tuple(sorted({*labels})), host=host,
    )  # fmt: skip
    _run_until_interrupt(lambda stop: working(settings, ProcessRunner(engine), _say_event, stop))


@fleet.command(name="status")
@click.argument("address", metavar=_ADDRESS)
@tls_option
@json_option
@json_failures
def fleet_status(address: str, tls: Path | None, as_json: bool) -> None:
    """Show a fleet's workers and jobs."""
    _require()
    from orchestrator.cli.fleet_builds import require_address
    from orchestrator.fleet.client import FleetClient
    from orchestrator.fleet.credentials import Role, load_credentials

    client = FleetClient(require_address(address), load_credentials(Role.CLIENT, tls))
    try:
        state = client.state()
    finally:
        client.close()
    if as_json:
        answer_json({"ok": True, **state.model_dump(mode="json")})
        return
    for worker in state.workers:
        labels = f"  {', '.join(worker.labels)}" if worker.labels else ""
        answer(f"worker  {worker.name}  {worker.running} of {worker.slots} busy{labels}")
    for lost in state.lost:
        answer(f"lost    {lost.name}  {datetime.fromtimestamp(lost.at, UTC):%Y-%m-%d %H:%M} UTC")
    for job in state.jobs:
        answer(f"job     {job.name}  {job.state}{f' on {job.worker}' if job.worker else ''}  {job.key[:12]}…")
    answer(f"{len(state.workers)} workers; {state.done} built, {state.earlier} known already, {state.failed} failed")
    if state.dashboard:
        say(f"dashboard: {state.dashboard}")


def _require() -> None:
    from orchestrator.cli.fleet_builds import require_fleet

    require_fleet()


def _say_event(event: Event) -> None:
    if isinstance(event, Notice):
        say(f"warning: {event.text}" if event.level == "warning" else event.text)


def _run_until_interrupt(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run until SIGINT or SIGTERM, which are the usual end of it."""

    async def run() -> None:
        stop = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(stop)

    asyncio.run(run())


@fleet.command(name="manifests")
@click.option("--image", required=True, metavar="IMAGE", help="An image with the orchestrator and its extra `fleet`.")
@click.option("--name", default="orchestrator-fleet", show_default=True, metavar="NAME", help="Begin all names so.")
@click.option("--namespace", default="default", show_default=True, metavar="NAME", help="Put all into this namespace.")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, metavar="N", help="So many.")
@click.option("--label", "labels", multiple=True, metavar="NAME", help="What the workers have; may be repeated.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, metavar="N", help="Ask for N GPUs for each worker.")
@click.option("--web", is_flag=True, help="Have the scheduler serve its page; its token is in the secret NAME-web.")
def fleet_manifests(  # noqa: PLR0913 - one parameter an option
    *, image: str, name: str, namespace: str, workers: int, labels: tuple[str, ...], gpus: int, web: bool
) -> None:
    """Print a fleet for Kubernetes: Deployments, a Service and NetworkPolicies (docs/fleet.md)."""
    from orchestrator.fleet.manifests import ManifestSettings, render_manifests

    settings = ManifestSettings(image=image, name=name, namespace=namespace, workers=workers, labels=labels, gpus=gpus,
                                web=web)  # fmt: skip
    answer_block(render_manifests(settings).rstrip("\n"))


COMMANDS = (fleet,)
