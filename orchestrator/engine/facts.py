"""What an engine says of itself and of its machine, read out of its answer to /info."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.engine.base import EnginePlace

LIMITS = ("memory", "pids")
"""What a container of ours is limited in, by its control group."""
_SNAPSHOTTER = "io.containerd.snapshotter.v1"


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """One engine's; "" = it doesn't say. `identity` tells it from others. `kernel` is the release of its machine's,
    `records` where Podman keeps what it knows of its containers, `temporary` where it has its temporary files. `places`
    are directories of its machine. `limits`: those of LIMITS that it can set.
    """

    storage: str = ""
    cgroup: str = ""
    limits: tuple[str, ...] = LIMITS
    rootless: bool = False
    kernel: str = ""
    desktop: bool = False
    places: tuple[EnginePlace, ...] = ()
    records: Path | None = None
    temporary: Path | None = None
    identity: str = ""

    def is_elsewhere(self, endpoint: str) -> bool:
        """Whether the engine at `endpoint` runs on another machine than this process; a virtual one is another."""
        if not endpoint.startswith("unix://") or self.desktop:
            return True
        return self.kernel not in ("", os.uname().release)


def docker_facts(info: Mapping[str, Any]) -> EngineFacts:
    """Of Docker's /info."""
    driver = str(info.get("Driver") or "")
    if any(_SNAPSHOTTER in row for row in info.get("DriverStatus") or ()):
        driver = f"containerd/{driver}"
    root = str(info.get("DockerRootDir") or "")
    return EngineFacts(
        storage=driver,
        cgroup=str(info.get("CgroupVersion") or ""),
        limits=tuple(
            limit
            for limit, known in zip(LIMITS, ("MemoryLimit", "PidsLimit"), strict=True)
            if info.get(known) is not False
        ),
        rootless="name=rootless" in (info.get("SecurityOptions") or ()),
        kernel=str(info.get("KernelVersion") or ""),
        desktop="Desktop" in str(info.get("OperatingSystem")),
        identity=str(info.get("ID") or ""),
        places=(EnginePlace(path=Path(root), name="Docker's storage"),) if root else (),
    )


def podman_facts(info: Mapping[str, Any]) -> EngineFacts:
    """Of Podman's own /libpod/info: the compatible one does not name all its directories."""
    host, store = info.get("host") or {}, info.get("store") or {}
    driver, root = str(store.get("graphDriverName") or ""), str(store.get("graphRoot") or "")
    temporary = str(store.get("imageCopyTmpDir") or "")
    named = ((root, "Podman's storage"), (temporary, "Podman's temporary files (TMPDIR)"))
    return EngineFacts(
        storage=driver,
        cgroup=str(host.get("cgroupVersion") or "").removeprefix("v"),
        limits=tuple(limit for limit in LIMITS if limit in (host.get("cgroupControllers", LIMITS) or ())),
        rootless=bool((host.get("security") or {}).get("rootless")),
        kernel=str(host.get("kernel") or ""),
        places=tuple(EnginePlace(path=Path(path), name=name) for path, name in named if path),
        records=Path(root) / f"{driver}-containers" if root else None,
        temporary=Path(temporary) if temporary else None,
    )
