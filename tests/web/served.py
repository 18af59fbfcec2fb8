"""`report --serve` as a process, and one who asks it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.cli import ROOT


@dataclass(frozen=True, kw_only=True)
class Served:
    """A server that runs: its address, its token, and the environment in which builds are seen by it."""

    url: str
    token: str
    environment: dict[str, str]
    logs: Path
    process: subprocess.Popen[str]

    @property
    def host(self) -> str:
        """As in a Host header."""
        return self.url.removeprefix("http://").rstrip("/")

    def client(self, *, token: bool = True) -> httpx.Client:
        """One who asks, with the token in each request or without."""
        headers = {"Authorization": f"Bearer {self.token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=20)


@contextmanager
def serve(folder: Path, *options: str) -> Iterator[Served]:
    """Serve the receipts below a directory, on a free port."""
    state = folder.with_name(f"{folder.name}-state")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(state)}
    command = [sys.executable, "-m", "orchestrator", "report", str(folder), "--serve", "--port", "0", *options]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    try:
        url, _, token = process.stdout.readline().strip().partition("#")
        assert url, process.stderr.read()
        logs = state / "gevulot-orchestrator/builds"
        yield Served(url=url, token=token, environment=environment, logs=logs, process=process)
    finally:
        process.terminate()
        said = process.communicate(timeout=20)
        assert "Traceback" not in said[1], said[1]


@dataclass
class Events:
    """What comes by server-sent events, as it comes."""

    waiting: queue.Queue[tuple[str, Any]] = field(default_factory=queue.Queue)
    states: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    """Of a fleet."""
    _held: list[dict[str, Any]] = field(default_factory=list)

    def state(self, seconds: float = 20) -> dict[str, Any]:
        """The next state of the fleet."""
        return self.states.get(timeout=seconds)

    def read(self, response: httpx.Response) -> None:
        """Take all, until the server or we end."""
        kind = ""
        try:
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    said = json.loads(value, parse_constant=_refuse)
                    if kind == "fleet":
                        self.states.put(said)
                    else:
                        self.waiting.put((kind, said))
        except (httpx.HTTPError, httpx.StreamError):
            return

    def until(self, event: str, seconds: float = 20) -> list[dict[str, Any]]:
        """All lines of logs up to the first of this event; or with "receipts", that there are others."""
        lines: list[dict[str, Any]] = []
        end = time.monotonic() + seconds
        while True:
            while self._held:
                lines.append(self._held.pop(0))
                if lines[-1]["event"] == event:
                    return lines
            kind, self._held = self.waiting.get(timeout=max(0.01, end - time.monotonic()))
            if kind == event:
                return lines


def _refuse(constant: str) -> None:
    """A browser's JSON has no such number."""
    raise ValueError(constant)


@contextmanager
def listening(client: httpx.Client) -> Iterator[Events]:
    """What is said while the context lasts."""
    events = Events()
    with client.stream("GET", "/events") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        reader = threading.Thread(target=events.read, args=(response,), daemon=True)
        reader.start()
        yield events


_SPEAKS = """\
import sys, time
from orchestrator.build_logs import open_build_log
name, end = sys.argv[1:]
with open_build_log(name, f"/home/ci/{name}/project.yaml") as log:
    def say(event, **more):
        log.write({"version": 1, "time": time.time(), "event": event, **more})
    say("step-started", id="1", stage="inputs", title="pull docker.io/library/debian:bookworm")
    say("step-finished", id="1", status="cached", seconds=0.1, error="")
    say("step-started", id="2", stage="program", title="RUN cargo build --release --locked")
    say("step-started", id="3", stage="gevulot", title="RUN cargo build --release --package shim")
    say("step-progress", id="3", done=42, total=100, unit="B")
    for part in ("ff", "ec", "poly", "relations", "snark", "groth16", "r1cs-std", "bn254"):
        say("step-output", id="2", text=f"\\x1b[32m   Compiling\\x1b[0m ark-{part} v0.5.0")
    if end == "failed":
        say("step-output", id="2", text="error[E0425]: cannot find value `witnes` in this scope")
        say("step-finished", id="2", status="failed", seconds=12.0, error="exit code 101")
        log.finish("failed", "stage program: RUN cargo build --release --locked: exit code 101")
    print(flush=True)
    sys.stdin.read()
"""


@contextmanager
def speaking(served: Served, name: str, end: str = "") -> Iterator[subprocess.Popen[str]]:
    """A build of that name, as far as its log says: in the middle of its steps, or "failed"."""
    command = [sys.executable, "-c", _SPEAKS, name, end]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=served.environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
