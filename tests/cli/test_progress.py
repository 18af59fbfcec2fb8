"""What a build shows: short, each warning once, cached steps counted, fitted to the terminal."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import re
import struct
import termios
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import pytest
from pydantic import TypeAdapter

from orchestrator.cli import event_lines
from orchestrator.cli.progress import PlainProgress, make_progress
from orchestrator.events import Event, Notice, StepFinished, StepOutput, StepProgress, StepStarted
from tests.cli.conftest import cli
from tests.support.cli import ROOT

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WARNING = Notice(text="registry.example could not be reached", level="warning")


def step(key: str, title: str = "", *, cached: bool = False, error: str = "", output: str = "") -> list[Event]:
    events: list[Event] = [StepStarted(id=key, stage="program", title=title or f"RUN {key}")]
    events += [StepOutput(id=key, text=output)] if output else []
    return [*events, StepFinished(id=key, seconds=0.2, cached=cached, error=error)]


def plain(events: Sequence[Event]) -> list[str]:
    stream = io.StringIO()
    with make_progress("plain", stream) as shown:
        for event in events:
            shown.emit(event)
    return stream.getvalue().splitlines()


def on_terminal(events: Sequence[Event], columns: int, pause: Callable[[], None] = lambda: None) -> str:
    """All that a terminal of so many columns receives."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    pieces: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(master, 65536):
                pieces.append(data)
        except OSError:
            return  # a closed terminal

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(slave, "w") as stream, make_progress("tty", stream) as shown:
        for event in events:
            shown.emit(event)
            pause()
    reader.join()
    os.close(master)
    return b"".join(pieces).decode()


def test_plain_numbers_steps_and_gives_a_short_one_a_single_line() -> None:
    lines = plain([*step("a"), *step("b", output="one\ntwo")])
    assert lines[:5] == [
        "#1 [program] RUN a: done 0.2s",
        "#2 [program] RUN b",
        "#2 one",
        "#2 two",
        "#2 done 0.2s",
    ]
    assert re.fullmatch(r"2 steps, \d+\.\ds", lines[5])


def test_cached_steps_are_one_count() -> None:
    lines = plain([event for number in range(30) for event in step(str(number), cached=True)])
    assert len(lines) == 1
    assert lines[0].startswith("30 steps, 30 cached, ")


def test_what_only_sets_the_scene_is_left_out_unless_it_fails() -> None:
    assert len(plain(step("a", "FROM debian AS program") + step("b", "ENV A=b"))) == 1
    assert "ERROR: no such image" in plain(step("a", "FROM debian AS program", error="no such image"))[0]


def test_a_warning_is_shown_once() -> None:
    assert plain([WARNING, WARNING, WARNING]) == ["warning: registry.example could not be reached"]


def test_mounts_are_not_shown() -> None:
    assert plain(step("a", "RUN --mount=type=bind,source=x,target=/y   sh -e   z"))[0].startswith(
        "#1 [program] RUN sh -e z:"
    )


def test_a_silent_step_is_announced_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainProgress, "HOLD", 0.02)
    stream = io.StringIO()
    with make_progress("plain", stream) as shown:
        shown.emit(StepStarted(id="a", stage="program", title="RUN sleep 1000"))
        for _ in range(500):
            if stream.getvalue():
                break
            time.sleep(0.01)
        assert stream.getvalue() == "#1 [program] RUN sleep 1000\n"


@pytest.mark.parametrize("raised", [True, False])
def test_a_failed_build_has_no_total(raised: bool) -> None:
    stream = io.StringIO()
    with contextlib.suppress(ValueError), make_progress("plain", stream) as shown:
        for event in step("a", error="exit status 1"):
            shown.emit(event)
        if raised:
            raise ValueError("stop")
        shown.failed = True
    assert stream.getvalue() == "#1 [program] RUN a: ERROR: exit status 1 0.2s\n"


def test_json_is_one_object_a_line() -> None:
    stream = io.StringIO()
    with make_progress("json", stream) as shown:
        for event in [*step("a", output="x\ny"), WARNING, WARNING]:
            shown.emit(event)
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [row.pop("version") for row in rows] == [1] * 5
    assert all(row.pop("time") > 1.7e9 for row in rows)
    assert rows == [
        {"event": "step-started", "id": "a", "stage": "program", "title": "RUN a"},
        {"event": "step-output", "id": "a", "text": "x\ny"},
        {"event": "step-finished", "id": "a", "status": "done", "seconds": 0.2, "error": ""},
        *([{"event": "notice", "level": "warning", "text": WARNING.text}] * 2),
    ]


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"cached": True}, "cached", ""),
        ({"error": "exit status 1: \udcff"}, "failed", "exit status 1: \udcff"),
        ({"error": "interrupted"}, "stopped", ""),
        ({"error": "stopped"}, "stopped", ""),
    ],
)
def test_json_says_how_a_step_ended(fields: dict[str, Any], status: str, error: str) -> None:
    stream = io.StringIO()
    with make_progress("json", stream) as shown:
        shown.emit(StepFinished(id="a", seconds=1.23456, **fields))
    row = json.loads(stream.getvalue())
    assert (row["status"], row["error"], row["seconds"]) == (status, error, 1.235)


