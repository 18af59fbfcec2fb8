"""What is answered to a call, and the state that answering needs."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.run.sandbox.findings import ViolationCounter
from orchestrator.run.sandbox.notify import Call, Listener, Memory
from orchestrator.run.sandbox.outcome import GuestMachine

_CLOCK_STEP: Final = 0.02
"""File times are as coarse as the kernel's tick (10 ms at most)."""


@dataclass(frozen=True)
class Answer:
    """A call's: left to the kernel, an error, a value, or a descriptor of ours (closed once it is given)."""

    proceeds: bool = False
    error: int = 0
    value: int = 0
    descriptor: int = -1
    close_on_exec: bool = False

    def send(self, listener: Listener, call: Call) -> None:
        """Tell the kernel. OSError (ENOENT) when the call has gone meanwhile."""
        if self.proceeds:
            listener.proceed(call)
        elif self.descriptor >= 0:
            try:
                listener.give(call, self.descriptor, close_on_exec=self.close_on_exec)
            finally:
                os.close(self.descriptor)
        elif self.error:
            listener.deny(call, self.error)
        else:
            listener.reply(call, self.value)


PROCEED: Final = Answer(proceeds=True)
DONE: Final = Answer()


def fails(error: int) -> Answer:
    """The call fails with this errno."""
    return Answer(error=error)


def returns(value: int) -> Answer:
    """The call returns this, undone."""
    return Answer(value=value)


@dataclass
class Process:
    """The program's process: what we know of it and its memory. `pid` is None until the launcher becomes it, at
    `began` (seconds since the epoch)."""

    machine: GuestMachine
    findings: ViolationCounter
    pid: int | None = None
    began: float = 0.0
    _memory: Memory | None = None

    @property
    def memory(self) -> Memory:
        """Its memory; unreadable before it has begun."""
        if self._memory is None:
            self._memory = Memory(self.pid or -1)
        return self._memory

    def became(self, pid: int) -> None:
        """The launcher is about to become the program: its memory is another from the next call on."""
        self.pid = pid
        self.began = time.time() - _CLOCK_STEP
        self.close()

    def close(self) -> None:
        """Let go of its memory."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def holds_open(self, status: os.stat_result) -> bool:
        """Whether one of its descriptors is this file."""
        try:
            for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
                try:
                    theirs = descriptor.stat()
                except OSError:
                    continue
                if (theirs.st_dev, theirs.st_ino) == (status.st_dev, status.st_ino):
                    return True
        except OSError:
            pass
        return False
