"""`build --shell-on-failure`: the state before the failed step, on a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.engine.base import Engine
from orchestrator.label import BASE, CACHE
from orchestrator.project.containerfile import text_before
from tests.build.projects import write_project
from tests.support.cli import ROOT, orchestrator
from tests.support.terminal import on_a_terminal


def test_a_shell_in_the_state_before_the_failed_step(engine: Engine, tmp_path: Path) -> None:
    run = "echo half done >half\nfalse\n"
    project = write_project(tmp_path, build={"run": run, "program": "program"})
    before = {left.build_id for left in engine.leftovers()}
    command = ("build", project, "-o", tmp_path / "out", "--engine", engine.info.endpoint, "--shell-on-failure")
    with on_a_terminal(*command) as terminal:
        terminal.until("# ")
        terminal.type("echo in $PWD with $(ls | tr '\\n' ' '); exit 3\n")
        code = terminal.end()
    said = terminal.said.replace("\r", "")
    assert "in /build with program.c\n" in said, said
    assert "build.run: the build step failed with status 1" in "".join(said.split("\n"))
    assert code == 5
    # The base stays, and so do the layers of the steps that did not fail.
    assert {left.build_id for left in engine.leftovers()} <= before | {BASE, CACHE}


def test_it_needs_a_terminal(tmp_path: Path) -> None:
    done = orchestrator("build", "--shell-on-failure", ROOT / "examples/hello/project.yaml")
    assert (done.code, "--shell-on-failure needs a terminal" in done.stderr) == (2, True), done.stderr


TEXT = """\
FROM base AS one
RUN make
FROM base
RUN --mount=type=secret,id=word \\
    # a comment
    make  \\
      all
COPY --from=one /a /b
RUN <<END
make
END
"""


@pytest.mark.parametrize(
    ("stage", "instruction", "ends"),
    [
        ("one", "RUN make", "FROM base AS one\n"),
        ("stage-1", "RUN --mount=type=secret,id=word     make        all", "FROM base\n"),
        ("1", "RUN make all", "FROM base\n"),
        ("", "COPY --from=one /a /b", "      all\n"),
        ("two", "RUN make", None),
        ("one", "RUN make all", None),
        ("stage-1", "RUN make", None),
    ],
)
def test_what_stands_before_a_step(stage: str, instruction: str, ends: str | None) -> None:
    before = text_before(TEXT, stage, instruction)
    assert before is None if ends is None else before is not None and before.endswith(ends)
    assert before is None or TEXT.startswith(before)
