"""Which shared cache a command uses: as its options say, else the user's settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.events import Emit
from orchestrator.project.user_settings import CacheRole, CacheSettings, read_settings
from orchestrator.shared_cache.places import open_backend
from orchestrator.shared_cache.shared_cache import SharedCache
from orchestrator.user_paths import settings_path

if TYPE_CHECKING:
    from orchestrator.shared_cache.results import SharedResults

NO_CACHE: Final = "none"


@dataclass(frozen=True, kw_only=True)
class CacheChoice:
    """A shared cache, and what a machine does with it.

    `trusted`: files of public keys, whose results are believed; `sign`: of the private key that signs what is put
    there, which is believed too.
    """

    url: str
    role: CacheRole = "read"
    trusted: tuple[Path, ...] = ()
    sign: Path | None = None

    def open(self, emit: Emit, *, offline: bool = False) -> SharedCache | None:
        """The cache; None where no network may be used and one leads to it. UsageError for an address that is none."""
        writable = self.role == "read-write"
        backend = open_backend(self.url, writable=writable)
        return None if offline and backend.remote else SharedCache(backend, writable=writable, emit=emit)

    def results(self, cache: SharedCache) -> SharedResults:
        """The results in it. UsageError for a key that is none."""
        from orchestrator.provenance.dsse import PublicKey, load_public_key, load_signing_key
        from orchestrator.shared_cache.results import SharedResults

        trusted = [load_public_key(path) for path in self.trusted]
        sign = load_signing_key(self.sign) if self.sign is not None else None
        if sign is not None:
            trusted.append(PublicKey(key=sign.key.public_key(), id=sign.id))
        return SharedResults(cache, trusted=trusted, sign=sign)


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """What a command's options say; what they leave out is as in the user's settings."""

    url: str | None = None
    role: CacheRole | None = None
    trusted: tuple[Path, ...] = ()
    sign: Path | None = None


def chosen_cache(asked: CacheOptions) -> CacheChoice | None:
    """The cache that is asked for; None without any. UsageError for settings that are wrong."""
    path = settings_path()
    settings = read_settings(path).cache if path.is_file() else CacheSettings()
    if asked.url == NO_CACHE or (asked.url is None and settings.url is None):
        return None

    def beside(written: str) -> Path:
        return path.parent / Path(written).expanduser()

    url = asked.url
    if url is None:
        written = settings.url or ""
        url = written if "://" in written else str(beside(written))
    return CacheChoice(
        url=url,
        role=asked.role or settings.role,
        trusted=asked.trusted or tuple(map(beside, settings.trusted_keys)),
        sign=asked.sign or (beside(settings.sign) if settings.sign is not None else None),
    )
