"""A fleet whose machines are lost: scheduler, four workers and a registry in network namespaces. See bench.fleet."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import yaml

from bench.namespaces import Line, connected, on
from orchestrator.errors import EngineError
from orchestrator.fleet.client import FleetClient
from orchestrator.fleet.credentials import Role, load_credentials, make_credentials
from tests.build.projects import COMPILE, write_project
from tests.support import engines
from tests.support.fleet_peers import HANDSHAKE, connect, pickled, say, serialized
from tests.support.keys import write_keys
from tests.support.registry import Registry, registry

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "orchestrator"]
SCHEDULER, WORKERS, REGISTRY = "flt0", ("flt1", "flt2", "flt3", "flt4"), "flt5"
TO_WORKER = {worker: Line(number, SCHEDULER, worker) for number, worker in enumerate(WORKERS, start=1)}
TO_REGISTRY = {worker: Line(10 + number, REGISTRY, worker) for number, worker in enumerate(WORKERS, start=1)}
CLIENTS, OWN = Line(5, SCHEDULER, ""), Line(15, REGISTRY, "")
"""The lines of this machine: where the clients are, and what is compared is made."""
EVERY = 20.0
"""Seconds from one lost worker to the next."""
NO_ENGINE = "unix:///nowhere/engine.sock"


class LossyFleet:
    """A scheduler and four workers in namespaces; each can be killed, and comes back. Each worker has an input cache of
    its own, and reaches the scheduler and the registry and nobody else."""

    def __init__(self, folder: Path, engine: str, cache: Registry) -> None:
        self.folder, self._engine, self.cache = folder, engine, cache
        self.tls = folder / "tls"
        make_credentials(self.tls, [])
        write_keys(folder, "fleet")
        port = cache.host.rpartition(":")[2]
        self._logins = cache.auth_file(
            folder / "auth.json", hosts=[f"{line.addresses[0]}:{port}" for line in TO_REGISTRY.values()]
        )
        for worker, line in TO_REGISTRY.items():
            settings = {"url": f"oci+http://{line.addresses[0]}:{port}/fleet", "role": "read-write",
                        "sign": str(folder / "fleet.pem")}  # fmt: skip
            path = self._config(worker) / "gevulot-orchestrator/config.yaml"
            path.parent.mkdir(parents=True)
            path.write_text(yaml.safe_dump({"cache": settings}))
        self.address = f"tls://{CLIENTS.addresses[0]}:8786"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.lost = 0

    @property
    def url(self) -> str:
        """Of the shared cache, as this machine reaches it."""
        return f"oci+http://{self.cache.host}/fleet"

    def environment(self, name: str) -> dict[str, str]:
        """Of one machine: what it has of its own."""
        own = {"ORCHESTRATOR_CACHE_DIR": str(self.folder / f"{name}.cache"),
               "XDG_CONFIG_HOME": str(self._config(name)), "REGISTRY_AUTH_FILE": str(self._logins)}  # fmt: skip
        return {**os.environ, **own}

    def _config(self, name: str) -> Path:
        return self.folder / f"{name}.config"

    def start(self, name: str) -> None:
        """The scheduler, or a worker."""
        own = ["--tls", str(self.tls), "--store", str(self.folder / f"{name}.d")]
        if name == SCHEDULER:
            words = ["serve", "--dashboard", "none", "--host", "0.0.0.0"]
        else:
            scheduler, here = TO_WORKER[name].addresses
            words = ["worker", f"tls://{scheduler}:8786", "--host", here, "--name", name, "--engine", self._engine]
        with self.log(name).open("ab") as sink:
            self._processes[name] = subprocess.Popen(
                [*on(name), *COMMAND, "fleet", *words, *own], stdout=sink, stderr=sink, cwd=ROOT,
                env=self.environment(name), start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        """As a power cut would."""
        self._processes[name].kill()
        self._processes[name].wait()
        self.lost += 1

    def stop(self) -> None:
        """End all."""
        for running in self._processes.values():
            running.terminate()
        for running in self._processes.values():
            running.wait(timeout=60)

    def log(self, name: str) -> Path:
        """What one says."""
        return self.folder / f"{name}.log"

    def built(self) -> Counter[str]:
        """How often each project was built to its end."""
        text = "".join(self.log(name).read_text() for name in WORKERS)
        return Counter(re.findall(r"^(\w+) is built$", text, re.MULTILINE))


def wait_for_workers(client: FleetClient, count: int) -> None:
    """Until so many are there."""
    deadline = time.monotonic() + 120
    while True:
        with suppress(EngineError):  # it begins
            if len(client.state().workers) == count:
                return
        assert time.monotonic() < deadline, "workers do not come"
        time.sleep(0.2)


def projects_in(folder: Path, count: int, salt: str) -> list[Path]:
    """Different projects of some seconds each."""
    run = f"sleep 15\necho 'int salt_{salt} = 1;' >>program.c\n{COMPILE}\n"
    return [
        write_project(folder / f"p{number:02}", name=f"p{number:02}", build={"run": run, "program": "program"},
                      files={"own.h": f"#define OWN {number}\n"}, manifest={"Args": [f"p{number:02}"]})
        for number in range(1, count + 1)
    ]  # fmt: skip


def receipts_in(folder: Path) -> dict[str, dict[str, Any]]:
    """Of the images in a directory, by name."""
    receipts = [json.loads(path.read_text()) for path in folder.glob("*.receipt.json")]
    return {receipt["name"]: receipt for receipt in receipts}


def blake3_of(folder: Path) -> dict[str, str]:
    """Of the images in a directory, as their receipts have it; the receipts' `verify` has been run."""
    return {name: receipt["image"]["blake3"] for name, receipt in receipts_in(folder).items()}


