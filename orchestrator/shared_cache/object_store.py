"""A shared cache in whatever fsspec reaches: S3 and its like, sftp, WebDAV … (extra `[remote]`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.resolved import redact_url
from orchestrator.shared_cache.backend import CHUNK, Sink, Source, check_name, copy_to, is_name

_INSTALL = "pip install 'gevulot-orchestrator[remote]'"


class FsspecBackend:
    """URL/KIND/KIND-HEX. An object store shows an object when it is whole; elsewhere a reader finds out by its hash."""

    remote = True

    def __init__(self, url: str) -> None:
        """Connects to nothing yet. UsageError for an address that fsspec can't use as it is installed."""
        try:
            import fsspec
        except ImportError as error:
            raise UsageError(f"the shared cache {redact_url(url)} needs fsspec", remedy=_INSTALL) from error
        self._url = url
        try:
            file_system, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, TypeError) as error:
            remedy = f"check the URL; for s3:// and the like: {_INSTALL}"
            raise UsageError(f"the shared cache {redact_url(url)} cannot be used: {error}", remedy=remedy) from error
        self._files: Any = file_system
        self._root = str(root).rstrip("/")

    @property
    def shown(self) -> str:
        """The URL, without credentials."""
        return redact_url(self._url)

    def fetch(self, name: str, sink: Sink) -> bool:
        """See `CacheBackend`."""
        path = self._path(name)
        try:
            stream = self._files.open(path, "rb")
        except FileNotFoundError:
            return False
        with stream:
            sink.expect(int(self._files.size(path) or 0))
            copy_to(stream, sink)
        return True

    def store(self, name: str, source: Source) -> None:
        """See `CacheBackend`."""
        path = self._path(name)
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        stream = self._files.open(path, "wb")
        # Not as a context: leaving it closes the file, which completes half an upload.
        try:
            while chunk := source.read(CHUNK):
                stream.write(chunk)
        except BaseException:
            stream.discard()
            raise
        stream.close()

    def has(self, name: str) -> bool:
        """See `CacheBackend`."""
        return bool(self._files.exists(self._path(name)))

    def names(self) -> Iterator[str]:
        """See `CacheBackend`."""
        paths = (str(path).rpartition("/")[2] for path in self._files.find(self._root))
        return (name for name in paths if is_name(name))

    def close(self) -> None:
        """See `CacheBackend`."""

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name).partition('-')[0]}/{name}"
