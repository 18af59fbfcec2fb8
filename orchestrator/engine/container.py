"""A container that runs, through the Docker API."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from orchestrator.engine.base import ContainerRequest
from orchestrator.engine.docker_api import Api, ApiError
from orchestrator.label import LABEL


def create_body(request: ContainerRequest, *, rootless: bool) -> dict[str, Any]:
    """What /containers/create is sent.

    Not root here: the same user there, so that what it writes is ours and its memory can be read. Of a rootless
    engine that is the container's root, and another may not exist. The engine's own seccomp profile stays.
    """
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
    if request.memory:
        host |= {"Memory": request.memory, "MemorySwap": request.memory}
    if request.processes:
        host["PidsLimit"] = request.processes
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


@dataclass(frozen=True)
class ApiContainer:
    """A container by its name; a `Container`."""

    api: Api
    name: str
    request: ContainerRequest

    def start(self) -> None:
        """Start it, without waiting."""
        self.api.json("POST", f"/containers/{self.name}/start")

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
