"""A command in a terminal of our own, for what only a person at one gets."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.cli import ROOT


@dataclass(kw_only=True)
class TerminalCommand:
    """A command that runs on a terminal; `said` is all that it wrote there."""

    process: subprocess.Popen[bytes]
    master: int
    said: str = ""

    def until(self, pattern: str, timeout: float = 90) -> None:
        """Read until what was written ends in a match."""
        end = time.monotonic() + timeout
        while not re.search(f"(?:{pattern})\\Z", self.said):
            assert self._read() and time.monotonic() < end, self.said[-3000:]

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(60)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], 90)
        try:
            data = os.read(self.master, 65536) if ready else b""
        except OSError:  # the other side is closed
            return False
        self.said += data.decode(errors="replace")
        return bool(data)


@contextmanager
def on_a_terminal(*arguments: str | Path) -> Iterator[TerminalCommand]:
    """`python -m orchestrator …` with a terminal as stdin, stdout and stderr."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "orchestrator", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    try:
        yield TerminalCommand(process=process, master=master)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
