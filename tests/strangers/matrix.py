"""Projects of strangers, from `init` to the right answer: `make test-strangers`, of which the results are
docs/strangers.md. Not a part of `make test`: compiling them takes half an hour.

A stranger is a folder beside this file: sources, and a stranger.yaml that says what its program answers.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.engine.base import Engine
from tests.strangers.page import PAGE, RESULTS, Result, markdown
from tests.strangers.services import SERVICES, Ground, Service
from tests.strangers.stranger import STRANGERS, Stranger
from tests.support import engines
from tests.support.cli import orchestrator

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def builder() -> Iterator[Engine]:
    """One engine for all, a private Podman or with ENGINE=docker Docker: what differs, other tests ask."""
    with engines.docker_engine() if os.environ.get("ENGINE") == "docker" else engines.podman_engine() as engine:
        yield engine


@pytest.fixture(scope="module", autouse=True)
def page() -> Iterator[None]:
    """The page of the results: the last ones of this checkout, and where it has none what the page had."""
    yield
    results = {stranger.name: result for stranger in STRANGERS if (result := Result.read(stranger.name))}
    PAGE.write_text(markdown(STRANGERS, results, PAGE.read_text() if PAGE.is_file() else ""))


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger.name)
def test_the_answer_is_right(stranger: Stranger, builder: Engine, tmp_path: Path) -> None:
    sources = stranger.copy_to(tmp_path / stranger.name)
    ground = Ground(sources=sources, folder=tmp_path / "service", engine=builder)
    ground.folder.mkdir()
    with ExitStack() as stack:
        services = [stack.enter_context(SERVICES[name](ground)) for name in stranger.services]
        result = try_stranger(stranger, sources, builder, services)
    RESULTS.mkdir(parents=True, exist_ok=True)
    result.write()
    shutil.rmtree(tmp_path / stranger.name)


def try_stranger(stranger: Stranger, sources: Path, engine: Engine, services: list[Service]) -> Result:
    """`init`, `build`, `verify`, `rehearse` in a stranger's directory."""
    words = {name: text for service in services for name, text in service.words.items()}
    env = {name: text for service in services for name, text in service.env.items()}
    stranger.fill(sources, words)
    here = sources / stranger.directory
    if not stranger.by_hand:
        made = orchestrator("init", cwd=here)
        assert made.code == 0, made.stderr
    lines = stranger.edit(here / "project.yaml", words)
    began = time.monotonic()
    built = orchestrator("build", "--engine", engine.info.endpoint, cwd=here, env=env, timeout=3600)
    seconds = time.monotonic() - began
    assert built.code == 0, built.stderr[-6000:]
    image = here / built.stdout.splitlines()[-1]
    verified = orchestrator("verify", image)
    assert verified.code == 0, verified.stdout
    rehearsed = orchestrator("rehearse", image)
    assert rehearsed.code == 0, rehearsed.stderr
    assert stranger.expected(words) in rehearsed.stdout.splitlines(), rehearsed.stdout
    receipt = json.loads(image.with_suffix(".receipt.json").read_text())
    return Result.of(stranger, receipt, lines=lines, seconds=seconds)
