"""Builds beside each other on one engine: one is interrupted or killed, eight of one project, eight projects.

`ROUNDS=20 ONLY=podman-trixie` repeats the first as often; `make test-engines` runs it after the matrix.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.build.projects import COMPILE
from tests.engines.daemons import UNIX
from tests.engines.matrix import bench, digests, users_cache  # noqa: F401  # fixtures
from tests.engines.scenarios import MARK, Bench, steps_of_ours
from tests.support.cli import Run

ROUNDS = int(os.environ.get("ROUNDS", "2"))
EIGHT = 8


@pytest.fixture
def local(bench: Bench) -> Bench:  # noqa: F811
    if bench.client.service.engine.way != UNIX:
        pytest.skip("the same engines are asked by their sockets")
    return bench


def test_an_interrupted_build_leaves_the_other_alone(local: Bench) -> None:
    """The other has two stages at a time and waits in its step until the first is gone."""
    for number in range(ROUNDS):
        word = secrets.token_hex(8)
        waits = f"for i in $(seq 20); do sleep 0.5; [ -e /never ]; done || true\necho {word} >word\n{COMPILE}\n"
        steps = {"lasting": waits, "stopped": f"{COMPILE}\n# {word}\nfor i in $(seq 90); do sleep {MARK}; done\n"}
        for name, run in steps.items():
            stage = {"files": ["word"]} if name == "lasting" else {}
            local.project(name, build={"run": run, "program": "program"}, stage=stage)
        sign = (signal.SIGINT, signal.SIGKILL)[number % 2]
        client = local.client
        with client.started("build", client.folder / "lasting", "-o", local.out("lasting")) as lasting:
            stopped = client.stopped(
                ["build", client.folder / "stopped", "-o", local.out("stopped")], lambda: bool(steps_of_ours()), sign
            )
            _, said = lasting.communicate(timeout=600)
        assert stopped.code == (130 if sign == signal.SIGINT else -signal.SIGKILL), stopped.stderr
        assert lasting.returncode == 0, f"round {number}, {sign.name}: the other build failed:\n{said[-3000:]}"
        assert local.file("lasting", "/word").strip() == word
        print(f"round {number}, {sign.name}: the other ended well", flush=True)


def _all_at_once(bench: Bench, builds: list[tuple[Path, str]]) -> list[Run]:  # noqa: F811
    with ExitStack() as stack:
        started = [
            stack.enter_context(bench.client.started("build", project, "-o", bench.out(out))) for project, out in builds
        ]
        ended = [process.communicate(timeout=900) for process in started]
        return [
            Run(code=process.returncode, stdout=out, stderr=err)
            for process, (out, err) in zip(started, ended, strict=True)
        ]


def test_eight_builds_of_one_project_run_the_step_once(local: Bench) -> None:
    once = f"{COMPILE}\nhead -c 16 /dev/urandom | od -An -tx1 >once\nsleep 1\n# {time.time()}\n"
    project = local.project("one", build={"run": once, "program": "program"}, stage={"files": ["once"]})
    done = _all_at_once(local, [(project, f"one-{number}") for number in range(EIGHT)])
    assert [run.code for run in done] == [0] * EIGHT, [run.stderr[-800:] for run in done if run.code]
    assert len({local.file(f"one-{number}", "/once") for number in range(EIGHT)}) == 1, "the step ran more than once"


def test_eight_projects_are_all_right(local: Bench) -> None:
    builds = []
    for number in range(EIGHT):
        run = f"{COMPILE}\necho {number} >number\n# {time.time()}\n"
        build = {"run": run, "program": "program"}
        builds.append((local.project(f"p{number}", build=build, stage={"files": ["number"]}), f"p{number}"))
    done = _all_at_once(local, builds)
    assert [run.code for run in done] == [0] * EIGHT, [run.stderr[-800:] for run in done if run.code]
    assert [local.file(f"p{number}", "/number").strip() for number in range(EIGHT)] == [*map(str, range(EIGHT))]
