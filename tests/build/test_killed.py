"""A build that is killed, in each phase and by each signal, leaves nothing under a final name, and the next works."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.base import Engine
from tests.build.projects import COMPILE, write_project
from tests.support.cli import interrupted, orchestrator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# Phase -> the event that shows that it runs. The image is large enough that packing and hashing take a while.
PHASES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "inputs": lambda event: event.get("stage") == "inputs",
    "context": lambda event: event.get("stage") == "context",
    "build": lambda event: "build.sh" in event.get("title", ""),
    "pack": lambda event: event.get("stage") == "pack",
    "verify": lambda event: event.get("stage") == "verify",
    "receipt": lambda event: event.get("stage") == "receipt",
}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = f"{COMPILE}\nsleep 1\nhead -c 100000000 /dev/urandom > data\n"
    return write_project(
        tmp_path_factory.mktemp("killed"), build={"run": run, "program": "program"}, stage={"files": ["data"]}
    )


@pytest.mark.parametrize("sign", SIGNALS, ids=lambda sign: sign.name)
@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_build_leaves_no_image(
    engine: Engine, project: Path, tmp_path: Path, phase: str, sign: signal.Signals
) -> None:
    def reached(event: dict[str, Any]) -> bool:
        return event["event"] == "step-started" and PHASES[phase](event)

    arguments: list[str | Path] = ["build", project, "-o", tmp_path, "--engine", engine.info.endpoint]
    if phase == "build":
        arguments.append("--no-cache")
    done = interrupted(arguments, reached, sign, delay=0.05 if phase == "build" else 0.0)
    assert done.code == (-signal.SIGKILL if sign is signal.SIGKILL else 130), done.stderr
    assert not {name for name in files(tmp_path) if name.startswith("program")}
    if sign is not signal.SIGKILL:
        assert not {name for name in files(tmp_path) if name.endswith(".partial")}
        assert "interrupted" in done.stderr
    assert no_container(engine)


@pytest.mark.parametrize("sign", SIGNALS, ids=lambda sign: sign.name)
def test_the_next_build_works_and_sweeps(engine: Engine, project: Path, tmp_path: Path, sign: signal.Signals) -> None:
    def packing(event: dict[str, Any]) -> bool:
        return bool(event["event"] == "step-started" and event["stage"] == "pack")

    arguments: list[str | Path] = ["build", project, "-o", tmp_path, "--engine", engine.info.endpoint]
    interrupted(arguments, packing, sign)
    done = orchestrator(*arguments)
    assert done.code == 0, done.stderr
    assert {name for name in files(tmp_path) if not name.endswith(".lock")} == {
        "program.img", "program.provenance.json", "program.receipt.json", "program.sbom.cdx.json",
    }  # fmt: skip
    assert orchestrator("verify", tmp_path / "program.img").code == 0


def test_a_killed_build_keeps_the_image_of_the_one_before(engine: Engine, project: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = ["build", project, "-o", tmp_path, "--engine", engine.info.endpoint]
    assert orchestrator(*arguments).code == 0
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("program*")}
    again = [*arguments, "--verify-cached"]  # nothing has changed
    interrupted(again, lambda event: event.get("stage") == "verify", signal.SIGKILL)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("program*")} == before


def test_clean_leaves_what_a_running_build_uses(engine: Engine, project: Path, tmp_path: Path) -> None:
    # The whole way: an image that is made of an earlier one has nothing in an engine.
    arguments: list[str | Path] = [
        "build",
        project,
        "-o",
        tmp_path,
        "--engine",
        engine.info.endpoint,
        "--verify-cached",
    ]
    said = []

    def clean() -> None:
        said.append(orchestrator("clean", tmp_path, "--engine", engine.info.endpoint))

    # Stopped meanwhile: what follows may take less time than `clean`.
    done = interrupted(arguments, lambda event: event.get("stage") == "pack", signal.SIGSTOP, meanwhile=clean)
    assert done.code == 0, done.stderr
    assert said[0].code == 0
    assert f"{tmp_path}/.orchestrator-program.lock stays: a running build uses it" in said[0].stderr
    assert "a running build may use them" in said[0].stderr
    assert ".partial" not in said[0].stdout


def test_clean_removes_what_kills_left(engine: Engine, project: Path, tmp_path: Path) -> None:
    """Last of all here, as it takes the layers that the other tests build with."""
    arguments: list[str | Path] = ["build", project, "-o", tmp_path, "--engine", engine.info.endpoint]
    interrupted(arguments, lambda event: event.get("stage") == "pack", signal.SIGKILL)
    assert orchestrator("clean", tmp_path, "--engine", engine.info.endpoint).code == 0
    assert [left for left in engine.leftovers() if left.kind == "container"] == []
    assert {name for name in files(tmp_path) if not name.endswith(".lock")} == set()


def no_container(engine: Engine) -> bool:
    """Whether the engine holds no container of ours, after a moment in which it may still be cleaning up.

    A client that was killed can't remove its container; then `clean` must.
    """
    for _ in range(20):
        left = [leftover for leftover in engine.leftovers() if leftover.kind == "container"]
        if not left:
            return True
        time.sleep(0.25)
    for leftover in left:
        engine.remove(leftover)
    return not [leftover for leftover in engine.leftovers() if leftover.kind == "container"]
