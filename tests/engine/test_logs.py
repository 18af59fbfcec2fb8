"""The streams of real engines, recorded (Docker 20.10.24, Podman 4.3.1), and what is read out of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.api_engine import error_text
from orchestrator.engine.base import StepFailedError
from orchestrator.engine.build import step_failed
from orchestrator.engine.buildkit import BuildKitLog
from orchestrator.engine.classic import ClassicLog
from orchestrator.engine.podman_log import PodmanLog
from orchestrator.engine.steps import Steps
from orchestrator.errors import BuildStepError, EngineError, InputError, OrchestratorError
from orchestrator.events import StepFinished, StepStarted
from tests.support.engines import Events

RECORDINGS = Path(__file__).parent / "recordings"
Log = BuildKitLog | ClassicLog | PodmanLog
TWO = "RUN for i in $(seq 3)"


def replay(name: str, log: Callable[[Steps], Log]) -> tuple[Events, OrchestratorError | None]:
    """Feed a recording; the events, and the error that it ends with."""
    messages = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines() if line]
    return play(messages, log)


def play(messages: list[dict[str, Any]], log: Callable[[Steps], Log]) -> tuple[Events, OrchestratorError | None]:
    events = Events()
    steps = Steps(events)
    reader = log(steps)
    error = None
    for message in messages:
        if problem := error_text(message):
            error = reader.failure(problem)
            break
        reader.feed(message)
    steps.close(error="stopped" if error else "")
    started = [event.id for event in events.seen if isinstance(event, StepStarted)]
    finished = [event.id for event in events.seen if isinstance(event, StepFinished)]
    assert sorted(started) == sorted(finished)
    return events, error


@pytest.mark.parametrize(("name", "log"), [("buildkit-parallel", BuildKitLog), ("podman-parallel", PodmanLog)])
def test_steps_and_stages(name: str, log: Callable[[Steps], Log]) -> None:
    events, error = replay(name, log)
    assert error is None
    assert events.step("echo one-a").stage == "one"
    assert events.step("echo two-a").stage == "two"
    assert events.step("RUN cat /one").stage == "stage-2"
    assert events.output("RUN cat /one").splitlines() == ["x", "x"]
    assert events.output("RUN --mount").splitlines()[0] == "D"
    assert not any(e.cached for e in events.seen if isinstance(e, StepFinished) and e.id == events.step("one-a").id)


@pytest.mark.parametrize(("name", "log"), [("buildkit-cached", BuildKitLog), ("podman-cached", PodmanLog)])
def test_cached_steps(name: str, log: Callable[[Steps], Log]) -> None:
    events, error = replay(name, log)
    assert error is None
    for title in ("WORKDIR /w", "echo one-a", "echo two-a", "RUN --mount", "RUN cat /one"):
        assert events.finish(title).cached, title


@pytest.mark.parametrize(("name", "log"), [("buildkit-failure", BuildKitLog), ("classic-failure", ClassicLog)])
def test_failure_has_its_own_lines_only(name: str, log: Callable[[Steps], Log]) -> None:
    _, error = replay(name, log)
    assert isinstance(error, StepFailedError)
    assert (error.stage, error.status) == ("two", 3)
    assert error.instruction.startswith(TWO)
    lines = error.tail.splitlines()
    assert lines[:3] == ["two-1 x", "two-2 x", "two-3 x"]
    assert "err-two" in error.tail
    assert "one-" not in error.tail
    assert "\x1b" not in error.tail


def test_podman_failure_beside_another_stage_says_whose_lines_may_be_there() -> None:
    _, error = replay("podman-failure", PodmanLog)
    assert isinstance(error, StepFailedError)
    assert (error.stage, error.status) == ("two", 3)
    assert error.instruction.startswith(TWO)
    first, *lines = error.tail.splitlines()
    assert "stage one" in first
    assert [line for line in lines if line.startswith("two-")] == ["two-1 x", "two-2 x", "two-3 x"]
    assert "err-two" in lines[-1]


@pytest.mark.parametrize(("name", "log"), [("podman-one", PodmanLog), ("classic-one", ClassicLog)])
def test_single_stage_failure_is_exact(name: str, log: Callable[[Steps], Log]) -> None:
    _, error = replay(name, log)
    assert isinstance(error, StepFailedError)
    assert (error.stage, error.status, error.tail) == ("one", 7, "hello\npartial")


@pytest.mark.parametrize(("name", "log"), [("buildkit-no-base", BuildKitLog), ("podman-no-base", PodmanLog)])
def test_base_that_is_not_there(name: str, log: Callable[[Steps], Log]) -> None:
    _, error = replay(name, log)
    assert isinstance(error, InputError)
    assert "127.0.0.1:9/nope/img:1" in error.message
    assert "refuses connections" in error.message


def failure(text: str) -> dict[str, Any]:
    return {"errorDetail": {"message": text}, "error": text}


def test_podman_runtime_that_refuses_the_machine_is_an_engine_error() -> None:
    said = "error running container: from /usr/bin/crun creating container for [/bin/sh -c true]: cgroups in hybrid"
    _, error = play(
        [
            {"stream": "STEP 1/2: FROM base\n"},
            {"stream": "STEP 2/2: RUN true\n"},
            {"stream": f"{said} mode not supported, drop all controllers from cgroupv2\n: exit status 1\n"},
            failure('building at STEP "RUN true": while running runtime: exit status 1\n'),
        ],
        PodmanLog,
    )
    assert isinstance(error, EngineError)
    assert "hybrid" in error.message
    assert error.remedy


def test_podman_instruction_that_contains_the_text_of_an_error() -> None:
    title = 'RUN echo "x": exit status 9; exit 3'
    _, error = play(
        [
            {"stream": "STEP 1/2: FROM base AS only\n"},
            {"stream": f"STEP 2/2: {title}\n"},
            {"stream": "x: exit status 9\n"},
            failure(f'building at STEP "{title}": while running runtime: exit status 3\n'),
        ],
        PodmanLog,
    )
    assert isinstance(error, StepFailedError)
    assert (error.instruction, error.status) == (title, 3)


def test_podman_output_that_looks_like_the_engines() -> None:
    """What a step prints may look like Podman's own lines; it must not end the build or upset the reader."""
    printed = [
        "--> Using cache\n",
        "STEP 9/9: RUN rm -rf /\n",
        "COMMIT x\n",
        "Successfully built abc\n",
        "a" * 64 + "\n",
    ]
    _, error = play(
        [
            {"stream": "STEP 1/2: FROM base AS only\n"},
            {"stream": "STEP 2/2: RUN print\n"},
            *({"stream": text} for text in printed),
            {"stream": "still here\n"},
            failure('building at STEP "RUN print": while running runtime: exit status 3\n'),
        ],
        PodmanLog,
    )
    assert isinstance(error, StepFailedError)
    assert error.status == 3
    assert "still here" in error.tail


