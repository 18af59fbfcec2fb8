"""A fleet under load, and with machines that are lost: the figures and the plot of docs/scale.md.

python -m bench.fleet sleeps       # builds that only sleep: throughput by workers, cost of a job
python -m bench.fleet lost         # as root: real builds in network namespaces with a registry; workers are killed, the
                                   # scheduler is restarted. Exit 1 where anything is not as it must be
python -m bench.fleet report       # docs/scale.md's table and plot, of what these wrote to bench/results
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.lost_machines import COMMAND, ROOT, faults_of, lost_lines, measure_lost, wait_for_workers
from orchestrator.build.check import check_project
from orchestrator.events import ignore
from orchestrator.fleet.client import FleetClient
from orchestrator.fleet.credentials import Role, load_credentials, make_credentials
from orchestrator.fleet.messages import JobOrder
from orchestrator.fleet.packed_project import pack_project
from orchestrator.fleet.worker import WantedRun, WorkerSettings, working
from tests.build.projects import write_project

RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "scale.md"
SLEEP = 2.0
"""Seconds of a build that only sleeps. Real ones take longer: what a job costs weighs less there."""
COUNTS = (1, 2, 4, 8, 16)
EACH = 10
"""Jobs a worker."""
MANY = 1000


@dataclass(frozen=True, kw_only=True)
class Sleeper:
    """A JobRunner that sleeps, and gives a small file."""

    seconds: float

    def run(self, wanted: WantedRun, line: Callable[[str], None], stopped: threading.Event) -> None:
        """See JobRunner."""
        line('{"version": 1, "time": 0, "event": "notice", "level": "note", "text": "sleeps"}')
        stopped.wait(self.seconds)
        wanted.output.mkdir()
        (wanted.output / "some.img").write_bytes(b"an image")

    def reap(self) -> None:
        """Nothing is left."""


@contextmanager
def started(
    words: Sequence[str], log: Path, prefix: Sequence[str] = (), env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the context; its stderr goes to the end of `log`."""
    with log.open("a") as sink:
        running = subprocess.Popen([*prefix, *words], stdout=subprocess.PIPE, stderr=sink, text=True, cwd=ROOT,
                                   env={**os.environ, **(env or {})})  # fmt: skip
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(timeout=20)
        except subprocess.TimeoutExpired:
            running.kill()


def answer_of(running: subprocess.Popen[str]) -> str:
    """The first line of its stdout."""
    assert running.stdout is not None
    return running.stdout.readline().strip()


def sleep_workers(address: str, tls: Path, count: int, seconds: float) -> None:
    """So many workers in this process, until it is told to end."""

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                settings = WorkerSettings(credentials=load_credentials(Role.WORKER, tls), address=address,
                                          name=f"{os.getpid()}-{number}", host="127.0.0.1",
                                          store=Path(tempfile.mkdtemp(dir=tls.parent)))  # fmt: skip
                group.create_task(working(settings, Sleeper(seconds=seconds), ignore, stop))

    asyncio.run(run())


