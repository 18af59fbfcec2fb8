"""Builds beside each other on one engine: one of two is stopped, eight of one project, eight projects.

`make test-engines` runs it after the matrix, on some of its engines. `ROUNDS=20` stops as many builds on each, every
second by SIGKILL.
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
from tests.engines import record
from tests.engines.daemons import UNIX
from tests.engines.matrix import bench, digests, users_cache  # noqa: F401  # fixtures
from tests.engines.scenarios import MARK, Bench, steps_of_ours
from tests.support.cli import Run

ROUNDS = int(os.environ.get("ROUNDS", "2"))
EIGHT = 8
_SIGNALS = (signal.SIGINT, signal.SIGKILL)


@pytest.fixture
def local(bench: Bench) -> Bench:  # noqa: F811
    if bench.client.service.engine.way != UNIX:
        pytest.skip("the same engines are asked by their sockets")
    return bench


def test_a_stopped_build_leaves_the_other_alone(local: Bench) -> None:
    with record.keeping(local.client.service.engine.title, record.STOPPED) as said:
        for number in range(ROUNDS):
            said[:] = [f"ended well {number} of {ROUNDS} times"]
            _round(local, _SIGNALS[number % 2])
        said[:] = [f"ended well {ROUNDS} of {ROUNDS} times"]


def _round(bench: Bench, sign: signal.Signals) -> None:  # noqa: F811
    """The other is in its step when the first gets `sign`, and well after that."""
    word = secrets.token_hex(8)
    waits = f"for i in $(seq 20); do sleep 0.5; done\necho {word} >word\n{COMPILE}\n"
    steps = {"lasting": waits, "stopped": f"{COMPILE}\n# {word}\nfor i in $(seq 90); do sleep {MARK}; done\n"}
    for name, run in steps.items():
        stage = {"files": ["word"]} if name == "lasting" else {}
        bench.project(name, build={"run": run, "program": "program"}, stage=stage)
    client = bench.client
    with client.started("build", client.folder / "lasting", "-o", bench.out("lasting")) as lasting:
        arguments: list[str | Path] = ["build", client.folder / "stopped", "-o", bench.out("stopped")]
        stopped = client.stopped(arguments, lambda: bool(steps_of_ours()), sign)
        was_running = lasting.poll() is None
        _, said = lasting.communicate(timeout=600)
    assert stopped.code == (130 if sign == signal.SIGINT else -signal.SIGKILL), stopped.stderr
    assert lasting.returncode == 0, f"{sign.name}: the other build failed:\n{said[-3000:]}"
    assert was_running, "the other build was over before the first was stopped"
    assert bench.file("lasting", "/word").strip() == word


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
    with record.keeping(local.client.service.engine.title, record.ONE_PROJECT) as said:
        once = f"{COMPILE}\nhead -c 16 /dev/urandom | od -An -tx1 >once\nsleep 1\n# {time.time()}\n"
        project = local.project("one", build={"run": once, "program": "program"}, stage={"files": ["once"]})
        done = _all_at_once(local, [(project, f"one-{number}") for number in range(EIGHT)])
        assert [run.code for run in done] == [0] * EIGHT, [run.stderr[-800:] for run in done if run.code]
        runs = len({local.file(f"one-{number}", "/once") for number in range(EIGHT)})
        said[:] = [f"{EIGHT} ended well, the step ran {'once' if runs == 1 else f'{runs} times'}"]
        assert runs == 1, "the step ran more than once"


def test_eight_projects_are_all_right(local: Bench) -> None:
    with record.keeping(local.client.service.engine.title, record.PROJECTS) as said:
        builds = []
        for number in range(EIGHT):
            run = f"{COMPILE}\necho {number} >number\n# {time.time()}\n"
            build = {"run": run, "program": "program"}
            builds.append((local.project(f"p{number}", build=build, stage={"files": ["number"]}), f"p{number}"))
        done = _all_at_once(local, builds)
        assert [run.code for run in done] == [0] * EIGHT, [run.stderr[-800:] for run in done if run.code]
        numbers = [local.file(f"p{number}", "/number").strip() for number in range(EIGHT)]
        right = sum(text == str(number) for number, text in enumerate(numbers))
        said[:] = [f"{right} of {EIGHT} right"]
        assert right == EIGHT, numbers
