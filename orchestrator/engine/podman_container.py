"""A container that runs, as Podman's own API is asked for it.

Not by the compatible one: there a read-only root brings tmpfs over /tmp, /run and /var/tmp (4.3.1), which hides what
the image has there, and is memory without a limit.
"""

from __future__ import annotations

import os
from typing import Any

from orchestrator.engine.base import ContainerRequest
from orchestrator.label import LABEL

_BIND = ["rbind", "nosuid", "nodev"]
_DEV = ["ro", "nosuid", "noexec", "mode=755", "size=64k"]


def specification(request: ContainerRequest, name: str, *, rootless: bool) -> dict[str, Any]:
    """What /libpod/containers/create is sent. Whose it is: see `create_body`, which asks Docker for the same."""
    user = request.user if request.user is not None else os.geteuid()
    group = request.user if request.user is not None else os.getegid()
    binds = [
        {"destination": target, "source": str(source), "type": "bind", "options": [*_BIND, "ro" if ro else "rw"]}
        for source, target, ro in request.mounts
    ]
    limits: dict[str, Any] = {}
    if request.memory:
        limits["memory"] = {"limit": request.memory, "swap": request.memory}
    if request.processes:
        limits["pids"] = {"limit": request.processes}
    return {
        "name": name,
        "image": request.image,
        "entrypoint": list(request.command),
        "command": [],
        "labels": {LABEL: request.build_id},
        "hostname": request.hostname,
        "user": f"{user}:{group}" if user and not rootless else "",
        "netns": {"nsmode": "none"},
        "ipcns": {"nsmode": "none"},  # no /dev/shm
        "read_only_filesystem": True,
        "read_write_tmpfs": False,
        "no_new_privileges": True,
        "cap_drop": ["ALL"],
        # Its root is the container's, and would have a place to write there where that is the program.
        "mounts": [*binds, {"destination": "/dev", "source": "tmpfs", "type": "tmpfs", "options": _DEV}],
        "devices": [{"path": device} for device in request.devices],
        "resource_limits": limits,
    }
