"""Which shared cache a command uses: as its options say, else the user's settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.events import Emit
from orchestrator.project.user_settings import CacheRole, CacheSettings, read_settings
from orchestrator.shared_cache.places import open_backend
from orchestrator.shared_cache.shared_cache import SharedCache
from orchestrator.user_paths import settings_path

NO_CACHE: Final = "none"


@dataclass(frozen=True, kw_only=True)
class CacheChoice:
    """A shared cache, and what a machine does with it."""

    url: str
    role: CacheRole = "read"

    def open(self, emit: Emit, *, offline: bool = False) -> SharedCache | None:
        """The cache; None where no network may be used and one leads to it. UsageError for an address that is none."""
        writable = self.role == "read-write"
        backend = open_backend(self.url, writable=writable)
        return None if offline and backend.remote else SharedCache(backend, writable=writable, emit=emit)


def chosen_cache(url: str | None = None, role: CacheRole | None = None) -> CacheChoice | None:
    """The cache that options ask for; what they leave out is as in the user's settings. None without any."""
    path = settings_path()
    settings = read_settings(path).cache if path.is_file() else CacheSettings()
    if url == NO_CACHE or (url is None and settings.url is None):
        return None
    if url is None:
        # As written in a file: relative to it.
        written = settings.url or ""
        url = written if "://" in written else str(path.parent / Path(written).expanduser())
    return CacheChoice(url=url, role=role or settings.role)
