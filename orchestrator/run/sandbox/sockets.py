"""Sockets as the guest has them: on the loopback all works, outside there is no network, and a node is on its vsock."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.run.sandbox.answers import PROCEED, Answer, Process, fails
from orchestrator.run.sandbox.notify import Call, descriptor_of
from orchestrator.run.sandbox.view import View

_KIND: Final = 0xF
_PROTOCOLS: Final[dict[int, int]] = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}
_UNIX_KINDS: Final = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
_LISTENS: Final = "0A"
_NO_NETWORK: Final = "the node gives it no network"
_INET: Final = (socket.AF_INET, socket.AF_INET6)
_LONGEST_ADDRESS: Final = 128
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass
class SocketCalls:
    """Answers by call name; those on bridged vsock sockets never get here."""

    process: Process
    view: View

    def handlers(self) -> Mapping[str, Callable[[Call], Answer]]:
        """The calls that are answered here."""
        return {
            "socket": self._socket,
            "connect": lambda call: self._outside(call, 1, 2, connects=True),
            "sendto": lambda call: self._outside(call, 4, 5, connects=False),
            "bind": self._bind,
        }

    def _socket(self, call: Call) -> Answer:
        family, kind, protocol = (argument & 0xFFFFFFFF for argument in call.arguments[:3])
        kind &= _KIND
        if family == socket.AF_UNIX:
            return PROCEED if kind in _UNIX_KINDS else fails(errno.ESOCKTNOSUPPORT)
        if family == socket.AF_NETLINK:
            return PROCEED
        if family not in _INET:
            return self._refused(call, _family_name(family), errno.EAFNOSUPPORT)
        if kind not in _PROTOCOLS:
            return self._refused(call, f"{_family_name(family)}, of neither TCP nor UDP", errno.EINVAL)
        return fails(errno.EPROTONOSUPPORT) if protocol not in (0, _PROTOCOLS[kind]) else PROCEED

    def _refused(self, call: Call, which: str, error: int) -> Answer:
        done = f"opened a socket ({which})"
        self.process.findings.add(call, "socket", done, f"Nanos has none of that kind ({errno.errorcode[error]})")
        return fails(error)

    def _outside(self, call: Call, at: int, size_at: int, *, connects: bool) -> Answer:
        """An address that isn't this machine's own can't be reached."""
        size = min(call.arguments[size_at] & 0xFFFFFFFF, _LONGEST_ADDRESS)
        target = _inet(self.process.memory.read(call.arguments[at], size))
        if target is None:
            return PROCEED
        address, port = target
        if address.is_loopback or address.is_unspecified:
            closed = connects and self._is_stream(call) and not _somebody_listens(call.pid, port)
            return fails(errno.ECONNRESET) if closed else PROCEED
        done = "connected to {}" if connects else "sent to {}"
        where = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        self.process.findings.add(call, "socket", done, _NO_NETWORK, subject=where)
        return fails(errno.EHOSTUNREACH)

    def _is_stream(self, call: Call) -> bool:
        """Whether it is a TCP socket that isn't connected."""
        descriptor = descriptor_of(self.process.pid or call.pid, call.arguments[0] & 0xFFFFFFFF)
        if descriptor < 0:
            return False
        with socket.socket(fileno=descriptor) as theirs:
            try:
                theirs.getpeername()
            except OSError:
                return theirs.type & _KIND == socket.SOCK_STREAM
            return False

    def _bind(self, call: Call) -> Answer:
        size = min(call.arguments[2] & 0xFFFFFFFF, _LONGEST_ADDRESS)
        data = self.process.memory.read(call.arguments[1], size)
        if len(data) < 3 or struct.unpack_from("<H", data)[0] != socket.AF_UNIX:
            return PROCEED
        name = data[2:].split(b"\0")[0].decode(errors="surrogateescape")
        if not name:
            self.process.findings.add(call, "share", "bound an abstract Unix socket", "Nanos refuses that with EROFS")
            return fails(errno.EROFS)
        spot = self.view.find(self._absolute(call, name), follow=False)
        if not spot.error:
            return fails(errno.EADDRINUSE)
        if not spot.parent_there:
            return fails(spot.error)
        if spot.realm != "share":
            why = f"only {self.process.machine.program.workspace} can be written"
            self.process.findings.add(call, "write", "bound a Unix socket at {}", why, subject=spot.asked)
            return fails(errno.EROFS)
        rule = self.process.machine.guest.share_rule("bind")
        why = f"there it fails with {errno.errorcode[rule.errno]}"
        self.process.findings.add(call, "share", "bound a Unix socket at {}", why, subject=spot.asked)
        return fails(rule.errno)

    @staticmethod
    def _absolute(call: Call, name: str) -> str:
        if name.startswith("/"):
            return name
        try:
            return f"{Path(f'/proc/{call.pid}/cwd').readlink()}/{name}"
        except OSError:
            return f"/{name}"


def ioctl(call: Call, *, gpus: bool) -> Answer:
    """Sockets have some of Linux's requests, a GPU its driver's, every other descriptor those of the filter alone."""
    try:
        link = str(Path(f"/proc/{call.pid}/fd/{call.arguments[0] & 0xFFFFFFFF}").readlink())
    except OSError:
        return PROCEED  # no such descriptor, as the kernel will say
    has_more = link.startswith("socket:") or (gpus and link.startswith("/dev/nvidia"))
    return PROCEED if has_more else fails(errno.ENOSYS)


def _family_name(family: int) -> str:
    try:
        return socket.AddressFamily(family).name
    except ValueError:
        return f"family {family}"


def _inet(data: bytes) -> tuple[Address, int] | None:
    """Address and port of a sockaddr; None for another family, or one that is too short."""
    if len(data) < 8:
        return None
    family, port = struct.unpack_from("<H", data)[0], struct.unpack_from(">H", data, 2)[0]
    if family == socket.AF_INET:
        return ipaddress.IPv4Address(data[4:8]), port
    if family == socket.AF_INET6 and len(data) >= 24:
        address = ipaddress.IPv6Address(data[8:24])
        return address.ipv4_mapped or address, port
    return None


def _somebody_listens(pid: int, port: int) -> bool:
    """Whether a TCP socket of the process's network listens on `port`."""
    rows = (row for name in ("tcp", "tcp6") for row in _table(pid, name))
    return any(row[3] == _LISTENS and int(row[1].rpartition(":")[2], 16) == port for row in rows)


def _table(pid: int, name: str) -> list[list[str]]:
    try:
        lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    except OSError:
        return []
    return [line.split() for line in lines]
