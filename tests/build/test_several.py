"""Several projects in one command: what each gives, that one's failure is no other's, and equal work is done once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import main
from orchestrator.engine import select
from orchestrator.engine.base import Engine, StepFailedError
from orchestrator.errors import InputError
from orchestrator.image.reader import open_image
from orchestrator.image.tree import File
from tests.build.projects import write_project
from tests.support import engines
from tests.support.cli import Run, orchestrator
from tests.support.fake_engine import FakeEngine, Scripted

NO_ENGINE = "unix:///nowhere/engine.sock"
PROJECT = """\
name: NAME
runtime: local
base: debian:bookworm
nanos: {kernel: stub}
packer: native
build:
  run: make
  program: prover
"""
SCRIPT = "RUN umask 022 && sh /orchestrator/step-log.sh sh -e /orchestrator/build.sh"


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three projects in the current directory, each in one of its own."""
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    projects = [Path(name) for name in ("a", "b", "c")]
    for project in projects:
        project.mkdir()
        (project / "project.yaml").write_text(PROJECT.replace("NAME", project.name))
    return projects


def failing(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *more: str) -> Run:
    """Build the three, of which the first fails in its step and the others in an input."""
    step = StepFailedError("failed", stage="program", instruction=SCRIPT, tail="no", status=1)
    failures = [Scripted(error=error) for error in (step, InputError("no crates"), InputError("no crates either"))]
    engine = FakeEngine(registry={"debian:bookworm": f"sha256:{'1' * 64}"}, builds=failures)
    monkeypatch.setattr(select, "connect", lambda *_, **__: engine)
    with pytest.raises(SystemExit) as ended:
        main(["build", "a", "b", "c", "-o", "out", "--progress", "plain", *more])
    said = capfd.readouterr()
    assert isinstance(ended.value.code, int)
    return Run(code=ended.value.code, stdout=said.out, stderr=said.err)


