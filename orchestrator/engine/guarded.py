"""A build whose service must not lose its client in mid-build: who holds its connection, and who ends its steps."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

from orchestrator import process
from orchestrator.engine import build_guard
from orchestrator.engine.docker_api import Api, Messages
from orchestrator.engine.working import BuildMark

CANCEL_TIMEOUT = 15.0
"""Seconds that a cancelled build gets to go away."""
_WHOLE_BUILD = 24 * 3600
"""Seconds that the guard of a build that nobody can stop waits for it."""
_END_STEPS = """\
read -r well && exit
i=0
while [ $i -lt {rounds} ]; do
  for mounts in /proc/[0-9]*/mountinfo; do
    if grep -qE ' /dev/shm .*{sign}(,|$)' "$mounts"; then process=${{mounts#/proc/}}; kill -9 "${{process%/*}}"; fi
  done 2>/dev/null
  i=$((i + 1)); sleep 0.5
done
"""
"""What a shell on the service's machine does: a line says that all is well, the input's end that the client has gone.
As `build_guard.kill_marked`."""


class Guard:
    """Of one build: `holding` a reply, another process keeps its connection when this one goes, to the build's end.

    Steps on this machine it ends; on another one a shell does, where ssh leads there. Nothing is held where the service
    doesn't mind (`needed`). `left`: the build runs on, although we have gone.
    """

    def __init__(self, api: Api, mark: BuildMark, *, remote: bool, needed: bool) -> None:
        self.mark = mark
        self.left = False
        self._api = api
        self._remote = remote
        self._needed = needed

    @contextmanager
    def holding(self, reply: Messages) -> Iterator[None]:
        """While the context lasts; left early, it waits up to CANCEL_TIMEOUT for the build's end."""
        if not self._needed:
            yield
            return
        connection, (listening, telling) = reply.fileno(), os.pipe()
        size, seconds = (0, _WHOLE_BUILD) if self._remote else (self.mark.size, int(CANCEL_TIMEOUT))
        with ExitStack() as stack:
            pipe = stack.enter_context(os.fdopen(telling, "wb", buffering=0))
            ends_there = self._start_ender(stack)
            try:
                command = [sys.executable, "-I", "-S", build_guard.__file__]
                command += [str(number) for number in (connection, listening, size, seconds)]
                guard = process.start(command, log=None, pass_fds=(connection, listening))
            finally:
                os.close(listening)
            stack.callback(self._wait, guard)
            for told in (pipe, ends_there):
                stack.enter_context(closing(told))  # before it waits
            yield
            with suppress(OSError):  # should they have died
                pipe.write(b".")
                ends_there.sendall(b"well\n")

    def _wait(self, guard: process.Background) -> None:
        if not process.has_ended(guard, within=CANCEL_TIMEOUT + 5):
            self.left = True
            self._api.leave_connections()

    def _start_ender(self, stack: ExitStack) -> socket.socket:
        """What ends the steps of a build over there once the socket closes; a host that gives us no shell ends none."""
        ours, theirs = socket.socketpair()
        with theirs:
            script = _END_STEPS.format(sign=build_guard.sign(self.mark.size), rounds=int(CANCEL_TIMEOUT * 2))
            if self._remote and (command := self._api.command_there(script)):
                stack.callback(process.stop, process.start(command, log=None, channel=theirs))
        return ours
