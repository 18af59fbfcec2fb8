"""The vsock bridge: a program's AF_VSOCK sockets are Unix sockets of ours, connected where the handler says.

The seam for the stand-in of the node: it listens on a Unix socket and is named by a `VsockHandler`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestrator.rpc import join_sockets
from orchestrator.run.sandbox.notify import Call, Listener, Memory
from orchestrator.run.sandbox.outcome import VsockHandler

AF_VSOCK: Final = 40
_GUEST_CID: Final = 3
_ADDRESS: Final = struct.Struct("<HHIIB3x")  # struct sockaddr_vm: family, reserved, port, CID, flags


@dataclass
class _Bridged:
    """The other end of the program's socket, that one's inode, and what it is connected with: the handler's socket
    and (CID, port) as the program thinks."""

    ours: socket.socket
    inode: int
    node: socket.socket | None = None
    peer: tuple[int, int] | None = None

    def close(self) -> None:
        """Let go of our descriptors, and end what the two threads are doing."""
        for end in (self.ours, self.node):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


@dataclass
class Bridge:
    """The bridged sockets of one program, by their number in it. `refused` connections went nowhere, the last to
    `last_refused` (CID:port)."""

    handler: VsockHandler
    refused: int = 0
    last_refused: str = ""
    _open: dict[int, _Bridged] = field(default_factory=dict)

    def socket(self, listener: Listener, call: Call) -> None:
        """Answer socket(AF_VSOCK, …): one end of a pair of Unix sockets, whose other end we keep.

        Not a socket that is still to be connected: it would be of our network namespace, and by it the program could
        reach the abstract sockets of this machine.
        """
        kind = call.arguments[1]
        if kind & 0xF != socket.SOCK_STREAM:
            listener.deny(call, errno.ESOCKTNOSUPPORT)
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            theirs.setblocking(not kind & socket.SOCK_NONBLOCK)
            bridged = _Bridged(ours, os.fstat(theirs.fileno()).st_ino)
            number = listener.give(call, theirs.fileno(), close_on_exec=bool(kind & socket.SOCK_CLOEXEC))
        if number in self._open:  # the program closed that one
            self._open[number].close()
        self._open[number] = bridged

    def answer(self, listener: Listener, call: Call, memory: Memory) -> bool:
        """Answer connect, getsockname or getpeername; False when the descriptor is none of ours."""
        bridged = self._of(call)
        if bridged is None:
            return False
        if call.name == "connect":
            code = self._connect(bridged, memory.read(call.arguments[1], _ADDRESS.size))
        else:
            code = self._name(bridged, call, memory)
        if code:
            listener.deny(call, code)
        else:
            listener.reply(call, 0)
        return True

    def close(self) -> None:
        """Let go of our descriptors."""
        for bridged in self._open.values():
            bridged.close()
        self._open.clear()

    def _of(self, call: Call) -> _Bridged | None:
        bridged = self._open.get(call.arguments[0])
        if bridged is None:
            return None
        # The program may have closed its own and got the number again for something else.
        try:
            theirs = Path(f"/proc/{call.pid}/fd/{call.arguments[0]}").stat()
        except OSError:
            return None
        return bridged if theirs.st_ino == bridged.inode else None

    def _connect(self, bridged: _Bridged, address: bytes) -> int:
        if len(address) < _ADDRESS.size:
            return errno.EFAULT
        family, _, port, cid, _ = _ADDRESS.unpack(address)
        if family != AF_VSOCK:
            return errno.EINVAL
        where = self.handler(cid, port)
        if where is None:
            self.refused += 1
            self.last_refused = f"{cid}:{port}"
            return errno.ECONNRESET  # what vsock gives where nobody listens
        if bridged.node is not None:
            return errno.EISCONN
        node = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            node.connect(str(where))
        except OSError as error:
            node.close()
            return error.errno or errno.ECONNRESET
        bridged.node, bridged.peer = node, (cid, port)
        join_sockets(bridged.ours, node)
        return 0

    @staticmethod
    def _name(bridged: _Bridged, call: Call, memory: Memory) -> int:
        asks_for_peer = call.name == "getpeername"
        if asks_for_peer and bridged.peer is None:
            return errno.ENOTCONN
        cid, port = bridged.peer if asks_for_peer and bridged.peer else (_GUEST_CID, 1024)
        length = memory.read(call.arguments[2], 4)
        if len(length) < 4:
            return errno.EFAULT
        address = _ADDRESS.pack(AF_VSOCK, 0, port, cid, 0)
        try:
            memory.write(call.arguments[1], address[: struct.unpack("<I", length)[0]])
            memory.write(call.arguments[2], struct.pack("<I", len(address)))
        except OSError:
            return errno.EFAULT
        return 0
