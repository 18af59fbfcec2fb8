"""Docker's classic builder, for daemons without BuildKit, on the real daemon."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from orchestrator.engine.base import Engine, StepFailedError
from orchestrator.engine.select import connect
from orchestrator.events import ignore
from tests.support.engines import Events, docker_engine, ensure_base, request

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def classic() -> Iterator[Engine]:
    """The same Docker, asked to use its classic builder."""
    with docker_engine() as buildkit, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_BUILDKIT", "0")
        engine = connect(buildkit.info.endpoint)
        ensure_base(engine)
        yield engine
        for leftover in engine.leftovers():
            if leftover.build_id.startswith("test-classic-"):
                engine.remove(leftover)
        engine.close()


def test_builds_and_caches(classic: Engine) -> None:
    assert (classic.info.builder, classic.capabilities.mounts) == ("classic", False)
    build_id = f"test-classic-{secrets.token_hex(6)}"
    base = ensure_base(classic)
    text = f"FROM {base} AS one\nRUN echo {build_id} > /x\nFROM {base}\nCOPY --from=one /x /y\nRUN cat /y\n"
    first, second = Events(), Events()
    image = classic.build(request(text, build_id), first)
    assert first.output("RUN cat /y") == build_id
    assert first.step("RUN cat /y").stage == "stage-1"
    assert not first.finish("RUN cat /y").cached
    assert classic.build(request(text, build_id), second) == image
    assert second.finish("RUN cat /y").cached


def test_failing_step(classic: Engine) -> None:
    build_id = f"test-classic-{secrets.token_hex(6)}"
    text = f"FROM {ensure_base(classic)} AS only\nRUN echo last words {build_id}; exit 6\n"
    with pytest.raises(StepFailedError) as caught:
        classic.build(request(text, build_id), ignore)
    assert (caught.value.stage, caught.value.status) == ("only", 6)
    assert caught.value.tail == f"last words {build_id}"