@pytest.mark.usefixtures("three")
def test_one_failure_does_not_keep_the_others_from_being_built(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    done = failing(monkeypatch, capfd, "--json")
    document = json.loads(done.stdout)
    assert done.code == document["exit_code"] == 5  # the highest of 5, 4 and 4
    failed = {row["name"]: (row["exit_code"], row["error"]) for row in document["failed"]}
    assert failed == {
        "a": (5, "the build step failed with status 1"), "b": (4, "no crates"), "c": (4, "no crates either"),
    }  # fmt: skip
    lines = done.stderr.splitlines()
    assert any(line.startswith("a/project.yaml:7: build.run: the build step failed") for line in lines)
    assert [re.sub(r" +[0-9.]+m?s$", "", line) for line in lines[-4:]] == [
        "project  result           time  image", "a        failed (exit 5)", "b        failed (exit 4)",
        "c        failed (exit 4)",
    ]  # fmt: skip


@pytest.mark.usefixtures("three")
def test_with_fail_fast_the_first_failure_is_the_last_build(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    done = failing(monkeypatch, capfd, "--fail-fast", "--json")
    document = json.loads(done.stdout)
    assert [row["name"] for row in document["failed"]] == ["a"]
    assert document["not_built"] == ["b", "c"]
    assert done.stderr.splitlines()[-1].split() == ["c", "not", "built"]


@pytest.mark.usefixtures("three")
def test_processes_fail_as_this_one_does() -> None:
    """Message, remedy, place and exit code come back from each."""
    done = orchestrator("build", "a", "b", "--jobs", "2", "--json", "--engine", NO_ENGINE, cwd=Path.cwd())
    alone = orchestrator("build", "a", "--json", "--engine", NO_ENGINE, cwd=Path.cwd()).json()
    document = done.json()
    assert done.code == alone["exit_code"] == 3
    same = ("ok", "exit_code", "error", "remedy", "detail", "findings")
    for row in (document, *document["failed"]):
        assert {key: row[key] for key in same} == {key: alone[key] for key in same}


def test_a_wrong_project_costs_no_build_of_the_others(three: list[Path]) -> None:
    (three[1] / "project.yaml").write_text("name: b\n")
    done = orchestrator("build", *three, "--jobs", "3", "--engine", NO_ENGINE, cwd=Path.cwd())
    assert done.code == 2
    assert "b/project.yaml" in done.stderr


def events(stderr: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


def data_of(image: Path) -> bytes:
    with open_image(image) as opened:
        file = opened.rootfs.lookup("/data")
        assert isinstance(file, File)
        return b"".join(opened.rootfs.read(file))


def test_equal_steps_of_projects_at_the_same_time_run_once(engine: Engine, tmp_path: Path) -> None:
    """Two projects that differ in their manifests only, and one that fails beside them."""
    step = {"context": "src", "run": "cp /bin/true program\ndate +%N >data\nsleep 2\n", "program": "program"}
    projects = [
        write_project(
            tmp_path / name,
            name=name,
            build=step,
            stage={"files": ["data"]},
            manifest={"Args": [name]},
            files={"src/same.c": "int same;"},
        )
        for name in ("one", "two")
    ]
    broken = write_project(tmp_path / "broken", name="broken", build={"run": "echo woe; false", "program": "program"})
    out = tmp_path / "out"
    done = orchestrator(
        "build", broken, *projects, "--jobs", "3", "--progress", "json", "-o", out, "--engine", engine.info.endpoint
    )
    assert done.code == 5, done.stderr[-4000:]
    assert done.stdout.splitlines() == [str(out / "one.img"), str(out / "two.img")]
    assert data_of(out / "one.img") == data_of(out / "two.img")
    said = events(done.stderr)
    assert {"one/program", "two/pack", "broken/program"} <= {event.get("stage") for event in said}
    assert "| woe" in done.stderr  # the failed step's last lines
    rows = [line.split()[:2] for line in done.stderr.splitlines()[-3:]]
    assert rows == [["broken", "failed"], ["one", "built"], ["two", "built"]]
    # The same by a fleet on this machine: the same bytes (the step's layers are the engine's), files and messages.
    fleet = tmp_path / "fleet"
    there = orchestrator("build", broken, *projects, "--fleet", "local", "-o", fleet, "--engine", engine.info.endpoint)
    assert there.code == 5, there.stderr[-4000:]
    assert f"{broken}:" in there.stderr
    assert "| woe" in there.stderr
    for name in ("one", "two"):
        assert (fleet / f"{name}.img").read_bytes() == (out / f"{name}.img").read_bytes()
    names = [{path.name for path in folder.iterdir() if path.name[0] != "."} for folder in (fleet, out)]
    assert names[0] == names[1]
    assert json.loads((fleet / "one.receipt.json").read_text())["fleet"]["scheduler"].startswith("tls://127.0.0.1:")
    again = orchestrator("build", *projects, "--jobs", "2", "-o", out, "--engine", engine.info.endpoint)
    assert again.code == 0
    assert [line.split()[:2] for line in again.stderr.splitlines()[-2:]] == [["one", "unchanged"], ["two", "unchanged"]]


@pytest.mark.engine
def test_fail_fast_stops_what_runs(tmp_path: Path) -> None:
    """How each engine stops is test_killed.py's affair; here, that it is told to."""
    slow = write_project(tmp_path / "slow", name="slow", build={"run": "sleep 600", "program": "program"})
    broken = write_project(tmp_path / "broken", name="broken", build={"run": "sleep 1; false", "program": "program"})
    with engines.docker_engine() as engine:
        done = orchestrator(
            "build", slow, broken, "--jobs", "2", "--fail-fast", "--json", "-o", tmp_path / "out",
            "--engine", engine.info.endpoint, timeout=120,
        )  # fmt: skip
        assert [left for left in engine.leftovers() if left.kind == "container"] == []
    document = done.json()
    assert done.code == 5
    assert ([row["name"] for row in document["failed"]], document["not_built"]) == (["broken"], ["slow"])