@pytest.mark.parametrize("log", [BuildKitLog, ClassicLog, PodmanLog])
def test_error_before_any_step(log: Callable[[Steps], Log]) -> None:
    _, error = play([failure("dockerfile parse error line 2: unknown instruction: RUNN")], log)
    assert isinstance(error, BuildStepError)
    assert "Containerfile" in error.message
    _, error = play([failure("something unheard of")], log)
    assert isinstance(error, BuildStepError)
    assert "something unheard of" in error.message


def test_trace_that_is_no_trace() -> None:
    for aux in ("!!!", "////", None, 7):
        with pytest.raises(EngineError):
            play([{"id": "moby.buildkit.trace", "aux": aux}], BuildKitLog)


def test_a_path_that_is_missing_is_no_fault_of_the_engine() -> None:
    events = Events()
    log = ClassicLog(Steps(events))
    log.feed({"stream": "Step 1/2 : FROM scratch\n"})
    log.feed({"stream": "Step 2/2 : COPY docs/cgroup.md /cgroup\n"})
    error = log.failure("COPY failed: file not found in build context: stat docs/cgroup.md: file does not exist")
    assert isinstance(error, StepFailedError)
    assert error.instruction.startswith("COPY docs/cgroup.md")


def test_a_log_that_was_cut_off_says_so() -> None:
    """Of a step of the user's own Dockerfile, which nothing of ours runs."""
    steps = Steps(Events())
    step = steps.start("a", stage="prover", title="RUN make")
    steps.output("a", "cc -c a.c\n[output clipped, log limit 1MiB reached]\n")
    error = step_failed(step, "RUN make", "exit code: 2", 2)
    assert error.tail.splitlines()[2].startswith("(BuildKit dropped the rest of the step's output: ")
