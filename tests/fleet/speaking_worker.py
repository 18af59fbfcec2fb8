"""A worker whose builds only speak: `python -m tests.fleet.speaking_worker ADDRESS FOLDER NAME [LABEL…]`.

In FOLDER are the fleet's certificates (`tls`). A build says its lines as an engine's would be said, with a proxy whose
password a step prints, waits for the file `go-PROJECT`, and fails where that says how, or gives an image and a receipt.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import yaml

from orchestrator.cli.event_lines import line_of
from orchestrator.engine.base import BuildRequest
from orchestrator.engine.build import mask_of
from orchestrator.engine.steps import Steps
from orchestrator.errors import BuildStepError
from orchestrator.events import ignore
from orchestrator.fleet.credentials import Role, load_credentials
from orchestrator.fleet.worker import WantedRun, WorkerSettings, working
from tests.support.receipts import receipt_text

PASSWORD = "pass-word-of-the-proxy"
PROXY = f"http://ci:{PASSWORD}@proxy.example:3128"


class SpeakingRunner:
    """See JobRunner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, wanted: WantedRun, line: Callable[[str], None], stopped: threading.Event) -> None:
        """Speak, wait, and end as the file says."""
        name = yaml.safe_load((wanted.root / wanted.project).read_text())["name"]
        request = BuildRequest(context=(), containerfile="C", tag="t", build_id="b", build_args={"http_proxy": PROXY})
        steps = Steps(lambda event: line(json.dumps(line_of(event).model_dump())), mask_of(request))
        steps.start("7", stage="program", title="RUN --mount=type=cache,target=/x cargo build --release --locked")
        for part in ("ff", "ec", "poly", "relations", "snark", "groth16", "r1cs-std", "bn254"):
            steps.output("7", f"\x1b[32m   Compiling\x1b[0m ark-{part} v0.5.0\n")
        steps.output("7", f"\u202e{name}\x1b]0;title\x07 by http_proxy={PROXY}\n")
        line('{"event": "build-finished", "status": "built"}')  # not a build's to say
        line('{"event": "step-progress", "id": "7", "done": NaN, "total": Infinity}')
        go = self._folder / f"go-{name}"
        while not go.exists():
            if stopped.wait(0.05):
                return
        steps.finish("7")
        if failure := go.read_text():
            raise BuildStepError(failure)
        wanted.output.mkdir(exist_ok=True)
        (wanted.output / f"{name}.img").write_bytes(name.encode())
        (wanted.output / f"{name}.receipt.json").write_text(receipt_text(name, "0" * 64))

    def reap(self) -> None:
        """Nothing is left."""


def main(address: str, folder: Path, name: str, labels: tuple[str, ...]) -> None:
    """Work until killed."""
    settings = WorkerSettings(
        credentials=load_credentials(Role.WORKER, folder / "tls"), address=address, name=name, labels=labels,
        store=folder / f"work-{name}", host="127.0.0.1",
    )  # fmt: skip

    async def work() -> None:
        await working(settings, SpeakingRunner(folder), ignore, asyncio.Event())

    asyncio.run(work())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], tuple(sys.argv[4:]))
