"""What somebody says to a peer of a fleet by hand: TLS with a certificate or without, frames of Dask, and pickles."""

from __future__ import annotations

import pickle
import socket
import ssl
from pathlib import Path
from typing import Any

import msgpack
from distributed.protocol.utils import pack_frames

from orchestrator.fleet.credentials import Role


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def connect(address: str, tls: Path | None, role: Role) -> ssl.SSLSocket:
    """TLS to a peer, with a certificate of `role`; None: with none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if tls is not None:
        context.load_cert_chain(tls / f"{role}.pem", tls / f"{role}.key")
    host, port = address.removeprefix("tls://").split(":")
    return context.wrap_socket(socket.create_connection((host, int(port)), timeout=10))


def frames_of(message: object, *more: bytes) -> bytes:
    """A message as Dask sends it; `more` are its further frames."""
    return bytes(pack_frames([msgpack.packb(message), *more]))


def say(peer: ssl.SSLSocket, *messages: bytes) -> bytes:
    """Say them one after the other; all that comes until the peer ends the connection, or 1 s."""
    peer.settimeout(1)
    said = b""
    try:
        for message in messages:
            peer.sendall(len(message).to_bytes(8, "little") + message)
        while data := peer.recv(65536):
            said += data
    except TimeoutError:
        return said + b" (still open)"
    except OSError:
        pass
    return said


HANDSHAKE = frames_of({"compression": None, "python": [3, 11, 0], "pickle-protocol": 5})


def pickled(path: Path) -> bytes:
    """A message that holds a pickle, as Dask marks it."""
    header = msgpack.packb({"pickled-obj": pickle.dumps(Touch(path)), "num-sub-frames": 0})
    return frames_of({"op": "identity", "told": {"__Pickled__": 1}}, header)


def serialized(path: Path) -> bytes:
    """The same in the other form that it has."""
    header = msgpack.packb({"serializer": "pickle", "writeable": [], "num-sub-frames": 1})
    return frames_of({"op": "identity", "told": {"__Serialized__": 1}}, header, pickle.dumps(Touch(path)))
