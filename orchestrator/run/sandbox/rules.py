"""What the guest does about each call that the filter asks about: answered as its kernel would, and put in words."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Final

from orchestrator.guest.table import ArgumentRule
from orchestrator.run.outcome import Violation
from orchestrator.run.sandbox.answers import PROCEED, Answer, Process, fails
from orchestrator.run.sandbox.contents import Contents
from orchestrator.run.sandbox.findings import ViolationCounter
from orchestrator.run.sandbox.limits import memory_use
from orchestrator.run.sandbox.notify import Call, Listener
from orchestrator.run.sandbox.outcome import GuestMachine, OpenedPath
from orchestrator.run.sandbox.paths import PathCalls
from orchestrator.run.sandbox.sockets import SocketCalls, ioctl
from orchestrator.run.sandbox.values import ValueCalls
from orchestrator.run.sandbox.view import View
from orchestrator.run.sandbox.vsock import AF_VSOCK, Bridge

_CLONE_VFORK: Final = 0x4000
_CLONE_VM: Final = 0x100
_CANT: Final = "Nanos cannot"
Handler = Callable[[Call], Answer]


@dataclass
class GuestRules:
    """Answers calls; collects what was done that the guest can't, in order, and with `trace` every path opened.

    `process.pid` is known from the program's first call; `peak` is the most bytes
    it held when it ended by itself.
    """

    machine: GuestMachine
    view: View
    bridge: Bridge
    trace: bool = False
    started: Callable[[int], None] = lambda _pid: None
    peak: int | None = None
    findings: ViolationCounter = field(default_factory=ViolationCounter)
    _looked: bool = False

    @property
    def pid(self) -> int | None:
        """The program's process; None while it is still the launcher's."""
        return self.process.pid

    @property
    def violations(self) -> tuple[Violation, ...]:
        """What was done that the guest can't."""
        return self.findings.violations

    @property
    def opened(self) -> tuple[OpenedPath, ...]:
        """The paths that were opened for reading, in order (only with `trace`)."""
        return tuple(OpenedPath(path=path, count=count) for path, count in self.paths.opened.items())

    @property
    def asked(self) -> frozenset[str]:
        """The calls that the filter must ask about."""
        return frozenset(self._handlers)

    @cached_property
    def process(self) -> Process:
        """The program's process."""
        return Process(self.machine, self.findings)

    @cached_property
    def paths(self) -> PathCalls:
        """Answers to calls with paths."""
        return PathCalls(self.process, self.view, Contents(self.process, self.view), self.trace)

    def answer(self, listener: Listener, call: Call) -> None:
        """Answer one call. OSError (ENOENT) when it has gone meanwhile."""
        if self.pid is None and call.name not in ("execve", "execveat"):
            listener.proceed(call)  # the launcher still
            return
        self._look_once(call)
        if call.name == "socket" and call.arguments[0] & 0xFFFFFFFF == AF_VSOCK:
            self.bridge.socket(listener, call)
        elif call.name in ("connect", "getsockname", "getpeername"):
            if not self._bridged(listener, call):
                self._handlers[call.name](call).send(listener, call)
        else:
            self._handlers.get(call.name, self._unknown)(call).send(listener, call)

    def _look_once(self, call: Call) -> None:
        """Say it where the program is another user's, as a daemon's container is for one who isn't root."""
        if self._looked or self.pid is None:
            return
        self._looked = True
        if not self.process.memory.readable:
            why = "paths and values were answered by Linux, not as the guest does; use --engine none, or be root"
            self.findings.add(call, "unseen", "runs as another user, whose memory cannot be read", why)

    def close(self) -> None:
        """Let go of descriptors."""
        self.process.close()
        self.view.close()
        self.bridge.close()

    def _bridged(self, listener: Listener, call: Call) -> bool:
        refused = self.bridge.refused
        answered = self.bridge.answer(listener, call, self.process.memory)
        if self.bridge.refused > refused:
            why = "nobody stands behind it here"
            where = self.bridge.last_refused
            self.findings.add(call, "vsock", "connected to {} by vsock", why, subject=where, severity="note")
        return answered

    @cached_property
    def _handlers(self) -> Mapping[str, Handler]:
        refused = {row.call: self._refuse(row) for row in self.machine.guest.arguments if row.named}
        proceed = dict.fromkeys(("getsockname", "getpeername"), lambda _call: PROCEED)
        return {
            **refused,
            **proceed,
            **self.paths.handlers(),
            **SocketCalls(self.process, self.view).handlers(),
            **ValueCalls(self.process).handlers(),
            **dict.fromkeys(("io_uring_setup", "io_uring_enter", "io_uring_register"), self._io_uring),
            **dict.fromkeys(("clone", "fork", "vfork"), self._clone),
            **dict.fromkeys(("execve", "execveat"), self._execute),
            "exit_group": self._exit,
            "ioctl": partial(ioctl, gpus=self.view.beyond),
        }

    def _refuse(self, row: ArgumentRule) -> Handler:
        def answer(call: Call) -> Answer:
            self.findings.add(call, "argument", f"called {row.named}", _CANT)
            return fails(row.errno or 0)

        return answer

    def _unknown(self, call: Call) -> Answer:
        """A call that the guest's kernel has no handler for."""
        self.findings.add(call, "call", f"called {call.name}", "Nanos has no such call (ENOSYS)")
        return fails(errno.ENOSYS)

    def _io_uring(self, call: Call) -> Answer:
        why = "Nanos has it, but a rehearsal refuses it: it would bypass the filter"
        self.findings.add(call, "io-uring", "called io_uring", why, severity="note")
        return fails(errno.ENOSYS)

    def _exit(self, call: Call) -> Answer:
        use = memory_use(call.pid)
        self.peak = use.most if use is not None else None
        return PROCEED

    def _execute(self, call: Call) -> Answer:
        if self.pid is None:  # the launcher becomes the program
            self.process.became(call.pid)
            self.view.look_through(call.pid)
            self.started(call.pid)
            return PROCEED
        path = self.process.memory.text(call.arguments[0 if call.name == "execve" else 1])
        done = "called exec of {}" if path else "called exec of another program"
        self.findings.add(call, "exec", done, _CANT, subject=path or "")
        return fails(errno.ENOSYS)

    def _clone(self, call: Call) -> Answer:
        code, done = _fork_in_words(call.name, call.arguments[0] & 0xFFFFFFFF)
        self.findings.add(call, code, done, _CANT)
        return fails(errno.ENOSYS)


def _fork_in_words(name: str, flags: int) -> tuple[str, str]:
    """Code and words for a call that makes a process."""
    if name == "vfork" or (flags & _CLONE_VFORK and name != "fork"):
        return "vfork", f"called {'vfork' if name == 'vfork' else 'vfork or posix_spawn (clone with CLONE_VFORK)'}"
    if name != "fork" and flags & _CLONE_VM:
        return "fork", "called clone without CLONE_THREAD"
    return "fork", "called fork" if name == "fork" else "called fork (clone without CLONE_VM)"
