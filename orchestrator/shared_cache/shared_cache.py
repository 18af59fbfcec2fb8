"""A shared cache as a build uses it: within limits of time and size, and never the reason that a build fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from orchestrator.amounts import size as shown_size
from orchestrator.errors import UsageError
from orchestrator.events import Emit, Notice
from orchestrator.files import free_space, open_emptied, open_read_only
from orchestrator.shared_cache.backend import CacheBackend, SharedCacheError

T = TypeVar("T")
_ROOM: Final = 64 * 2**20
"""Bytes that are left free on the disk."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How slow a shared cache may be: in every `seconds` at least `least` bytes move, or what was asked for ends.

    `settle`: as `seconds`, for what is stored, which a disk or a registry takes its time over once all bytes are there.
    """

    seconds: float = 15.0
    settle: float = 60.0
    least: int = 256 * 1024


class SharedCache:
    """Used by several threads. The first failure to read ends all use of it, the first to write ends writing; each is
    said once, as a warning."""

    def __init__(
        self, backend: CacheBackend, *, writable: bool = False, emit: Emit, patience: Patience | None = None
    ) -> None:
        self._backend = backend
        self._emit = emit
        self._patience = patience or Patience()
        self._lock = threading.Lock()
        self._readable = True
        self._writable = writable
        self._refused: set[str] = set()

    @property
    def shown(self) -> str:
        """Its address, without credentials."""
        return self._backend.shown

    @property
    def remote(self) -> bool:
        """Whether a network leads to it."""
        return self._backend.remote

    @property
    def writable(self) -> bool:
        """Whether it may be written to, as far as is known."""
        return self._writable and self._readable

    def close(self) -> None:
        """Let go of its connections."""
        self._backend.close()

    def fetch(self, name: str, target: Path, limit: int) -> bool:
        """Write the file `name` to `target`; False when it can't be had. `limit` in bytes.

        Nothing is known of the bytes. Errors: OSError of this machine's own disk.
        """
        if not self._readable:
            return False
        with open_emptied(target) as file:
            sink = _LimitedSink(file, limit, target.parent)
            try:
                return self._watched(lambda: self._backend.fetch(name, sink), sink.count, self._patience.seconds)
            except (OSError, SharedCacheError) as error:
                if sink.own_error is not None:
                    raise sink.own_error from error
                if sink.too_large:
                    self.refuse(name, sink.too_large)
                else:
                    self._stop(error)
                return False
            finally:
                sink.close()

    def store(self, name: str, source: Path) -> None:
        """Put a file under a name, unless there is one already that was not refused. What fails is a warning."""
        if not self.writable:
            return
        try:
            with open_read_only(source) as file:
                stream = _CountedSource(file)
                self._watched(lambda: self._put(name, stream), stream.count, self._patience.settle)
        except (OSError, SharedCacheError) as error:
            self.stop_writing(error)

    def lacks(self, name: str) -> bool:
        """Whether it is to be written to, and has nothing right of this name."""
        if not self.writable:
            return False
        try:
            return name in self._refused or not self._watched(
                lambda: self._backend.has(name), lambda: 0, self._patience.seconds
            )
        except (OSError, SharedCacheError) as error:
            self._stop(error)
            return False

    def refuse(self, name: str, why: str) -> None:
        """Say that a file of the cache is not what its name says; it is replaced when there is a right one."""
        self._refused.add(name)
        text = f"the shared cache {self.shown}: {name} is refused, because {why}; this build does without it"
        self._emit(Notice(text=text, level="warning"))

    def _put(self, name: str, stream: _CountedSource) -> None:
        if name in self._refused or not self._backend.has(name):
            self._backend.store(name, stream)
            self._refused.discard(name)

    def _watched(self, action: Callable[[], T], count: Callable[[], int], seconds: float) -> T:
        """The action's result. SharedCacheError when too few bytes move; the action is then left to itself."""
        done, outcome = threading.Event(), list[T]()
        raised: list[BaseException] = []

        def run() -> None:
            try:
                outcome.append(action())
            except BaseException as error:  # noqa: BLE001 - raised again below
                raised.append(error)
            done.set()

        # A daemon: a program that ends doesn't wait for one that hangs.
        threading.Thread(target=run, name="shared-cache", daemon=True).start()
        before = count()
        while not done.wait(seconds):
            now = count()
            if now - before < self._patience.least:
                moved = f"{shown_size(now - before)} in {seconds:g} s"
                raise SharedCacheError(f"it is too slow ({moved})")
            before = now
        if raised:
            raise raised[0] if isinstance(raised[0], OSError | SharedCacheError) else _unexpected(raised[0])
        return outcome[0]

    def _stop(self, error: Exception) -> None:
        with self._lock:
            first, self._readable = self._readable, False
        if first:
            text = f"the shared cache {self.shown} is not used from here on: {_reason(error)}"
            self._emit(Notice(text=text, level="warning"))

    def stop_writing(self, error: Exception) -> None:
        """Put nothing more there; said once."""
        with self._lock:
            first, self._writable = self._writable, False
        if first:
            text = f"nothing more is put into the shared cache {self.shown}: {_reason(error)}"
            self._emit(Notice(text=text, level="warning"))


class _LimitedSink:
    """Takes at most `limit` bytes, and leaves room on the disk. After `close` it takes none: who was too slow to be
    waited for must not write any more."""

    def __init__(self, file: BinaryIO, limit: int, directory: Path) -> None:
        self._file, self._limit, self._directory = file, limit, directory
        self._lock = threading.Lock()
        self._open = True
        self._taken = 0
        self.own_error: OSError | None = None
        self.too_large = ""

    def count(self) -> int:
        return self._taken

    def expect(self, size: int) -> None:
        if size > self._limit:
            self.too_large = f"it has {shown_size(size)}, and {shown_size(self._limit)} is the limit"
            raise SharedCacheError(self.too_large)
        if size + _ROOM > free_space(self._directory):
            self.too_large = f"it has {shown_size(size)}, for which there is no room on this machine's disk"
            raise SharedCacheError(self.too_large)

    def write(self, data: bytes) -> None:
        with self._lock:
            if not self._open:
                raise SharedCacheError("nobody waits for it any more")
            self._taken += len(data)
            if self._taken > self._limit:
                self.too_large = f"it has more than {shown_size(self._limit)}, which is the limit"
                raise SharedCacheError(self.too_large)
            try:
                self._file.write(data)
            except OSError as error:
                self.own_error = error
                raise

    def close(self) -> None:
        with self._lock:
            self._open = False


class _CountedSource:
    """A file that is read, with a count of the bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._read = 0

    def count(self) -> int:
        return self._read

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._read += len(data)
        return data

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)


def _reason(error: Exception) -> str:
    if isinstance(error, SharedCacheError):
        return f"{error.message}; {error.remedy}" if error.remedy else error.message
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _unexpected(error: BaseException) -> Exception:
    """What a library raises of its own kinds, as a failure of the cache; a fault of ours or of the user's stays one."""
    if isinstance(error, UsageError) or not isinstance(error, Exception):
        raise error
    return SharedCacheError(f"{type(error).__name__}: {error}")
