"""A container that runs, through the Docker API."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from orchestrator.engine.archive import ArchiveStream
from orchestrator.engine.base import ContainerRequest
from orchestrator.engine.docker_api import Api, ApiError
from orchestrator.label import LABEL


def create_body(request: ContainerRequest, *, rootless: bool) -> dict[str, Any]:
    """What /containers/create is sent.

    Not root here: the same user there, so that what it writes is ours and its memory can be read. Of a rootless
    engine that is the container's root, and another may not exist. The engine's own seccomp profile stays.
    """
    if request.nested:
        return _nested_body(request)
    user = request.user if request.user is not None else os.geteuid()
    group = request.user if request.user is not None else os.getegid()
    host: dict[str, Any] = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "IpcMode": "none",  # no /dev/shm
        # Docker's own list, and what else could be written to by a container's root.
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/dev"],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        # Not Binds: of those, a daemon that doesn't see our files makes empty directories, and leaves them.
        "Mounts": [
            {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": ro}
            for source, target, ro in request.mounts
        ],
    }
    host |= _limits(request)
    if request.devices:
        # Nodes, not the nvidia runtime: that would lay the driver's libraries over those of the image's tree.
        host["Devices"] = [
            {"PathOnHost": device, "PathInContainer": device, "CgroupPermissions": "rw"} for device in request.devices
        ]
    return {
        "Image": request.image,
        "Entrypoint": list(request.command),
        "Cmd": [],
        "Labels": {LABEL: request.build_id},
        "Hostname": request.hostname,
        "User": f"{user}:{group}" if user and not rootless else "",
        "HostConfig": host,
    }


NESTED = ("SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN")
"""Besides an engine's own: to make namespaces and mount in them, to read the memory of a program of another user, and
to raise its loopback interface."""


def _nested_body(request: ContainerRequest) -> dict[str, Any]:
    host: dict[str, Any] = {
        "NetworkMode": "none",
        "CapAdd": list(NESTED),
        "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined", "label=disable"],
        "MaskedPaths": [],
        "ReadonlyPaths": [],
        "LogConfig": {"Type": "json-file", "Config": {}},  # what it writes is read from there
        **_limits(request),
    }
    return {
        "Image": request.image,
        "Entrypoint": list(request.command),
        "Cmd": [],
        "Labels": {LABEL: request.build_id},
        "User": "",
        "HostConfig": host,
    }


def _limits(request: ContainerRequest) -> dict[str, Any]:
    memory = {"Memory": request.memory, "MemorySwap": request.memory} if request.memory else {}
    return memory | ({"PidsLimit": request.processes} if request.processes else {})


@dataclass(frozen=True)
class ApiContainer:
    """A container by its name; a `Container`."""

    api: Api
    name: str
    request: ContainerRequest

    def start(self) -> None:
        """Start it, without waiting."""
        self.api.json("POST", f"/containers/{self.name}/start")

    def put(self, tar: Iterable[bytes]) -> None:
        """Unpack a tar at its root, before it is started."""
        self.api.put(f"/containers/{self.name}/archive", params={"path": "/"}, data=tar)

    @contextmanager
    def output(self) -> Iterator[Iterator[tuple[str, bytes]]]:
        """What it writes until its end."""
        query = {"follow": True, "stdout": True, "stderr": True}
        with self.api.get_stream(f"/containers/{self.name}/logs", params=query) as chunks:
            yield _frames(chunks)

    @contextmanager
    def open_archive(self, path: str) -> Iterator[BinaryIO]:
        """A tar stream of `path` in it."""
        with self.api.get_stream(f"/containers/{self.name}/archive", params={"path": path}) as chunks:
            yield cast(BinaryIO, io.BufferedReader(ArchiveStream(chunks, path), 1 << 20))

    def problem(self) -> str | None:
        """How it ended; None while it runs."""
        state = self.api.json("GET", f"/containers/{self.name}/json")["State"]
        if state.get("Running") or state.get("Status") in ("created", "configured", "initialized"):
            return None
        return str(state.get("Error") or f"its container ended with exit code {state.get('ExitCode')}")

    def kill(self) -> None:
        """End it; one that has ended is no error."""
        try:
            self.api.json("POST", f"/containers/{self.name}/kill")
        except ApiError as error:
            if error.status not in (404, 409):
                raise


def _frames(chunks: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """A log's frames: one byte for the stream, three of nothing, four for the size (Docker's API, "stream format")."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        while len(rest) >= 8 and len(rest) >= 8 + (size := int.from_bytes(rest[4:8], "big")):
            yield "stderr" if rest[0] == 2 else "stdout", rest[8 : 8 + size]
            rest = rest[8 + size :]
