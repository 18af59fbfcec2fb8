"""Runs the launcher in a sandbox, answers the program's calls, and tells how it ended."""

from __future__ import annotations

import array
import os
import selectors
import signal
import socket
import struct
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from orchestrator.errors import EngineError, OrchestratorError, ProgramError
from orchestrator.run.outcome import End, Outcome
from orchestrator.run.sandbox.launcher import STEPS
from orchestrator.run.sandbox.limits import MemoryGroup, bind_to_processors, memory_group_of, memory_use
from orchestrator.run.sandbox.notify import Listener
from orchestrator.run.sandbox.outcome import OutputSink, SandboxLimits, outcome_of_status
from orchestrator.run.sandbox.rules import GuestRules
from orchestrator.run.sandbox.watches import DiskWatch, SharedMemory

START_TIMEOUT: Final = 60.0
"""Seconds in which a sandbox must have begun the launcher."""
_TICK: Final = 0.05
_KEPT_OUTPUT: Final = 1024 * 1024
_MESSAGE: Final = struct.Struct("<IIi")


class CannotBeginError(EngineError):
    """The program was not started: the sandbox, or the launcher in it, can't."""


class Sandbox(Protocol):
    """Somewhere the launcher runs: namespaces of ours or a container."""

    def start(self) -> None:
        """Begin it, without waiting. EngineError when that can't be."""
        ...

    def connection(self) -> socket.socket | None:
        """The launcher's socket, without waiting; None as long as it has not reached us. The sandbox closes it."""
        ...

    def problem(self) -> str | None:
        """Why it ended before the launcher reached us; None while it may still."""
        ...

    def adopt(self, pid: int) -> None:
        """The launcher's process `pid` is about to become the program: put limits on it."""
        ...

    def kill(self) -> None:
        """End all in it."""
        ...


@dataclass
class _Watched:
    """What is known of the program while it runs."""

    peak: int = 0
    killed: End | None = None
    group: MemoryGroup | None = None
    kept: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a run is held to: the guest's limits, the folder that it may fill, and when (time.monotonic) it ends.
    `sink` is told what the program writes."""

    limits: SandboxLimits
    workspace: Path
    deadline: float
    sink: OutputSink | None = None


def supervise(sandbox: Sandbox, rules: GuestRules, bounds: Bounds) -> Outcome:
    """Run the program in `place` to its end, or the end of what it may use."""
    limits, sink = bounds.limits, bounds.sink
    sandbox.start()
    with ExitStack() as stack:
        connection = _wait_for_launcher(sandbox, bounds)
        listener = _listener(connection, sandbox, bounds)
        stack.callback(os.close, listener.descriptor)
        watched = _Watched()

        def started(pid: int) -> None:
            bind_to_processors(pid, limits.cpus)
            sandbox.adopt(pid)
            watched.group = memory_group_of(pid)

        rules.started = started
        pipes = _go(connection)
        for descriptor in pipes.values():
            stack.callback(os.close, descriptor)
        began = time.monotonic()
        status = _loop(connection, listener, pipes, _Task(rules, bounds, sandbox, watched))
        seconds = time.monotonic() - began
        _drain(pipes, watched, sink)
        run = _ended(status, seconds, rules, limits, watched)
        with suppress(OSError):
            connection.send(b"\0")
        return run


@dataclass(frozen=True)
class _Task:
    rules: GuestRules
    bounds: Bounds
    sandbox: Sandbox
    watched: _Watched
    shared: SharedMemory = field(default_factory=SharedMemory)

    def kill(self, why: End) -> None:
        """End the program, and say why."""
        self.watched.killed = self.watched.killed or why
        try:
            if self.rules.pid is None:
                raise ProcessLookupError
            os.kill(self.rules.pid, signal.SIGKILL)
        except (PermissionError, ProcessLookupError):
            self.sandbox.kill()

    def look(self, disk: DiskWatch) -> None:
        """Memory, threads, disk and time."""
        limits, pid = self.bounds.limits, self.rules.pid
        use = memory_use(pid) if pid is not None else None
        if pid is not None and use is not None:
            most = limits.memory << 20
            hidden = self.shared.hidden(pid, use, most)
            self.watched.peak = max(self.watched.peak, use.most + hidden)
            if use.held + hidden > most:
                self.kill("memory")
            if use.threads > limits.threads:
                self.kill("threads")
            if disk.exceeded(pid):
                self.kill("disk")
        if time.monotonic() > self.bounds.deadline:
            self.kill("timeout")


def _wait_for_launcher(sandbox: Sandbox, bounds: Bounds) -> socket.socket:
    until = min(time.monotonic() + START_TIMEOUT, bounds.deadline)
    while True:
        if (connection := sandbox.connection()) is not None:
            return connection
        if problem := sandbox.problem():
            raise _cannot_begin(problem)
        if time.monotonic() > until:
            sandbox.kill()
            raise _too_late(bounds)
        time.sleep(_TICK)


_ELSEWHERE: Final = "try another --engine (none, podman, docker); `orchestrator doctor` shows which can be used"


def _cannot_begin(problem: str) -> CannotBeginError:
    return CannotBeginError(f"the rehearsal could not begin: {problem}", remedy=_ELSEWHERE)


def _too_late(bounds: Bounds) -> OrchestratorError:
    if time.monotonic() > bounds.deadline:
        return too_late(bounds.limits.timeout)
    return CannotBeginError(f"the rehearsal did not begin within {START_TIMEOUT:g} s", remedy=_ELSEWHERE)


def too_late(timeout: float) -> ProgramError:
    """The time was over before the program began."""
    return ProgramError(
        f"the program had not begun after {timeout:g} s (--timeout counts from the start)", remedy="raise --timeout"
    )


def _listener(connection: socket.socket, sandbox: Sandbox, bounds: Bounds) -> Listener:
    connection.settimeout(max(_TICK, min(START_TIMEOUT, bounds.deadline - time.monotonic())))
    try:
        data, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE.size, 1)
    except TimeoutError:
        sandbox.kill()
        raise _too_late(bounds) from None
    except ConnectionResetError:
        data, descriptors = b"", []
    if not data:  # its end is closed: it never was a launcher, or ended at once
        sandbox.kill()
        raise _cannot_begin(sandbox.problem() or "its launcher exited without reporting an error")
    if not descriptors:
        raise _launcher_failed(data)
    connection.settimeout(None)
    return Listener(descriptors[0])


def _launcher_failed(data: bytes) -> CannotBeginError:
    if len(data) < _MESSAGE.size:
        return CannotBeginError("the sandbox launcher exited without reporting an error", remedy=_ELSEWHERE)
    _, step, error = _MESSAGE.unpack(data)
    what = STEPS[step] if step < len(STEPS) else "begin"
    remedy = _ELSEWHERE
    if what == STEPS[-1]:
        remedy = "is the program's interpreter (its loader) in the image? see `verify`"
    return CannotBeginError(f"the rehearsal could not {what}: {os.strerror(-error)}", remedy=remedy)


def _go(connection: socket.socket) -> dict[str, int]:
    reading, writing = {}, []
    for name in ("stdout", "stderr"):
        reading[name], end = os.pipe()
        writing.append(end)
    connection.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", writing))])
    for end in writing:
        os.close(end)
    return reading


def _loop(connection: socket.socket, listener: Listener, pipes: dict[str, int], task: _Task) -> int:
    """Until the launcher tells the program's wait status."""
    disk = DiskWatch(task.bounds.workspace, task.bounds.limits.disk << 20)
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ, "launcher")
        selector.register(listener.descriptor, selectors.EVENT_READ, "calls")
        for name, descriptor in pipes.items():
            selector.register(descriptor, selectors.EVENT_READ, name)
        looked = 0.0
        while True:
            for key, _ in selector.select(_TICK):
                if key.data == "launcher":
                    status = _status(connection, task.watched)
                    if status is not None:
                        return status
                elif key.data == "calls":
                    _answer(listener, task.rules, selector)
                elif not _read(key.data, key.fd, task.watched, task.bounds.sink):
                    selector.unregister(key.fd)
            if time.monotonic() - looked >= _TICK:
                looked = time.monotonic()
                task.look(disk)