@pytest.mark.parametrize(
    "event",
    [
        *step("a", output="x\ny"), StepFinished(id="a", seconds=1.0, cached=True), *step("b", error="status 1"),
        StepFinished(id="c", seconds=1.0, error="stopped"), StepProgress(id="a", done=1, total=0, unit="B"), WARNING,
    ],
    ids=repr,
)  # fmt: skip
def test_a_line_says_the_whole_event(event: Event) -> None:
    line = json.dumps(event_lines.line_of(event).model_dump())
    assert event_lines.event_of(line) == event


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"event": "step-skipped", "id": "a"}', "[" * 100_000])
def test_what_is_no_event_is_none(line: str) -> None:
    assert event_lines.event_of(line) is None


def test_an_event_with_a_name_that_is_no_text() -> None:
    line = json.dumps(event_lines.line_of(StepOutput(id="a", text="no \udcff")).model_dump())
    assert event_lines.event_of(line) == StepOutput(id="a", text="no ?")


def test_the_events_page_and_schema_are_of_the_lines() -> None:
    """The page is what `make docs` writes, and what it shows as an example is such a line."""
    text = (ROOT / "docs/events.md").read_text()
    assert text == event_lines.markdown()
    examples = [line.strip() for line in text.splitlines() if line.startswith("    {")]
    for example in examples:
        line: Any = TypeAdapter(event_lines.EventLine).validate_json(example)
        assert line.model_dump() == json.loads(example)
    assert len(examples) == 3
    ended = cli("schema", "events")
    definitions = json.loads(ended.out)["$defs"]
    assert {row["properties"]["event"]["const"] for row in definitions.values()} == {
        "step-started", "step-output", "step-progress", "step-finished", "notice",
    }  # fmt: skip
    assert all(key["description"] for row in definitions.values() for key in row["properties"].values())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build runner's environment names no terminal; these tests bring one."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("columns", [40, 100])
def test_a_terminal_gets_finished_steps_that_fit(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))  # rich asks the process's own stdin, stdout or stderr
    long = "x" * 300
    events = [
        *step("a", "RUN gcc " + long), *step("b", cached=True), WARNING, WARNING,
        *step("c", error="exit status 1"), *step("d", error="stopped"),
    ]  # fmt: skip
    lines = [line for line in re.split(r"\r?\n", ANSI.sub("", on_terminal(events, columns))) if line.strip()]
    assert all(len(line.split("\r")[-1]) <= columns for line in lines)
    text = "\n".join(lines)
    assert "✓ [program] RUN gcc xxx" in text
    assert "…  0.2s" in text
    assert "RUN b" not in text
    assert "✗ [program] RUN c  0.2s" in text
    assert "- [program] RUN d  0.2s" in text
    assert "4 steps, 1 cached" in text
    assert "".join(text.split()).count("couldnotbereached") == 1


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_what_runs() -> None:
    events: list[Event] = [StepStarted(id=str(key), stage="program", title=f"RUN {key}") for key in range(3)]
    events += [StepOutput(id="0", text="first\n" + "y" * 500), StepProgress(id="1", done=1024, total=2048)]
    text = ANSI.sub("", on_terminal(events, 60, pause=lambda: time.sleep(0.2)))
    for expected in ("• [program] RUN 0", "• [program] RUN 2", "    first", "yyy…", "━─", "  1.0 KiB of 2.0 KiB"):
        assert expected in text


def test_what_is_printed_does_not_wait_for_what_is_drawn() -> None:
    """Two locks, ours and rich's, taken in either order: within seconds a build hung for ever."""

    def build() -> None:
        with make_progress("tty", _Terminal()) as shown:
            until = time.monotonic() + 3
            number = 0
            while time.monotonic() < until:
                number += 1
                for event in (*step(str(number), "RUN make"), Notice(text=f"note {number}")):
                    shown.emit(event)

    building = threading.Thread(target=build, daemon=True)
    building.start()
    building.join(30)
    assert not building.is_alive()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "name", "kind"),
    [(True, "xterm", "TtyProgress"), (True, "dumb", "PlainProgress"), (False, "xterm", "PlainProgress")],
)
@pytest.mark.parametrize("asked", ["auto", "tty"])
def test_auto(monkeypatch: pytest.MonkeyPatch, asked: str, terminal: bool, name: str, kind: str) -> None:
    monkeypatch.setenv("TERM", name)
    stream: TextIO = _Terminal() if terminal else io.StringIO()
    assert type(make_progress(asked, stream)).__name__ == kind
