"""What the guest can't do: each call that the filter asks about is answered and, where it matters, put in words."""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from orchestrator.rehearse import bpf
from orchestrator.rehearse.launcher import FOLDER
from orchestrator.rehearse.limits import memory_use
from orchestrator.rehearse.model import Opened, Violation
from orchestrator.rehearse.notify import Call, Listener, path_seen_by, place_of, read_memory, read_path
from orchestrator.rehearse.vsock import AF_VSOCK, Bridge

_CLONE_VFORK: Final = 0x4000
_CLONE_VM: Final = 0x100
_OFFERED: Final = (socket.AF_UNIX, socket.AF_NETLINK)
"""Families that Nanos serves without a network (its socket call)."""
_OF_THE_SYSTEM: Final = ("/dev", "/proc", "/sys", FOLDER)
"""Trees that no image holds: the guest has its own."""


@dataclass
class Rules:
    """Answers calls; collects what was done that the guest can't, in order, and with `trace` every path opened.

    `pid` is the program's, known from its first call; `peak` is the most bytes it held when it ended by itself.
    """

    workspace: str
    trace: bool = False
    bridge: Bridge | None = None
    started: Callable[[int], None] = lambda _pid: None
    pid: int | None = None
    peak: int | None = None
    _found: Counter[tuple[str, str]] = field(default_factory=Counter)
    _by_clone3: tuple[int, tuple[str, str]] | None = None
    _opened: Counter[str] = field(default_factory=Counter)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """What was done that the guest can't."""
        return tuple(Violation(code=code, message=text, count=count) for (code, text), count in self._found.items())

    @property
    def opened(self) -> tuple[Opened, ...]:
        """The paths that were opened for reading, in order (only with `trace`)."""
        return tuple(Opened(path=path, count=count) for path, count in self._opened.items())

    def answer(self, listener: Listener, call: Call) -> None:
        """Answer one call. OSError (ENOENT) when it has gone meanwhile."""
        number = call.number
        if number in (bpf.EXECVE, bpf.EXECVEAT):
            self._execute(listener, call)
        elif number in (bpf.CLONE, bpf.CLONE3, bpf.FORK, bpf.VFORK):
            self._clone(listener, call)
        elif number == bpf.SOCKET:
            self._socket(listener, call)
        elif number in (bpf.CONNECT, bpf.GETSOCKNAME, bpf.GETPEERNAME):
            if self.bridge is None or not self.bridge.answer(listener, call):
                listener.proceed(call)
        else:
            if number == bpf.EXIT_GROUP:
                use = memory_use(call.pid)
                self.peak = use.most if use is not None else None
            else:
                self._path(call)
            listener.proceed(call)

    def _execute(self, listener: Listener, call: Call) -> None:
        if self.pid is None:  # the launcher becomes the program
            self.pid = call.pid
            self.started(call.pid)
            listener.proceed(call)
            return
        path = read_path(call.pid, call.arguments[0 if call.number == bpf.EXECVE else 1])
        self._deny(listener, call, "exec", f"called exec of {path or 'another program'}", errno.ENOSYS)

    def _clone(self, listener: Listener, call: Call) -> None:
        flags = call.arguments[0] & 0xFFFFFFFF
        if call.number == bpf.CLONE3:
            data = read_memory(call.pid, call.arguments[0], 8)
            # Unreadable: glibc and others use clone where clone3 isn't there.
            if len(data) < 8:
                listener.deny(call, errno.ENOSYS)
                return
            flags = struct.unpack("<Q", data)[0]
            if flags & bpf.CLONE_THREAD_FLAGS == bpf.CLONE_THREAD_FLAGS:
                listener.proceed(call)
                return
        if call.number == bpf.VFORK or (flags & _CLONE_VFORK and call.number != bpf.FORK):
            name = "vfork" if call.number == bpf.VFORK else "vfork or posix_spawn (clone with CLONE_VFORK)"
            self._deny(listener, call, "vfork", f"called {name}", errno.ENOSYS)
        elif call.number != bpf.FORK and flags & _CLONE_VM:
            self._deny(listener, call, "fork", "called clone without CLONE_THREAD", errno.ENOSYS)
        else:
            how = "" if call.number == bpf.FORK else " (clone without CLONE_VM)"
            self._deny(listener, call, "fork", f"called fork{how}", errno.ENOSYS)

    def _socket(self, listener: Listener, call: Call) -> None:
        family = call.arguments[0] & 0xFFFFFFFF
        if family == AF_VSOCK and self.bridge is not None:
            self.bridge.socket(listener, call)
            return
        if family in _OFFERED:
            listener.proceed(call)
            return
        try:
            name = socket.AddressFamily(family).name
        except ValueError:
            name = f"family {family}"
        why = "the node gives it no network" if family != AF_VSOCK else "no node stands behind it here"
        self._note(call, "socket", f"opened a socket ({name})", why)
        if family in (socket.AF_INET, socket.AF_INET6):
            listener.proceed(call)  # as in the guest: there is one, and nothing behind it
        else:
            listener.deny(call, errno.EAFNOSUPPORT)

    def _path(self, call: Call) -> None:
        name, directory, at = bpf.PATH_CHANGES.get(call.number, ("open", -1, 0))
        if call.number == bpf.OPENAT:
            directory, at = 0, 1
        text = read_path(call.pid, call.arguments[at])
        if text is None:
            return
        seen = path_seen_by(call.pid, text, call.arguments[directory] & 0xFFFFFFFF if directory >= 0 else -1)
        if _inside(seen, self.workspace, *_OF_THE_SYSTEM):
            return
        flags = {bpf.OPEN: call.arguments[1], bpf.OPENAT: call.arguments[2]}.get(call.number, bpf.WRITING)
        if flags & bpf.WRITING:
            done = f"opened {seen} for writing" if name == "open" else f"called {name} on {seen}"
            self._note(call, "write", done, f"only {self.workspace} can be written")
        elif self.trace:
            self._opened[seen] += 1

    def _deny(self, listener: Listener, call: Call, code: str, done: str, error: int) -> None:
        self._note(call, code, done, "Nanos can't")
        listener.deny(call, error)

    def _note(self, call: Call, code: str, done: str, why: str) -> None:
        where = place_of(call.pid, call.address)
        found = (code, f"the program {done}{f' at {where}' if where else ''}; {why}")
        # The C library tries clone3, hears that there is none, and then clone: that is one violation.
        if self._by_clone3 is not None and call.number == bpf.CLONE and self._by_clone3[0] == call.pid:
            self._found -= Counter([self._by_clone3[1]])
        self._by_clone3 = (call.pid, found) if call.number == bpf.CLONE3 else None
        self._found[found] += 1


def _inside(path: str, *folders: str) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
