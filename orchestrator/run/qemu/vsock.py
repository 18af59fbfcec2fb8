"""The stand-in of the node for a machine in QEMU: the host's vsock, handed on to the stand-in's Unix socket."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from orchestrator.errors import EngineError
from orchestrator.rpc import join_sockets, socket_directory
from orchestrator.run.node.local_node import LocalNode, serving
from orchestrator.run.node.messages import PORT

DEVICE: Final = Path("/dev/vhost-vsock")


def can_serve() -> bool:
    """Whether this machine can give a guest a vsock device."""
    return DEVICE.exists()


@contextmanager
def node_for_guest(node: LocalNode) -> Iterator[int]:
    """Serve `node` to a guest; gives the CID that the guest is to have.

    EngineError when this machine has no vhost-vsock, or something else serves the node's port.
    """
    if not can_serve():
        raise EngineError(
            f"this machine has no {DEVICE}: the guest cannot reach a node",
            remedy="run `modprobe vhost_vsock` as root; or use `rehearse`, which does not need it",
        )
    with ExitStack() as stack:
        path = stack.enter_context(socket_directory("boot")) / "node.sock"
        listener = stack.enter_context(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
        try:
            listener.bind((socket.VMADDR_CID_ANY, PORT))
        except OSError as error:
            raise EngineError(
                f"port {PORT} of this machine's vsock is not available: {error.strerror}",
                remedy="is a Gevulot node, or another `boot` of a devnet image, running?",
            ) from error
        listener.listen()
        stack.enter_context(serving(node, path))
        guest = 1000 + secrets.randbelow(1 << 30)
        stack.enter_context(forwarding(listener, path, guest))
        yield guest


@contextmanager
def forwarding(listener: socket.socket, path: Path, guest: int | None = None) -> Iterator[None]:
    """Connect what comes to `listener` with the Unix socket at `path`, until the end.

    Only what comes from the CID `guest` (None: all): any process of this machine, and any guest, may connect.
    """
    open_: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):  # the listener was shut down
            while True:
                theirs, address = listener.accept()
                if guest is not None and address[0] != guest:
                    theirs.close()
                    continue
                ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                open_.extend((theirs, ours))
                ours.connect(str(path))
                join_sockets(theirs, ours)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for connection in open_:
            connection.close()
