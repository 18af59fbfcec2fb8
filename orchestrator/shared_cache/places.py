"""Which backend an address is of."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.errors import UsageError
from orchestrator.resolved import redact_url
from orchestrator.shared_cache.backend import CacheBackend


def open_backend(address: str, *, writable: bool = False) -> CacheBackend:
    """The backend of `address`: a directory or file: URL, oci://HOST/PATH, any URL of fsspec. Connects to nothing.

    A directory that is missing is made where the cache is `writable`. UsageError for what is none of these.
    """
    from orchestrator.shared_cache.registry import OCI, PLAIN, RegistryBackend

    if address.startswith((OCI, PLAIN)):
        return RegistryBackend(address)
    scheme, separator, _ = address.partition("://")
    if separator and scheme in ("http", "https"):
        remedy = "a registry is oci://HOST/PATH, an object store s3://BUCKET/PATH"
        raise UsageError(f"a shared cache cannot be at the {scheme} address {redact_url(address)}", remedy=remedy)
    if separator and scheme not in ("file", "local"):
        from orchestrator.shared_cache.object_store import FsspecBackend

        return FsspecBackend(address)
    from orchestrator.shared_cache.directory import DirectoryBackend

    path = Path(unquote(urlsplit(address).path)) if separator else Path(address).expanduser()
    return DirectoryBackend(path.absolute(), make=writable)
