"""A container that runs, as Podman's own API is asked for it.

Not by the compatible one: there a read-only root brings tmpfs over /tmp, /run and /var/tmp (4.3.1), which hides what
the image has there, and is memory without a limit.
"""

from __future__ import annotations

import os
from typing import Any

from orchestrator.engine.base import ContainerRequest
from orchestrator.engine.container import NESTED
from orchestrator.label import LABEL

_BIND = ["rbind", "nosuid", "nodev"]
_DEV = ["ro", "nosuid", "noexec", "mode=755", "size=64k"]


def specification(request: ContainerRequest, name: str, *, rootless: bool) -> dict[str, Any]:
    """What /libpod/containers/create is sent. Whose it is: see `create_body`, which asks Docker for the same."""
    if request.nested:
        return _nested(request, name)
    user = request.user if request.user is not None else os.geteuid()
    group = request.user if request.user is not None else os.getegid()
    binds = [
        {"destination": target, "source": str(source), "type": "bind", "options": [*_BIND, "ro" if ro else "rw"]}
        for source, target, ro in request.mounts
    ]
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
        "resource_limits": _limits(request),
    }


def _nested(request: ContainerRequest, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": request.image,
        "entrypoint": list(request.command),
        "command": [],
        "labels": {LABEL: request.build_id},
        "netns": {"nsmode": "none"},
        "cap_add": list(NESTED),
        "seccomp_profile_path": "unconfined",
        "apparmor_profile": "unconfined",
        "selinux_opts": ["disable"],
        "unmask": ["ALL"],
        "log_configuration": {"driver": "k8s-file"},  # what it writes is read from there
        "resource_limits": _limits(request),
    }


def _limits(request: ContainerRequest) -> dict[str, Any]:
    memory = {"memory": {"limit": request.memory, "swap": request.memory}} if request.memory else {}
    return memory | ({"pids": {"limit": request.processes}} if request.processes else {})
