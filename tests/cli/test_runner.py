"""What a CI system reads of a log: its own commands from us, and from nobody else."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.cli.build_summary import cell
from orchestrator.cli.folded_progress import make_build_progress
from orchestrator.cli.runner_log import InertStream
from orchestrator.engine import select
from orchestrator.engine.base import StepFailedError
from orchestrator.events import Event, Notice, StepFinished, StepOutput, StepStarted
from tests.cli.conftest import cli
from tests.support.cli import orchestrator
from tests.support.fake_engine import FakeEngine, Scripted
from tests.support.packed import Packed, packed
from tests.support.without_engine import fake_engine

__all__ = ["packed"]
PROJECT = "name: p\nbase: debian:bookworm\nbuild: {run: make, program: program}\nnanos: {kernel: stub}\n"
ATTACKS = (
    "::error::pwned", "  ::stop-commands::x", "\u00a0::add-mask::e", "see ##[add-path]/tmp", "#\u200b#\u00ad[error]x",
    ":\u034f:set-env name=PATH::/tmp", "::endgroup::", "\x1b[0m::warning::x", "\r::notice::x",
)  # fmt: skip
BUILD = ("build", "project.yaml", "-o", "out", "--engine", "docker")


def commands_in(log: str) -> list[str]:
    """What GitHub's runner would take for a command, as lines without the characters that it passes over."""
    visible = [re.sub(r"[^!-~]", "", line) for line in re.split(r"[\n\r]", log)]
    return [line for line in visible if line.startswith("::") or "##[" in line]


@pytest.fixture
def project(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(here.parent / "cache"))
    for name in ("GITLAB_CI", "CI_PROJECT_DIR", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(here))
    (here / "project.yaml").write_text(PROJECT)
    return here / "project.yaml"


def attacking(text: str) -> list[Event]:
    """A step that says it wherever a step can say something."""
    return [
        StepStarted(id="1", stage=text, title=text),
        StepOutput(id="1", text=f"{text}\nfirst\n{text}"),
        Notice(text=f"{text}\n{text}", level="warning"),
        StepFinished(id="1", seconds=1.0, error=text),
    ]


@pytest.mark.parametrize("progress", ["plain", "json"])
@pytest.mark.usefixtures("project")
def test_nothing_from_outside_becomes_a_command(monkeypatch: pytest.MonkeyPatch, progress: str) -> None:
    events = [event for text in ATTACKS for event in attacking(text)]
    tail = "\n".join(ATTACKS)
    error = StepFailedError(tail, stage="program", instruction="RUN make", tail=tail, status=1)
    engine = FakeEngine(
        registry={"debian:bookworm": f"sha256:{'1' * 64}"}, builds=[Scripted(events=events, error=error)]
    )
    monkeypatch.setattr(select, "connect", lambda *_, **__: engine)
    ended = cli(*BUILD, "--progress", progress, "--json")
    assert ended.code == 5
    ours = [line for line in commands_in(ended.err) if not line.startswith("::group::") and line != "::endgroup::"]
    assert len(ours) == 1 and ours[0].startswith("::errorfile=project.yaml,line=3,title=build-step::build:")
    assert commands_in(ended.text) == []
    assert tail in ended.json()["detail"]  # in JSON it is the same text all the same
    assert ended.err.count("::group::") - ended.err.count("\\::group::") == ended.err.count("\n::endgroup::")


@pytest.mark.usefixtures("project")
def test_nor_does_a_word_of_the_command_line() -> None:
    assert commands_in(cli("build", "--jobs", "::error::x").err) == []
    assert commands_in(cli("check", "##[error]x").err)[1:] == []


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_nor_does_a_programs_own_output(size: int) -> None:
    """Whatever pieces it comes in. All of it comes through, but for the backslashes."""
    output = ("\n".join(ATTACKS) + "\nprompt: ::x::").encode("utf-8")
    stream = InertStream()
    pieces = [stream.feed(output[at : at + size]) for at in range(0, len(output), size)]
    shown = b"".join([*pieces, stream.finish()])
    assert commands_in(shown.decode()) == []
    assert shown.replace(b"\\", b"") == output
    long = b"x" * 200_000 + b"##[error]x\n::error::x"
    shown = stream.feed(long) + stream.finish()
    assert commands_in(shown.decode()) == [] and len(shown) >= len(long)


def test_a_rehearsed_program_gives_no_commands(packed: Packed) -> None:
    source = '#include <stdio.h>\nint main(void) { puts("::error::x"); printf("##[error]y"); return 0; }'
    image = packed.image(source)
    done = orchestrator("rehearse", image, env={"GITHUB_ACTIONS": "true"})
    assert done.code == 0, done.stderr
    assert done.stdout == "\\::error::x\n#\\#[error]y"


