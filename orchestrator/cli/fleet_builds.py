"""The builds of `build --fleet`: on other machines, or with `local` on this one by the same ways."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.cli.build_processes import Said, StoppedError
from orchestrator.errors import UsageError
from orchestrator.events import Emit

if TYPE_CHECKING:
    from orchestrator.build.last_build import Asked
    from orchestrator.build.result import Result
    from orchestrator.fleet.client import FleetClient, FleetOrder

LOCAL: Final = "local"


@dataclass(frozen=True, kw_only=True)
class FleetOptions:
    """What `--fleet` and its kin say: where it is, which labels its workers must have, where the certificates are."""

    address: str
    labels: tuple[str, ...] = ()
    credentials: Path | None = None

    @property
    def local(self) -> bool:
        """Whether it is to be made here."""
        return self.address == LOCAL


def require_fleet() -> None:
    """UsageError where the extra is not installed."""
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise UsageError("a fleet needs Dask, which is not installed",
                         remedy="pip install 'gevulot-orchestrator[fleet]'") from error  # fmt: skip
    for name in ("distributed", "tornado", "asyncio"):  # they tell of each connection that ends, with a traceback
        logging.getLogger(name).setLevel(logging.CRITICAL)


def require_address(address: str) -> str:
    """The address. UsageError for what is none."""
    if not address.startswith("tls://"):
        raise UsageError(f"{address}: is no address of a fleet",
                         remedy="give tls://HOST:PORT, as `fleet serve` prints it")  # fmt: skip
    return address


class FleetBuilds:
    """Builds single projects in a fleet; their events go to `emit` as those of `BuildProcesses`. Used by threads."""

    def __init__(self, client: FleetClient, order: FleetOrder, emit: Emit) -> None:
        self._client, self._order, self._emit = client, order, emit

    def stop(self) -> None:
        """Give up those that run; none begins any more."""
        self._client.stop()

    def build(self, asked: Asked) -> Result:
        """Build one project; the error is as in this process. StoppedError after `stop`."""
        from orchestrator.fleet.client import StoppedOrderError, build_in_fleet

        said = Said(asked.checked.loaded.project.name, self._emit, others=False)
        try:
            return build_in_fleet(self._client, asked, self._order, said.emit, said.take)
        except StoppedOrderError as error:
            raise StoppedError from error


@contextmanager
def connected_fleet(options: FleetOptions, *, engine: str, slots: int, emit: Emit) -> Iterator[FleetClient]:
    """A fleet's client; `local` is a fleet of our own that ends with us, with a worker of `slots` on `engine`."""
    address, credentials = options.address, options.credentials
    require_fleet()
    from orchestrator.fleet.client import FleetClient
    from orchestrator.fleet.credentials import Role, load_credentials

    if address != LOCAL:
        require_address(address)
        client = FleetClient(address, load_credentials(Role.CLIENT, credentials))
        try:
            yield client
        finally:
            client.close()
        return
    from orchestrator.cli.fleet_runner import ProcessRunner
    from orchestrator.fleet.local import local_fleet

    with local_fleet([ProcessRunner(engine)], slots=slots, emit=emit) as client:
        yield client


def usual_slots(wanted: int) -> int:
    """How many builds a machine does at a time when nobody says it."""
    return max(1, min(wanted, os.cpu_count() or 1))


def worker_name() -> str:
    """What a worker is called that was given no name."""
    return f"{socket.gethostname()}-{os.getpid()}"
