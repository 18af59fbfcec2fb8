"""The same builds on Docker and on Podman, for real."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator

import pytest

from orchestrator.engine.base import BuildRequest, Engine, StepFailedError
from orchestrator.engine.probe import try_step
from orchestrator.errors import BuildStepError, InputError, OrchestratorError
from orchestrator.events import StepFinished, StepOutput, StepProgress, StepStarted, ignore
from tests.support.engines import Events, context, request


@pytest.fixture
def build_id(engine: Engine) -> Iterator[str]:
    """A build's id; what carries it is removed afterwards."""
    identity = f"test-{secrets.token_hex(6)}"
    yield identity
    for leftover in engine.leftovers():
        if leftover.build_id == identity:
            engine.remove(leftover)


def test_the_step_that_doctor_tries(engine: Engine) -> None:
    before = {item.id for item in engine.leftovers()}
    try_step(engine)
    assert {item.id for item in engine.leftovers()} == before


def test_stages_run_in_parallel(engine: Engine, base_image: str, build_id: str) -> None:
    events = Events()
    text = f"""\
FROM {base_image} AS one
RUN echo {build_id} > /one; sleep 3
FROM {base_image} AS two
RUN echo {build_id} > /two; sleep 3
FROM {base_image}
COPY --from=one /one /one
COPY --from=two /two /two
RUN cat /one /two > /both
"""
    image = engine.build(request(text, build_id), events)
    assert image.startswith("sha256:")
    assert engine.image_digest(image) is not None
    one, two = events.step("> /one"), events.step("> /two")
    assert (one.stage, two.stage) == ("one", "two")
    ended = events.seen.index(events.finish("> /one"))
    assert events.seen.index(two) < ended, "stage two began only after stage one had ended"
    assert events.seen.index(one) < events.seen.index(events.finish("> /two"))


def test_second_build_comes_from_the_cache(engine: Engine, base_image: str, build_id: str) -> None:
    text = f"FROM {base_image}\nRUN echo slow {build_id} > /slow\n"
    first, second, third = Events(), Events(), Events()
    image = engine.build(request(text, build_id), first)
    assert not first.finish("RUN echo slow").cached
    assert engine.build(request(text, build_id), second) == image
    assert second.finish("RUN echo slow").cached
    engine.build(request(text, build_id, no_cache=True), third)
    assert not third.finish("RUN echo slow").cached


def test_events_tell_of_every_step(engine: Engine, base_image: str, build_id: str) -> None:
    events = Events()
    text = (
        f"FROM {base_image} AS only\nRUN echo first {build_id}; sleep 0.5; echo second >&2; sleep 0.5; printf third\n"
    )
    engine.build(request(text, build_id), events)
    assert events.output("RUN echo first").splitlines() == [f"first {build_id}", "second", "third"]
    started = {event.id for event in events.seen if isinstance(event, StepStarted)}
    finished = [event.id for event in events.seen if isinstance(event, StepFinished)]
    assert sorted(finished) == sorted(started), "every step that started ended, once"
    assert {e.id for e in events.seen if isinstance(e, StepOutput | StepProgress)} <= started
    assert any(isinstance(e, StepProgress) and e.id == "context" and e.done > 0 for e in events.seen)


def test_bind_and_cache_mounts(engine: Engine, base_image: str, build_id: str) -> None:
    cache = f"target=/cache,id={build_id}"
    text = f"""\
FROM {base_image}
RUN --mount=type=bind,source=input.txt,target=/input.txt --mount=type=cache,{cache} cat /input.txt > /cache/kept
RUN --mount=type=cache,{cache} cat /cache/kept
RUN ls /cache /input.txt 2>&1 || true
"""
    events = Events()
    engine.build(request(text, build_id, files={"input.txt": "from the context\n"}), events)
    assert events.output(f"RUN --mount=type=cache,{cache} cat") == "from the context"
    assert "kept" not in events.output("RUN ls")


def test_arguments_and_target(engine: Engine, base_image: str, build_id: str) -> None:
    text = f"FROM {base_image} AS wanted\nARG WORD\nRUN echo got $WORD\nFROM {base_image}\nRUN exit 9\n"
    asked = request(text, build_id)
    events = Events()
    engine.build(
        BuildRequest(
            context=asked.context,
            containerfile=asked.containerfile,
            tag=asked.tag,
            build_id=build_id,
            target="wanted",
            build_args={"WORD": f"'{build_id} with spaces'"},
        ),
        events,
    )
    assert f"{build_id} with spaces" in events.output("RUN echo got")


def test_steps_have_network(engine: Engine, base_image: str, build_id: str) -> None:
    events = Events()
    engine.build(request(f"FROM {base_image}\nRUN cat /proc/net/route\n", build_id, no_cache=True), events)
    routes = events.output("RUN cat").splitlines()[1:]
    assert any(line.split()[1] == "00000000" for line in routes), "no default route in a build step"