def test_what_separates_is_escaped(project: Path) -> None:
    folder = project.parent / "a,b:c%0Ad"
    folder.mkdir()
    (folder / "project.yaml").write_text(PROJECT + '"%0A::error::x,y:z": 1\n')
    ended = cli("check", folder)
    assert ended.code == 2
    (said,) = [line for line in ended.err.splitlines() if line.startswith("::")]
    place, text = said.removeprefix("::error ").split("::", 1)
    assert place == "file=a%2Cb%3Ac%250Ad/project.yaml,line=5,title=unknown-key"
    assert text.startswith("%250A::error::x,y:z: unknown key at the top level")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("annotations", "commands"), [("auto", 1), ("github", 1), ("gitlab", 0), ("none", 0)])
def test_the_option_decides(annotations: str, commands: int, here: Path) -> None:
    (here / "project.yaml").write_text(PROJECT + "env: {}\n")
    assert len(commands_in(cli("check", ".", "--annotations", annotations).err)) == commands
    assert (here / "gl-code-quality-report.json").exists() == (annotations == "gitlab")


def test_a_report_of_code_quality_keeps_what_other_projects_have(
    project: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_PROJECT_DIR", str(here))
    project.write_text(PROJECT + "env: {}\n")
    (here / "other").mkdir()
    (here / "other/project.yaml").write_text(PROJECT + "args: []\n")
    for name in ("other", "."):
        assert cli("check", name, "--annotations", "gitlab").code == 2
    rows = json.loads((here / "gl-code-quality-report.json").read_text())
    assert [row["location"]["path"] for row in rows] == ["other/project.yaml", "project.yaml"]
    project.write_text(PROJECT)
    assert cli("check", ".", "--annotations", "gitlab").code == 0
    rows = json.loads((here / "gl-code-quality-report.json").read_text())
    assert [row["location"]["path"] for row in rows] == ["other/project.yaml"]


def folded(events: Sequence[Event], folds: str = "github") -> list[str]:
    stream = io.StringIO()
    with make_build_progress("plain", folds, stream) as shown:
        for event in events:
            shown.emit(event)
    return stream.getvalue().splitlines()[:-1]


def test_steps_that_run_side_by_side_are_folded_one_after_the_other() -> None:
    assert folded([
        StepStarted(id="a", stage="s", title="A"), StepStarted(id="b", stage="s", title="B"),
        StepOutput(id="a", text="a1"), StepOutput(id="b", text="b1"), StepOutput(id="a", text="a2"),
        StepStarted(id="c", stage="s", title="C"), StepFinished(id="c", seconds=0.1),
        StepFinished(id="b", seconds=2, error="broken"), StepFinished(id="a", seconds=3),
        Notice(text="all is said"),
    ]) == [
        "::group::#1 [s] A", "#1 a1", "#1 a2", "#1 done 3.0s", "::endgroup::",
        "::group::#2 [s] B", "#2 b1", "::endgroup::", "#2 ERROR: broken 2.0s",
        "#3 [s] C: done 0.1s",
        "note: all is said",
    ]  # fmt: skip


def test_what_never_ended_is_shown_and_closed() -> None:
    events = [StepStarted(id=key, stage="s", title=key) for key in "ab"]
    lines = folded([*events, *(StepOutput(id=key, text="x") for key in "ab"), Notice(text="end")])
    assert lines == [
        "::group::#1 [s] a", "#1 x", "note: end", "::endgroup::", "::group::#2 [s] b", "#2 x", "::endgroup::",
    ][: len(lines)]  # fmt: skip


@pytest.mark.usefixtures("project")
def test_a_summary_that_cannot_be_written_fails_nothing(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    subprocess.run(["gcc", "-x", "c", "-", "-o", program], input="int main(void) { return 0; }", text=True, check=True)
    engine = fake_engine(program.read_bytes())
    monkeypatch.setattr(select, "connect", lambda *_, **__: engine)
    ended = cli(*BUILD, "--summary", here)
    assert ended.code == 0
    assert "warning: failed to write the summary to" in ended.err


def test_no_text_is_markup_in_a_summary() -> None:
    assert cell("a|b\n`c` <img src=x> **d** [e](f) \\g @h\x1b") == (
        "a&#124;b &#96;c&#96; &#60;img src=x&#62; &#42;&#42;d&#42;&#42; &#91;e&#93;(f) &#92;g &#64;h&#92;x1b"
    )
    assert len(cell("x" * 10_000)) == 600
