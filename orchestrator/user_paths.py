"""Where a user's own files of ours are: settings, fetched inputs, and what a private Podman keeps."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path, user_config_path, user_data_path, user_state_path

CACHE_VARIABLE = "ORCHESTRATOR_CACHE_DIR"
_NAME = "gevulot-orchestrator"


def settings_path() -> Path:
    """The user's settings: `gevulot-orchestrator/config.yaml` in the user's configuration directory."""
    return user_config_path(_NAME) / "config.yaml"


def cache_root() -> Path:
    """The cache of fetched inputs: ORCHESTRATOR_CACHE_DIR, else the user's cache directory."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser().absolute() if named else user_cache_path(_NAME)


def podman_memory() -> Path:
    """The settings with which a private Podman works here."""
    return user_cache_path(_NAME) / "podman-settings.json"


def podman_storage(driver: str) -> Path:
    """The private Podman's own store for a storage driver."""
    return user_data_path(_NAME) / f"storage-{driver}"


def step_caches() -> Path:
    """What RUN's caches hold on a private Podman."""
    return user_cache_path(_NAME) / "step-caches"


def is_visible(path: Path, kind: int = 0) -> bool:
    """Whether there is such a path, as far as this user may look; of one `kind` (stat.S_IFREG, …) where it is given.

    Path.exists and its like raise where a directory above is closed: /run/containers, say, where root has used Podman.
    """
    with suppress(OSError, ValueError):
        return kind in (0, stat.S_IFMT(path.stat().st_mode))
    return False


def build_logs() -> Path:
    """What builds say while they run, a file each: see `build_logs`."""
    return user_state_path(_NAME) / "builds"


def running_builds() -> Path:
    """The builds that run now, a file each: see `engine.running`."""
    return user_cache_path(_NAME) / "running"


def synced_contexts() -> Path:
    """What daemons keep of build contexts: see `engine.sync_records`."""
    return user_cache_path(_NAME) / "synced"


def fleet_credentials() -> Path:
    """What this user's machine knows of a fleet: certificates and keys."""
    return user_config_path(_NAME) / "fleet"