def measure_sleeps() -> dict[str, Any]:
    """Seconds for EACH jobs a worker by the number of workers; milliseconds of a job that takes no time."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        tls = folder / "tls"
        make_credentials(tls, ["127.0.0.1"])
        serve = [*COMMAND, "fleet", "serve", "--host", "127.0.0.1", "--port", "0", "--tls", str(tls), "--store",
                 str(folder / "store"), "--dashboard", "none"]  # fmt: skip
        address = answer_of(stack.enter_context(started(serve, folder / "serve.log")))
        client = FleetClient(address, load_credentials(Role.CLIENT, tls))
        stack.callback(client.close)
        packed = pack_project(check_project(write_project(folder / "p")), folder / "p.tar", ignore)
        client.lend(packed.path, packed.sha256, packed.size)

        def seconds(workers: int, jobs: int, sleep: float) -> float:
            with ExitStack() as running:
                for number in range(min(4, workers)):
                    count = workers // 4 if workers >= 4 else 1
                    words = [sys.executable, "-m", "bench.fleet", "sleep-workers", address, str(tls), str(count),
                             str(sleep)]  # fmt: skip
                    running.enter_context(started(words, folder / f"workers-{number}.log"))
                wait_for_workers(client, workers)
                orders = [
                    JobOrder(name="p", context=packed.sha256, project=packed.project,
                             program=f"{time.time_ns():048x}{number:016x}")
                    for number in range(jobs)
                ]  # fmt: skip
                began = time.monotonic()
                with ThreadPoolExecutor(128) as pool:
                    ended = list(pool.map(lambda order: client.order(order, lambda _line: None), orders))
                took = time.monotonic() - began
                assert all(one.failure is None for one in ended), [one.failure for one in ended if one.failure][:1]
            wait_for_workers(client, 0)
            return took

        scaling = {}
        for workers in COUNTS:
            scaling[workers] = seconds(workers, workers * EACH, SLEEP)
            print(f"{workers} workers: {scaling[workers]:.1f} s", file=sys.stderr, flush=True)
        many = seconds(16, MANY, 0.0)
    return {
        "sleep": SLEEP,
        "each": EACH,
        "cores": os.cpu_count(),
        "seconds": scaling,
        "many": {"jobs": MANY, "workers": 16, "seconds": many},
    }


def report() -> None:
    """The table and the plot, between the marks of the page."""
    if (lost := RESULTS / "fleet-lost.json").is_file():
        _put(lost_lines(json.loads(lost.read_text())), "lost")
    if not (kept := RESULTS / "fleet-sleeps.json").is_file():
        return
    sleeps = json.loads(kept.read_text())
    rows = {int(workers): seconds for workers, seconds in sleeps["seconds"].items()}
    ideal = sleeps["each"] * sleeps["sleep"]
    lines = ["| workers | jobs | seconds | of linear |", "|---|---|---|---|"]
    lines += [
        f"| {workers} | {workers * sleeps['each']} | {seconds:.1f} | {ideal / seconds:.2f} |"
        for workers, seconds in rows.items()
    ]
    many = sleeps["many"]
    cost = 1000 * many["seconds"] / many["jobs"]
    lines += ["", f"{many['jobs']:,} jobs that take no time, 16 workers: {many['seconds']:.1f} s, {cost:.0f} ms a job.",
              "", "![throughput by workers](scale.svg)"]  # fmt: skip
    _put(lines, "figures")
    _plot(rows, sleeps, ROOT / "docs" / "scale.svg")


def _put(lines: Sequence[str], name: str) -> None:
    """Lines between the marks of this name."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = PAGE.read_text().partition(begin)
    PAGE.write_text(before + begin + "\n" + "\n".join(lines) + "\n\n" + end + rest.partition(end)[2])


def _plot(rows: dict[int, float], sleeps: dict[str, Any], target: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    figure, picture = pyplot.subplots(figsize=(5, 3))
    picture.plot([*rows], [workers / sleeps["sleep"] for workers in rows], "k--", lw=0.8, label="linear")
    rates = [workers * sleeps["each"] / seconds for workers, seconds in rows.items()]
    picture.plot([*rows], rates, "o-", label="fleet")
    picture.set_xlabel("workers")
    picture.set_ylabel("jobs a second")
    picture.legend()
    figure.tight_layout()
    figure.savefig(target, format="svg", metadata={"Date": None})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("sleeps", "lost", "report"):
        commands.add_parser(name)
    inner = commands.add_parser("sleep-workers")
    for word in ("address", "tls", "count", "seconds"):
        inner.add_argument(word)
    asked = parser.parse_args()
    if asked.command == "sleep-workers":
        sleep_workers(asked.address, Path(asked.tls), int(asked.count), float(asked.seconds))
        return
    if asked.command == "report":
        report()
        return
    result = measure_sleeps() if asked.command == "sleeps" else measure_lost()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"fleet-{asked.command}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    if asked.command == "lost" and (faults := faults_of(result)):
        sys.exit("not so: " + "; ".join(faults))


if __name__ == "__main__":
    main()