def test_failing_step(engine: Engine, base_image: str, build_id: str) -> None:
    text = f"""\
FROM {base_image} AS good
RUN echo fine > /good
FROM {base_image} AS bad
COPY --from=good /good /good
RUN echo before {build_id}; sleep 0.5; echo {build_id} complaint >&2; exit 3
FROM {base_image}
COPY --from=bad /good /good
"""
    with pytest.raises(StepFailedError) as caught:
        engine.build(request(text, build_id), ignore)
    failed = caught.value
    assert (failed.stage, failed.status, failed.exit_code) == ("bad", 3, 5)
    assert failed.instruction.startswith(f"RUN echo before {build_id}")
    assert failed.tail.splitlines() == [f"before {build_id}", f"{build_id} complaint"]
    assert "bad" in failed.message
    assert "3" in failed.message


def test_failure_beside_a_stage_that_goes_on(engine: Engine, base_image: str, build_id: str) -> None:
    text = f"""\
FROM {base_image} AS long
RUN echo long {build_id}; sleep 600
FROM {base_image} AS bad
RUN sleep 2; echo last words {build_id}; exit 4
FROM {base_image}
COPY --from=long /long /long
COPY --from=bad /bad /bad
"""
    began = time.monotonic()
    with pytest.raises(StepFailedError) as caught:
        engine.build(request(text, build_id), ignore)
    assert (caught.value.stage, caught.value.status) == ("bad", 4)
    assert f"last words {build_id}" in caught.value.tail
    assert time.monotonic() - began < 120, "waited for the other stage"


def test_huge_output_keeps_its_end(engine: Engine, base_image: str, build_id: str) -> None:
    text = f"FROM {base_image}\nRUN seq 400000; echo the end {build_id}; exit 2\n"
    with pytest.raises(StepFailedError) as caught:
        engine.build(request(text, build_id), ignore)
    tail = caught.value.tail.splitlines()
    assert 100 <= len(tail) <= 220
    # BuildKit clips past 1 MiB, but sends the last lines of a step that failed.
    assert tail[-2:] == ["400000", f"the end {build_id}"]


@pytest.mark.parametrize("text", ["", "RUNN true\n", "FROM scratch\nFOO bar\n", "RUN true\n"])
def test_bad_containerfile(engine: Engine, base_image: str, build_id: str, text: str) -> None:
    with pytest.raises(BuildStepError) as caught:
        engine.build(request(text, build_id), ignore)
    assert "Containerfile" in caught.value.message
    assert caught.value.remedy


def test_missing_source_of_a_copy(engine: Engine, base_image: str, build_id: str) -> None:
    with pytest.raises(StepFailedError) as caught:
        engine.build(request(f"FROM {base_image}\nCOPY not-there.txt /x\n", build_id), ignore)
    assert "not-there.txt" in caught.value.instruction
    assert caught.value.status is None


def test_base_that_no_registry_has(engine: Engine, build_id: str) -> None:
    reference = "127.0.0.1:9/nobody/nothing:1"
    with pytest.raises(InputError) as caught:
        engine.build(request(f"FROM {reference}\nRUN true\n", build_id), ignore)
    assert reference in caught.value.message
    assert "refuse" in caught.value.message
    assert caught.value.remedy


def test_two_builds_at_once(engine: Engine, base_image: str, build_id: str) -> None:
    images: dict[str, str] = {}
    events = {name: Events() for name in ("a", "b")}

    def build(name: str) -> None:
        text = f"FROM {base_image}\nRUN for i in 1 2 3; do echo {name}-$i {build_id}; sleep 0.3; done\n"
        asked = BuildRequest(
            context=context({"Containerfile": text}),
            containerfile="Containerfile",
            tag=f"localhost/orchestrator-test:{build_id}-{name}",
            build_id=build_id,
        )
        images[name] = engine.build(asked, events[name])

    threads = [threading.Thread(target=build, args=(name,)) for name in events]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert images["a"] != images["b"]
    for name, seen in events.items():
        assert seen.output("RUN for").splitlines() == [f"{name}-{i} {build_id}" for i in (1, 2, 3)]


def test_context_that_fails_is_its_own_error(engine: Engine, base_image: str, build_id: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield context({"Containerfile": f"FROM {base_image}\n"})[0][:512]
        raise InputError("input.txt vanished", remedy="put it back")

    asked = BuildRequest(
        context=chunks(),
        containerfile="Containerfile",
        tag=f"localhost/orchestrator-test:{build_id}",
        build_id=build_id,
    )
    with pytest.raises(OrchestratorError, match=r"input\.txt vanished"):
        engine.build(asked, ignore)


def test_built_images_carry_our_label(engine: Engine, base_image: str, build_id: str) -> None:
    image = engine.build(request(f"FROM {base_image}\nRUN echo {build_id} > /x\n", build_id), ignore)
    mine = [leftover for leftover in engine.leftovers() if leftover.build_id == build_id]
    (named,) = (item for item in mine if item.name)
    assert (named.kind, named.id) == ("image", image)
    assert build_id in named.name
    assert named.size > 0
    # Podman's list has the layers that the image is made of as well.
    for item in [named, named, *(item for item in reversed(mine) if item is not named)]:
        engine.remove(item)
    assert [leftover for leftover in engine.leftovers() if leftover.build_id == build_id] == []
    assert engine.image_digest(image) is None
