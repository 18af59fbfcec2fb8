"""Files of the guest's kernel, handed to the program as descriptors of ours."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from orchestrator.guest.files import meminfo, mounts, processors
from orchestrator.run.sandbox.answers import PROCEED, Answer, Process, fails
from orchestrator.run.sandbox.limits import memory_use
from orchestrator.run.sandbox.view import Spot, View

_THREADS_NAME = re.compile(r"/proc/(self|\d+)/task/\d+/comm")
_LOOKED_AT = os.O_PATH | os.O_NONBLOCK | os.O_NOFOLLOW


@dataclass
class Contents:
    """What the system's files say."""

    process: Process
    view: View

    def is_made(self, path: str) -> bool:
        """Whether the kernel makes this file (stat calls it a device)."""
        return path in self._kinds

    def give(self, spot: Spot, flags: int) -> Answer:
        """A descriptor of what is at `spot`, for reading."""
        kind = self._kinds.get(spot.path)
        if kind == "kernel" or spot.beyond:
            return PROCEED  # its own maps: what the machine's kernel says has the same form
        try:
            descriptor = self._open(spot, kind, flags)
        except OSError as error:
            return fails(error.errno or 0)
        if descriptor is None:
            return PROCEED
        return Answer(descriptor=descriptor, close_on_exec=bool(flags & os.O_CLOEXEC))

    def take_name(self, spot: Spot, flags: int) -> Answer | None:
        """Where a GPU's driver writes a name for a thread of its own, which then goes nowhere; None for all else.

        /proc is read-only, and libcuda 580 gives up when it can't name its threads (seen on an H100; with the guest's
        own driver, 535, the program finds no such file there).
        """
        if not (spot.beyond and flags & os.O_WRONLY and _THREADS_NAME.fullmatch(spot.path)):
            return None
        with tempfile.TemporaryFile() as file:
            return Answer(descriptor=os.dup(file.fileno()), close_on_exec=bool(flags & os.O_CLOEXEC))

    @cached_property
    def _kinds(self) -> dict[str, str]:
        files = self.process.machine.guest.files
        return {file.path: file.kind for file in files if file.kind not in ("directory", "program")}

    def _open(self, spot: Spot, kind: str | None, flags: int) -> int | None:
        if spot.is_directory:
            # From the program's own root: with one of ours it could climb out of its own.
            path = self.view.own_path(spot)
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | flags & _LOOKED_AT) if path else None
        if kind == "device":
            return os.open(spot.path, os.O_RDONLY | flags & _LOOKED_AT)
        made: dict[str, Callable[[], str]] = {
            "meminfo": self._meminfo,
            "mounts": lambda: mounts(self.process.machine.shares),
            "processors": lambda: processors(self.process.machine.limits.cpus),
        }
        if kind not in made:
            return os.open(spot.host, os.O_RDONLY | os.O_NOFOLLOW | flags & _LOOKED_AT)
        with tempfile.TemporaryFile() as file:
            file.write(made[kind]().encode())
            file.flush()
            # Anew, for reading only: what the program is given can't be written.
            return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)

    def _meminfo(self) -> str:
        use = memory_use(self.process.pid) if self.process.pid is not None else None
        return meminfo(self.process.machine.memory, use.held if use is not None else 0)
