"""What is on the screen of a terminal while a build runs, as a terminal emulator draws it."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyte
import pytest

from orchestrator.cli.console import say
from orchestrator.cli.progress import make_progress
from orchestrator.cli.shown_steps import Progress
from orchestrator.cli.transfers import Transfer
from orchestrator.cli.tty_progress import TtyProgress
from orchestrator.events import Event, Notice, StepFinished, StepOutput, StepProgress, StepStarted


class Terminal:
    """A terminal whose screen can be read, and made larger or smaller."""

    def __init__(self, columns: int, lines: int) -> None:
        self.received = b""
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._master, slave = os.openpty()
        self.file = os.fdopen(slave, "w", encoding="utf-8")
        self._size(columns, lines)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def rows(self) -> list[str]:
        """The screen's lines, but for empty ones at the end."""
        with self._lock:
            rows = [row.rstrip() for row in self._screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def resize(self, columns: int, lines: int) -> None:
        with self._lock:
            self._screen.resize(lines, columns)
            self._size(columns, lines)

    def wait_for(self, pattern: str) -> list[str]:
        """The rows once one of them matches."""
        until = time.monotonic() + 20
        while True:
            rows = self.rows
            if any(re.search(pattern, row) for row in rows):
                return rows
            assert time.monotonic() < until, rows
            time.sleep(0.01)

    def close(self) -> None:
        self.file.close()
        self._reader.join()
        os.close(self._master)

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                with self._lock:
                    self.received += data
                    self._stream.feed(data)
        except OSError:
            return  # a closed terminal


@contextmanager
def shown_on(columns: int, lines: int = 24) -> Iterator[tuple[Terminal, Progress]]:
    """A build's progress on a terminal; both end with the context."""
    terminal = Terminal(columns, lines)
    try:
        with make_progress("tty", terminal.file) as shown:
            yield terminal, shown
    finally:
        terminal.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(TtyProgress, "INTERVAL", 0.02)


def start(key: str, output: str = "") -> list[Event]:
    events: list[Event] = [StepStarted(id=key, stage=key, title=f"RUN make {key}")]
    return [*events, StepOutput(id=key, text=output)] if output else events


def emit(shown: Progress, *events: Event) -> None:
    for event in events:
        shown.emit(event)


OUTPUT = "\n".join(f"cc -c {number}.c" for number in range(40))


def test_stages_stand_side_by_side_with_their_last_lines() -> None:
    with shown_on(120) as (terminal, shown):
        emit(shown, *start("one", OUTPUT), *start("two", OUTPUT))
        rows = terminal.wait_for("39.c.*39.c")
        assert re.fullmatch(r"• \[one\] RUN make one  \d\.\ds +• \[two\] RUN make two  \d\.\ds", rows[0])
        assert [row.split() for row in rows[1:]] == [["cc", "-c", f"{n}.c"] * 2 for n in range(34, 40)]


def test_a_small_terminal_shows_every_stage_and_less_of_each() -> None:
    with shown_on(40, 8) as (terminal, shown):
        emit(shown, *(event for key in ("one", "two", "three") for event in start(key, OUTPUT)))
        rows = terminal.wait_for("three")
        assert len(rows) < 8
        assert [row for row in rows if row.startswith("•")] == [row for row in rows if "RUN make" in row]
        assert sum(row.startswith("•") for row in rows) == 3
        emit(shown, *(event for key in "abcdefgh" for event in start(key)))
        terminal.wait_for(r"and 8 more")


def test_what_is_finished_stays_when_the_terminal_changes() -> None:
    """Narrower than what is drawn, and wide again: no row is left over, no finished step is lost."""
    with shown_on(100, 12) as (terminal, shown):
        emit(shown, *start("a"), StepFinished(id="a", seconds=1.0), *start("long", "x" * 300), Notice(text="read this"))
        terminal.wait_for("xxx")
        for columns in (40, 30, 100):
            terminal.resize(columns, 12)
            wanted = ["✓ [a] RUN make a  1.0s", "note: read this", f"    {'x' * (columns - 6)}…"]
            terminal.wait_for(f"x{{{columns - 6}}}…")
            rows = terminal.rows
            assert [row for row in rows if "•" not in row and "step" not in row] == wanted
            assert sum("•" in row for row in rows) == 1
        emit(shown, StepFinished(id="long", seconds=1.0))
        terminal.wait_for(r"✓ \[long\]")
    assert terminal.rows[2] == "✓ [long] RUN make long  1.0s"


def test_what_others_write_to_stderr_goes_above(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(60, 12)
    monkeypatch.setattr(sys, "stderr", terminal.file)
    with make_progress("tty") as shown:
        emit(shown, *start("a", "compiling"))
        terminal.wait_for("compiling")
        say("warning: of someone else")
        print("half", end="", file=sys.stderr)
        assert terminal.wait_for("of someone")[0] == "warning: of someone else"
    assert sys.stderr is terminal.file
    say("after it")
    terminal.wait_for("after it")
    assert terminal.rows == ["warning: of someone else", "half", "after it"]
    monkeypatch.undo()
    terminal.close()


def test_the_last_line_says_whether_it_failed() -> None:
    for failed, mark in ((False, "✓"), (True, "✗")):
        with shown_on(60) as (terminal, shown):
            emit(shown, *start("a"), StepFinished(id="a", seconds=1.0, error="status 1" if failed else ""))
            shown.failed = failed
        assert re.fullmatch(rf"{mark} 1 step, \d\.\ds", terminal.rows[-1])


def test_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = re.compile(rb"\x1b\[[0-9;]*3[0-7]")
    for no_colour in (False, True):
        if no_colour:
            monkeypatch.setenv("NO_COLOR", "1")
        with shown_on(60) as (terminal, shown):
            emit(shown, *start("a"), StepProgress(id="a", done=1, total=2), Notice(text="careful", level="warning"))
            terminal.wait_for("50%|1 B of 2 B")
        assert (coloured.search(terminal.received) is None) == no_colour


def test_a_terminal_without_unicode() -> None:
    terminal = Terminal(60, 12)
    terminal.file.reconfigure(encoding="latin-1")
    with make_progress("tty", terminal.file) as shown:
        emit(shown, *start("a"), StepProgress(id="a", done=1, total=2))
        terminal.wait_for(r"=.*-  1 B of 2 B")
        emit(shown, StepFinished(id="a", seconds=1.0))
    terminal.close()
    terminal.received.decode("ascii")


@pytest.mark.parametrize(
    ("seconds", "done", "width", "expected"),
    [
        (0.1, 0, 70, "0 B of 100.0 MiB"),
        (2.0, 20, 70, "20.0 MiB of 100.0 MiB  10.0 MiB/s  8s left"),
        (2.0, 20, 36, "20%  10.0 MiB/s  8s"),
        (2.0, 1, 70, "1.0 MiB of 100.0 MiB  512.0 KiB/s  3m18s left"),
        (2.0, 100, 70, "100.0 MiB of 100.0 MiB  50.0 MiB/s"),
    ],
)
def test_a_transfer(seconds: float, done: int, width: int, expected: str) -> None:
    now = [100.0]
    transfer = Transfer(lambda: now[0])
    for share in range(11):
        now[0] = 100.0 + seconds * share / 10
        transfer.take(StepProgress(id="a", done=done * share * (1 << 20) // 10, total=100 << 20))
    line = transfer.line(width).plain
    assert line.endswith(f"  {expected}")
    assert len(line) <= width
    bar = line.removesuffix(f"  {expected}")
    assert bar.count("━") == len(bar) * done // 100


def test_a_transfer_whose_size_nobody_knows() -> None:
    now = [0.0]
    transfer = Transfer(lambda: now[0])
    transfer.take(StepProgress(id="a", done=0, total=0))
    now[0] = 4.0
    transfer.take(StepProgress(id="a", done=8 << 20, total=0))
    assert transfer.line(60).plain == str(transfer) == "8.0 MiB  2.0 MiB/s"
    assert str_of(StepProgress(id="a", done=3, total=41, unit="packages")) == "3 of 41 packages"


def str_of(event: StepProgress) -> str:
    transfer = Transfer()
    transfer.take(event)
    return str(transfer)