def build(
    projects: Sequence[Path], output: Path, *more: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """`build`, begun."""
    log = output.with_suffix(".log").open("w")
    return subprocess.Popen([*COMMAND, "build", *map(str, projects), "-o", str(output), "--progress", "plain", *more],
                            stdout=subprocess.DEVNULL, stderr=log, text=True, cwd=ROOT, env=env)  # fmt: skip


def require_built(running: subprocess.Popen[str], output: Path) -> None:
    """Wait for it. AssertionError, with its last lines, where it fails."""
    code = running.wait()
    assert code == 0, output.with_suffix(".log").read_text()[-3000:]


def measure_lost() -> dict[str, Any]:
    """40 orders of 12 projects while workers are killed; then 8 more while the scheduler is; then a machine that has
    nothing but the registry; then peers who should get nothing."""
    lines = [*TO_WORKER.values(), CLIENTS, *TO_REGISTRY.values(), OWN]
    with (
        tempfile.TemporaryDirectory() as name,
        engines.podman_engine() as engine,
        connected((SCHEDULER, *WORKERS, REGISTRY), lines),
        registry(Path(name) / "registry", namespace=REGISTRY, address=OWN.addresses[0]) as cache,
    ):
        folder, endpoint = Path(name), engine.info.endpoint
        fleet = LossyFleet(folder, endpoint, cache)
        first = projects_in(folder / "first", 12, "a")
        _fill(fleet, first, endpoint)
        for machine in (SCHEDULER, *WORKERS):
            fleet.start(machine)
        try:
            with closing(FleetClient(fleet.address, load_credentials(Role.CLIENT, fleet.tls))) as client:
                wait_for_workers(client, 4)
                result = _with_lost_workers(fleet, first, endpoint)
                wait_for_workers(client, 4)
                result |= _with_lost_scheduler(fleet, first)
                wait_for_workers(client, 4)
                result |= {"peers_that_got_something": _with_bad_peers(fleet), "workers": len(client.state().workers)}
            result |= _without_fleet(fleet, first)
            result["left"] = [str(leftover) for leftover in engine.leftovers() if leftover.kind == "container"]
        finally:
            fleet.stop()
    return result


def _fill(fleet: LossyFleet, projects: Sequence[Path], engine: str) -> None:
    """Build a project here, with what the others begin with: its base is in the registry then, and its lock theirs."""
    seed = write_project(fleet.folder / "seed")
    own = ("--cache", fleet.url, "--cache-role", "read-write", "--cache-sign", str(fleet.folder / "fleet.pem"))
    logins = {"REGISTRY_AUTH_FILE": fleet.environment("")["REGISTRY_AUTH_FILE"]}
    output = fleet.folder / "seeded"
    require_built(build([seed], output, *own, "--engine", engine, env={**os.environ, **logins}), output)
    for project in projects:
        shutil.copy(seed.with_name("project.lock"), project.parent)


def _with_lost_workers(fleet: LossyFleet, projects: Sequence[Path], engine: str) -> dict[str, Any]:
    """Five people, each with a checkout of the projects' own and 8 of them to build."""
    commands, began = [], time.monotonic()
    for person in range(5):
        theirs = fleet.folder / f"person{person}"
        shutil.copytree(projects[0].parents[1], theirs)
        mine = [theirs / projects[(person * 8 + number) % 12].parent.name / "project.yaml" for number in range(8)]
        output = fleet.folder / f"out{person}"
        commands.append((build(mine, output, "--fleet", fleet.address, "--tls", str(fleet.tls)), output))
    while any(command.poll() is None for command, _ in commands):
        time.sleep(0.5)
        if time.monotonic() - began > EVERY * (fleet.lost + 1) and any(c.poll() is None for c, _ in commands):
            victim = WORKERS[fleet.lost % 4]
            fleet.kill(victim)
            time.sleep(1)
            fleet.start(victim)
        assert time.monotonic() - began < 500, "the builds do not end"
    took = time.monotonic() - began
    fleets: dict[str, set[str]] = {}
    count = 0
    for _command, output in commands:
        for project, digest in blake3_of(output).items():
            fleets.setdefault(project, set()).add(digest)
            count += 1
    alone = fleet.folder / "alone"
    require_built(build(projects, alone, "--no-cache", "--jobs", "2", "--engine", engine), alone)
    return {
        "codes": [command.returncode for command, _ in commands],
        "said": [output.with_suffix(".log").read_text()[-6000:] for command, output in commands if command.returncode],
        "images": count,
        "seconds": took,
        "lost_workers": fleet.lost,
        "built": dict(fleet.built()),
        "same_as_alone": fleets == {project: {digest} for project, digest in blake3_of(alone).items()},
    }


def _with_lost_scheduler(fleet: LossyFleet, earlier: Sequence[Path]) -> dict[str, Any]:
    """8 new projects; the scheduler is killed when some are done."""
    new = projects_in(fleet.folder / "second", 8, "b")
    for project in new:
        shutil.copy(earlier[0].with_name("project.lock"), project.parent)
    before = fleet.built()
    output = fleet.folder / "again"
    command = build(new, output, "--fleet", fleet.address, "--tls", str(fleet.tls))
    deadline = time.monotonic() + 300
    while len(fleet.built() - before) < 3 and command.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    done = set((fleet.built() - before).elements())
    fleet.kill(SCHEDULER)
    fleet.start(SCHEDULER)
    code = command.wait(timeout=300)
    said = output.with_suffix(".log").read_text()[-4000:] if code else ""
    after = fleet.built() - before
    resubmitted = build(new, fleet.folder / "more", "--fleet", fleet.address, "--tls", str(fleet.tls))
    return {
        "restart": {
            "code": code,
            "said": said,
            "done_before": sorted(done),
            "built": dict(after),
            "resubmitted": resubmitted.wait(timeout=100),
            "built_by_resubmission": dict(fleet.built() - before - after),
        }
    }


def _with_bad_peers(fleet: LossyFleet) -> list[str]:
    """Who comes without a certificate of the fleet, or sends a pickle with one: those that got something."""
    others, made = fleet.folder / "other-tls", fleet.folder / "made-by-a-pickle"
    make_credentials(others, [])
    got = []
    for tls in (None, others):
        with suppress(OSError), connect(fleet.address, tls, Role.CLIENT) as peer:
            if said := say(peer, HANDSHAKE):
                got.append(f"without a certificate: {said!r}")
    for role in (Role.CLIENT, Role.WORKER):
        for make in (pickled, serialized):
            with suppress(OSError), connect(fleet.address, fleet.tls, role) as peer:
                if b"still open" in say(peer, HANDSHAKE, make(made)):
                    got.append(f"a pickle of a {role}: the connection stays")
    return [*got, *(["a pickle was read"] if made.exists() else [])]


def _without_fleet(fleet: LossyFleet, projects: Sequence[Path]) -> dict[str, Any]:
    """A machine that never saw one of the projects, with the registry and without fleet and engine."""
    output, theirs = fleet.folder / "taken", fleet.folder / "stranger"
    shutil.copytree(projects[0].parents[1], theirs)
    mine = [theirs / project.parent.name / "project.yaml" for project in projects]
    began = time.monotonic()
    options = ("--cache", fleet.url, "--cache-trust", str(fleet.folder / "fleet.public.pem"), "--engine", NO_ENGINE)
    code = build(mine, output, *options, env=fleet.environment("stranger")).wait(timeout=200)
    tags = fleet.cache.folder / "data/docker/registry/v2/repositories/fleet/_manifests/tags"
    kinds = Counter(path.name.partition("-")[0] for path in tags.iterdir())
    return {
        "registry": {
            "holds": dict(kinds),
            "code": code,
            "taken": sorted(name for name, receipt in receipts_in(output).items() if receipt.get("taken")),
            "seconds": time.monotonic() - began,
            "same_as_alone": blake3_of(output) == blake3_of(fleet.folder / "alone"),
        }
    }


def faults_of(lost: Mapping[str, Any]) -> list[str]:
    """What of a run is not as it must be."""
    restart, cache = lost["restart"], lost["registry"]
    rest = 8 - len(restart["done_before"])
    right = {
        "every command ends well": set(lost["codes"]) == {0} and restart["code"] == restart["resubmitted"] == 0,
        "40 images come": lost["images"] == 40,
        "a worker is killed every 20 s": lost["lost_workers"] >= (lost["seconds"] - 2) // EVERY >= 1,
        "12 projects are built, each once": sorted(lost["built"].values()) == [1] * 12,
        "their bytes are those of builds alone": lost["same_as_alone"] and cache["same_as_alone"],
        "some are done when the scheduler is killed, and not all": 0 < rest < 8,
        "after it, only the rest is built": sum(restart["built"].values()) == 8
        and not restart["built_by_resubmission"],
        "the registry has all 12 for a machine without engine": cache["code"] == 0 and len(cache["taken"]) == 12,
        "no peer gets what it should not": not lost["peers_that_got_something"] and lost["workers"] == 4,
        "nothing is left in the engine": not lost["left"],
    }
    return [text for text, holds in right.items() if not holds]


def lost_lines(lost: Mapping[str, Any]) -> list[str]:
    """The page's table."""
    restart, cache = lost["restart"], lost["registry"]
    again = {name for name, count in lost["built"].items() if count > 1}
    but = f", but {sorted(again)}" if again else ""
    same = lost["same_as_alone"] and cache["same_as_alone"]
    return [
        "| | |",
        "|---|---|",
        f"| images that came, of 40 | {lost['images']}, in {lost['seconds']:.0f} s |",
        f"| workers killed meanwhile | {lost['lost_workers']} |",
        f"| projects that were built to the end | {len(lost['built'])}, each once{but} |",
        f"| same bytes as built alone, without cache | {'yes' if same else 'NO'} |",
        f"| containers left in the engine | {len(lost['left'])} |",
        f"| done when the scheduler was killed | {len(restart['done_before'])} of 8 |",
        f"| built after it was there again | {sum(restart['built'].values()) - len(restart['done_before'])} |",
        f"| built when all 8 were ordered again | {sum(restart['built_by_resubmission'].values())} |",
        "| taken from the registry by a machine without fleet and engine, of 12 |"
        f" {len(cache['taken'])}, in {cache['seconds']:.1f} s |",
        "| peers without a certificate, or with a pickle, that got something |"
        f" {len(lost['peers_that_got_something'])} |",
    ]