def _status(connection: socket.socket, watched: _Watched) -> int | None:
    data = connection.recv(_MESSAGE.size)
    if data[:1] == b"S":
        return int.from_bytes(data[4:8], "little")
    if not data and watched.killed:  # the sandbox was ended with all in it
        return int(signal.SIGKILL)
    raise _launcher_failed(data)


def _answer(listener: Listener, rules: GuestRules, selector: selectors.BaseSelector) -> None:
    try:
        call = listener.receive()
        rules.answer(listener, call)
    except FileNotFoundError:
        # The call went away (a signal, an end). Without a process left the listener would be ready for ever.
        if rules.pid is not None and memory_use(rules.pid) is None:
            selector.unregister(listener.descriptor)


def _read(name: str, descriptor: int, watched: _Watched, sink: OutputSink | None) -> bool:
    data = os.read(descriptor, 65536)
    if sink is not None and data:
        sink(name, data)
    kept = watched.kept[name]
    kept += data
    del kept[:-_KEPT_OUTPUT]
    return bool(data)


def _drain(pipes: dict[str, int], watched: _Watched, sink: OutputSink | None) -> None:
    """What was still in the pipes when the program ended."""
    for name, descriptor in pipes.items():
        os.set_blocking(descriptor, False)
        with suppress(BlockingIOError):
            while _read(name, descriptor, watched, sink):
                pass


def _ended(status: int, seconds: float, rules: GuestRules, limits: SandboxLimits, watched: _Watched) -> Outcome:
    end: End = watched.killed or ("signal" if status & 0x7F else "exit")
    if status & 0x7F == signal.SIGXFSZ:
        end = "disk"  # one file larger than all may be
    peak, counted = (rules.peak, "process") if rules.peak else (watched.peak or None, "polled")
    group = watched.group
    if group is not None and group.limit is not None and group.limit <= limits.memory << 20:
        if status & 0x7F == signal.SIGKILL and group.kills and not watched.killed:
            end = "memory"
        # File pages that others read first are counted to their group, so ours may show less than was seen.
        if rules.peak is None and (group.peak or 0) > (peak or 0):
            peak, counted = group.peak, "cgroup"
    how = outcome_of_status(status, end, seconds, limits)
    violations = rules.violations
    return replace(
        how,
        ok=how.ok and not any(violation.severity == "error" for violation in violations),
        peak=peak,
        counted=counted,
        violations=violations,
        output={name: bytes(data) for name, data in watched.kept.items()},
    )
