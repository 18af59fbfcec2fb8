"""Calls that tell a program about its machine and itself, answered as the guest does."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestrator.guest.files import free_memory
from orchestrator.run.sandbox.answers import DONE, PROCEED, Answer, Process, fails, returns
from orchestrator.run.sandbox.limits import memory_use
from orchestrator.run.sandbox.notify import Call

_FIELD: Final = 65  # of struct utsname
_SYSINFO: Final = struct.Struct("<q3Q6QHHI2QI4x")
_USAGE: Final = struct.Struct("<4q14q")
_RLIMIT: Final = struct.Struct("<2Q")
_MILLION: Final = 1_000_000
_DATA, _STACK, _CORE, _FILES, _ADDRESSES = 2, 3, 4, 7, 9  # RLIMIT_…


@dataclass
class ValueCalls:
    """Answers by call name."""

    process: Process
    _began: float = field(default_factory=time.monotonic)
    _affinity: dict[int, int] = field(default_factory=dict)

    def handlers(self) -> Mapping[str, Callable[[Call], Answer]]:
        """The calls that are answered here."""
        return {
            "uname": self._uname,
            "sysinfo": self._sysinfo,
            "getrlimit": lambda call: self._limit(call, 0, 1),
            "prlimit64": lambda call: self._limit(call, 1, 3),
            "getrusage": self._usage,
            "sched_getaffinity": self._get_affinity,
            "sched_setaffinity": self._set_affinity,
            "umask": lambda call: returns(call.arguments[0] & 0xFFFFFFFF),
            "capget": self._capabilities,
        }

    def _write(self, address: int, data: bytes, value: int = 0) -> Answer:
        memory = self.process.memory
        if not memory.readable:
            return PROCEED
        try:
            memory.write(address, data)
        except OSError:
            return fails(errno.EFAULT)
        return returns(value)

    def _uname(self, call: Call) -> Answer:
        machine = self.process.machine
        values = machine.guest.values
        texts = (
            machine.uname.get("sysname", values["sysname"]),
            machine.hostname,
            machine.uname.get(
                "release",
                str(values["release"]).format(version=machine.program.environment.get("NANOS_VERSION", "(none)")),
            ),
            machine.guest.commit,
            "x86_64",
            "",
        )
        data = b"".join(os.fsencode(text)[: _FIELD - 1].ljust(_FIELD, b"\0") for text in texts)
        return self._write(call.arguments[0], data)

    def _sysinfo(self, call: Call) -> Answer:
        total = self.process.machine.memory
        free = free_memory(total, self._held())
        up = int(time.monotonic() - self._began)
        data = _SYSINFO.pack(up, 0, 0, 0, total, free, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
        return self._write(call.arguments[0], data)

    def _held(self) -> int:
        use = memory_use(self.process.pid) if self.process.pid is not None else None
        return use.held if use is not None else 0

    def _limit(self, call: Call, which: int, at: int) -> Answer:
        if not call.arguments[at]:
            return DONE  # prlimit64 that only sets: nothing is limited
        machine = self.process.machine
        values = machine.guest.values
        limits = {
            _DATA: machine.memory,
            _STACK: int(values["stack"]),
            _CORE: 0,
            _FILES: int(values["descriptors"]),
            _ADDRESSES: int(values["addresses"]),
        }
        limit = limits.get(call.arguments[which] & 0xFFFFFFFF)
        return fails(errno.EINVAL) if limit is None else self._write(call.arguments[at], _RLIMIT.pack(limit, limit))

    def _usage(self, call: Call) -> Answer:
        who = call.arguments[0] & 0xFFFFFFFF
        if who == 0:
            used = _cpu_seconds(self.process.pid)
        elif who == 1:  # RUSAGE_THREAD
            used = _thread_seconds(self.process.pid, call.pid)
        elif who == 0xFFFFFFFF:
            used = 0.0
        else:
            return fails(errno.EINVAL)
        times = (int(used), int(used % 1 * _MILLION), 0, 0)
        return self._write(call.arguments[1], _USAGE.pack(*times, *([0] * 14)))

    def _get_affinity(self, call: Call) -> Answer:
        cpus = self.process.machine.limits.cpus
        size = call.arguments[1]
        if 64 * (size // 8) < cpus:
            return fails(errno.EINVAL)
        thread = self._thread(call)
        if thread is None:
            return fails(errno.EINVAL)
        mask = self._affinity.get(thread, (1 << cpus) - 1)
        length = (cpus + 63) // 64 * 8
        return self._write(call.arguments[2], mask.to_bytes(length, "little"), length)

    def _set_affinity(self, call: Call) -> Answer:
        cpus = self.process.machine.limits.cpus
        data = self.process.memory.read(call.arguments[2], min(call.arguments[1], 128))
        mask = int.from_bytes(data, "little")
        if not mask or (mask & -mask).bit_length() > cpus:
            return fails(errno.EINVAL)
        thread = self._thread(call)
        if thread is None:
            return fails(errno.EINVAL)
        self._affinity[thread] = mask & ((1 << cpus) - 1)
        ours = sorted(os.sched_getaffinity(0))  # as bind_to_processors took them
        with suppress(OSError):
            os.sched_setaffinity(thread, {cpu for number, cpu in enumerate(ours[:cpus]) if mask >> number & 1})
        return DONE

    def _thread(self, call: Call) -> int | None:
        """Which thread is meant, by our number; a program knows its own namespace's. None: none of its own."""
        wanted = call.arguments[0] & 0xFFFFFFFF
        if not wanted:
            return call.pid
        for task in Path(f"/proc/{self.process.pid}/task").glob("*"):
            with suppress(OSError):
                rows = (line.split() for line in (task / "status").read_text().splitlines())
                if any(row[0] == "NSpid:" and int(row[-1]) == wanted for row in rows if row):
                    return int(task.name)
        return None

    def _capabilities(self, call: Call) -> Answer:
        return self._write(call.arguments[1], bytes(12)) if call.arguments[1] else DONE


def _cpu_seconds(pid: int | None) -> float:
    """Processor time of a process, as its CPU clock has it (clock_getcpuclockid(3))."""
    try:
        return time.clock_gettime((~(pid or 0) << 3) | 2)
    except OSError:
        return 0.0


def _thread_seconds(pid: int | None, thread: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
