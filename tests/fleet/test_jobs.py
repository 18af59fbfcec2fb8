"""What becomes of orders: equal ones are one job, a machine's failure goes elsewhere, a project's does not."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.build.check import check_project
from orchestrator.errors import BuildStepError, EngineError, OrchestratorError, UsageError
from orchestrator.events import ignore
from orchestrator.fleet.client import FleetClient, StoppedOrderError
from orchestrator.fleet.jobs import FleetJobs, Job, JobRun
from orchestrator.fleet.local import local_fleet
from orchestrator.fleet.messages import JobEnded, JobFile, JobOrder, to_text
from orchestrator.fleet.packed_project import (
    PackedProject,
    pack_project,
    require_inside,
    require_portable,
    unpack_project,
)
from orchestrator.fleet.store import FleetStore
from orchestrator.fleet.worker import WantedRun
from orchestrator.project.load import load_project
from tests.build.projects import write_project


@dataclass(kw_only=True)
class Runner:
    """Says `line`s, waits until it is `let` go on, and fails as it is told; else there is one small file."""

    failures: list[OrchestratorError] = field(default_factory=list)
    let: threading.Event = field(default_factory=threading.Event)
    began: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def run(self, wanted: WantedRun, line: Callable[[str], None], stopped: threading.Event) -> None:
        """See JobRunner."""
        name = wanted.project.parent.name
        self.began.append(name)
        line(f'{{"event": "notice", "text": "{name}"}}')
        while not self.let.wait(0.02):
            if stopped.is_set():
                self.stopped.append(name)
                return
        if self.failures:
            raise self.failures.pop()
        wanted.output.mkdir(exist_ok=True)
        (wanted.output / f"{name}.img").write_bytes(name.encode())

    def reap(self) -> None:
        """Nothing is left."""


@contextmanager
def fleet_of(*runners: Runner) -> Iterator[FleetClient]:
    """A fleet with a worker for each."""
    with local_fleet(runners, slots=2, emit=ignore) as client:
        deadline = time.monotonic() + 20
        while len(client.state().workers) < len(runners) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield client


def lent(client: FleetClient, folder: Path, name: str) -> JobOrder:
    """An order to build a small project of this name."""
    project = write_project(folder / name, name=name)
    packed = pack_project(check_project(project), folder / f"{name}.tar", ignore)
    assert client.lend(packed.path, packed.sha256, packed.size)
    assert not client.lend(packed.path, packed.sha256, packed.size)  # once is enough
    # Its directory's name in the tar is not the project's.
    return JobOrder(name=name, context=packed.sha256, project=packed.project, program="0" * 64)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_equal_orders_are_one_job(tmp_path: Path) -> None:
    runner, lines = Runner(), list[str]()
    with fleet_of(runner) as client, ThreadPoolExecutor(4) as pool:
        order = lent(client, tmp_path, "one")
        asked = [pool.submit(client.order, order, lines.append) for _ in range(3)]
        wait_until(lambda: client.state().jobs and client.state().jobs[0].asked_by == 3)
        runner.let.set()
        ended = [future.result(timeout=20) for future in asked]
        again = client.order(order, lines.append)
        assert len(runner.began) == 1
        assert len([line for line in lines if '"event": "notice"' in line and '"tree"' in line]) == 3  # each is told
        assert {(end.token, end.earlier) for end in ended} == {(1, False)}
        assert (again.earlier, again.files) == (True, ended[0].files)
        client.fetch(again.files[0], tmp_path / "image")
        assert (tmp_path / "image").read_bytes() == b"tree"
        state = client.state()
        assert (state.done, state.earlier, state.failed) == (1, 1, 0)


@pytest.mark.parametrize(
    ("failure", "tries"),
    [(EngineError("no engine"), 2), (BuildStepError("no compiler"), 1)],
)
def test_a_machines_failure_goes_elsewhere_and_a_projects_does_not(
    tmp_path: Path, failure: OrchestratorError, tries: int
) -> None:
    """Whichever of the two gets it first fails."""
    failures, lines = [failure], list[str]()
    runners = (Runner(failures=failures), Runner(failures=failures))
    for runner in runners:
        runner.let.set()
    with fleet_of(*runners) as client:
        ended = client.order(lent(client, tmp_path, "one"), lines.append)
    assert sorted(len(runner.began) for runner in runners) == ([1, 1] if tries == 2 else [0, 1])
    assert (ended.failure is None) == (tries == 2)
    assert any("trying another worker" in line for line in lines) == (tries == 2)


def test_who_asks_no_longer_stops_it(tmp_path: Path) -> None:
    runner = Runner()
    with fleet_of(runner) as client, ThreadPoolExecutor(1) as pool:
        order = lent(client, tmp_path, "one")
        asked = pool.submit(client.order, order, lambda _line: None)
        wait_until(lambda: runner.began)
        client.stop()
        with pytest.raises(StoppedOrderError):
            asked.result(timeout=10)
        wait_until(lambda: runner.stopped)


def test_only_the_last_run_of_a_job_is_heard_and_its_answer_counts_at_once(tmp_path: Path) -> None:
    """Also where the cluster never says that the task has ended: its worker is lost just then."""

    async def never(_run: JobRun) -> str:
        await asyncio.Event().wait()
        return ""

    async def run() -> JobEnded:
        store = FleetStore(tmp_path / "store")
        digest = hashlib.sha256(b"image").hexdigest()
        with store.receive(digest, 5) as incoming:
            incoming.write(b"image")
        jobs = FleetJobs(store, never, lambda _labels, _avoid: [], ignore)
        job = jobs.ask(JobOrder(name="p", context="0" * 64, project="p", program="0" * 64))
        assert isinstance(job, Job)
        await asyncio.sleep(0.01)
        first, last = jobs.begin(job.key, "lost"), jobs.begin(job.key, "here")
        file = JobFile(name="p.img", sha256=digest, size=5)
        assert not jobs.hear(job.key, first, ["late"])
        assert not jobs.end(job.key, first, to_text(JobEnded(worker="lost", token=first, files=(file,))))
        assert jobs.hear(job.key, last, ["said"])
        assert jobs.end(job.key, last, to_text(JobEnded(worker="here", token=last, files=(file,))))
        assert store.result(job.key) is not None  # before anything else happens: we may be killed now
        ended = await asyncio.wait_for(job.ended, 10)
        assert "late" not in job.history
        assert store.result(job.key) == ended
        return ended

    assert asyncio.run(run()).worker == "here"


def packed(folder: Path, **changes: Any) -> PackedProject:
    return pack_project(check_project(write_project(folder / "p", **changes)), folder / "p.tar", ignore)


def test_a_packed_project_is_all_that_decides_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "data.bin").write_bytes(b"data")
    more: dict[str, Any] = {
        "stage": {"files": [{"from": "../shared/data.bin", "to": "/data.bin"}]},
        "files": {"ignored/x": "x", "kept/y": "y", ".dockerignore": "ignored\n"},
    }
    first = packed(tmp_path, **more)
    unpacked = unpack_project(first.path, tmp_path / "there", first.project)
    there = {str(path.relative_to(tmp_path / "there")) for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert there == {
        "fleet.txt", "tree/p/.dockerignore", "tree/p/kept/y", "tree/p/program.c", "tree/p/project.yaml",
        "tree/shared/data.bin",
    }  # fmt: skip
    # From there it is the same again.
    again = pack_project(check_project(unpacked), tmp_path / "again.tar", ignore)
    assert (again.sha256, again.project) == (first.sha256, first.project)
    assert hashlib.sha256(first.path.read_bytes()).hexdigest() == first.sha256


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"stage": {"files": [{"from": "/etc/hostname", "to": "/x"}]}}, "stage.files[0].from"),
        ({"build": {"run": "true", "program": "program", "ssh": True}}, "build.ssh"),
        ({"build": {"run": "true", "program": "program", "secrets": [{"id": "x", "env": "HOME"}]}}, "build.secrets"),
        ({"gevulot": {"git": "file:///srv/gevulot", "ref": "main"}}, "gevulot.git"),
    ],
)
def test_what_only_this_machine_has_does_not_travel(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    checked = check_project(write_project(tmp_path, **changes))
    with pytest.raises(UsageError) as refused:
        require_portable(checked.loaded)
    assert [finding.field for finding in refused.value.findings] == [field]


def test_a_sent_project_reads_nothing_of_the_worker(tmp_path: Path) -> None:
    """As someone packs it who does not use our client."""
    outside = write_project(tmp_path / "tree" / "p", stage={"files": [{"from": "../../../x", "to": "/x"}]})
    (tmp_path.parent / "x").write_text("of the worker")
    with pytest.raises(UsageError) as refused:
        require_inside(load_project(outside), tmp_path)
    assert [finding.field for finding in refused.value.findings] == ["stage.files[0].from"]
