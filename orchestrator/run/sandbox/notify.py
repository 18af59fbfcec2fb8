"""The kernel's side of seccomp user notification (seccomp_unotify(2)), and the memory of the process that asks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from orchestrator.guest.table import call_numbers

_RECV: Final = 0xC0502100
_SEND: Final = 0xC0182101
_ID_VALID: Final = 0x40082102
_ADDFD: Final = 0x40182103
_CONTINUE: Final = 1
_ADDFD_SEND: Final = 2
_PIDFD_GETFD: Final = 438
PATH_MAX: Final = 4096

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One system call that waits for an answer. `pid` is the thread's, as we see it; `address` is its code's."""

    id: int
    pid: int
    name: str
    address: int
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class Listener:
    """A filter's listener. Its methods raise OSError (ENOENT) when the call that is meant has gone."""

    descriptor: int

    def receive(self) -> Call:
        """The next call; blocks until there is one. ENOENT: it went away meanwhile."""
        data = bytearray(80)
        fcntl.ioctl(self.descriptor, _RECV, data)
        identity, pid, _flags, number, _arch, address, *arguments = struct.unpack("<QIIiIQ6Q", data)
        return Call(id=identity, pid=pid, name=_name_of(number), address=address, arguments=tuple(arguments))

    def proceed(self, call: Call) -> None:
        """Let the kernel do the call."""
        self._send(call, 0, 0, _CONTINUE)

    def deny(self, call: Call, errno: int) -> None:
        """The call fails with this error."""
        self._send(call, 0, -errno, 0)

    def reply(self, call: Call, value: int) -> None:
        """The call returns this value without being made."""
        self._send(call, value, 0, 0)

    def give(self, call: Call, descriptor: int, *, close_on_exec: bool) -> int:
        """The call returns a new descriptor of its process, made from ours; its number."""
        flags = os.O_CLOEXEC if close_on_exec else 0
        data = bytearray(struct.pack("<QIIII", call.id, _ADDFD_SEND, descriptor, 0, flags))
        return int(fcntl.ioctl(self.descriptor, _ADDFD, data))

    def waits(self, call: Call) -> bool:
        """Whether the call still waits, and so what was read of its process was its own."""
        try:
            fcntl.ioctl(self.descriptor, _ID_VALID, bytearray(struct.pack("<Q", call.id)))
        except OSError:
            return False
        return True

    def _send(self, call: Call, value: int, error: int, flags: int) -> None:
        fcntl.ioctl(self.descriptor, _SEND, bytearray(struct.pack("<QqiI", call.id, value, error, flags)))


@cache
def _names() -> dict[int, str]:
    return {number: name for name, number in call_numbers().items()}


def _name_of(number: int) -> str:
    return _names().get(number, f"system call {number}")


class Memory:
    """A process's memory, read and written without its help. What can't be read is empty, or None for a text."""

    def __init__(self, pid: int) -> None:
        try:
            self._descriptor = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    @property
    def readable(self) -> bool:
        """Whether we may look into it at all."""
        return self._descriptor >= 0

    def read(self, address: int, size: int) -> bytes:
        """Up to `size` bytes; fewer where the mapping ends."""
        try:
            return os.pread(self._descriptor, size, address)
        except (OSError, OverflowError):
            return b""

    def write(self, address: int, data: bytes) -> None:
        """Write into it. OSError (EFAULT) where that can't be."""
        try:
            written = os.pwrite(self._descriptor, data, address)
        except (OSError, OverflowError):
            written = 0
        if written < len(data):
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    def text(self, address: int) -> str | None:
        """The text at `address` up to its zero byte."""
        # Page by page: the text may end just before memory that isn't there.
        data = b""
        while len(data) < PATH_MAX:
            piece = self.read(address + len(data), 4096 - ((address + len(data)) & 4095))
            if b"\0" in piece:
                return (data + piece[: piece.index(b"\0")]).decode(errors="surrogateescape")
            if not piece:
                return None
            data += piece
        return None

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def descriptor_of(pid: int, number: int) -> int:
    """A descriptor of ours for what a process has open under `number` (pidfd_getfd(2)); -1 when that can't be."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return -1
    try:
        return int(_libc.syscall(_PIDFD_GETFD, process, number, 0))
    finally:
        os.close(process)


def code_location(pid: int, address: int) -> str:
    """The file that code at `address` is from, and its offset there: `/lib/libc.so.6+0x1234`; "" if unknown."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        span, _, offset, _, _, *name = line.split(None, 5)
        first, last = (int(number, 16) for number in span.split("-"))
        if first <= address < last and name:
            return f"{name[0]}+{address - first + int(offset, 16):#x}"
    return ""


def path_seen_by(pid: int, text: str, directory: int) -> str | None:
    """A path that a process gave, made absolute. `directory`: its descriptor for it (-1 or AT_FDCWD: where it is);
    None when that is none."""
    if not text.startswith("/"):
        number = directory - (1 << 32) if directory >= 1 << 31 else directory
        link = f"/proc/{pid}/cwd" if number < 0 else f"/proc/{pid}/fd/{number}"
        try:
            text = f"{Path(link).readlink()}/{text}"
        except OSError:
            return None
    return text
