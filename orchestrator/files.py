"""Writing files: the one place that opens them for writing.

Nothing is written through a symbolic link at a file's own name: a project, an archive or a program may have put one
there. A killed program leaves nothing half done under a final name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO

PARTIAL_PREFIX = ".orchestrator-"
PARTIAL_SUFFIX = ".partial"
# Less the process's umask; never writable for everyone, whatever that is.
FILE_MODE, DIRECTORY_MODE = 0o664, 0o775
_POLL = 0.05
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on a clean exit fsync it and rename it over `path`.

    On any exception the temporary is removed and `path` is as it was. A process killed outright leaves a file
    `.orchestrator-*.partial`, which the next one that writes to `path` removes, and `clean`.
    """
    make_directory(path.parent)
    remove_partial(path)
    temporary, held = _temporary(path)
    try:
        yield temporary
        commit(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    finally:
        os.close(held)


@contextmanager
def temporary_files_beside(path: Path) -> Iterator[Callable[[], Path]]:
    """Give a maker of temporary files beside `path`; all of them are removed at the end, unless they were renamed."""
    make_directory(path.parent)
    made: list[tuple[Path, int]] = []

    def make() -> Path:
        made.append(_temporary(path))
        return made[-1][0]

    try:
        yield make
    finally:
        for file, held in made:
            file.unlink(missing_ok=True)
            os.close(held)


def _temporary(path: Path) -> tuple[Path, int]:
    """A new file, and a descriptor that keeps a lock on it: see `remove_unused`."""
    held, name = tempfile.mkstemp(prefix=f"{PARTIAL_PREFIX}{path.name}-", suffix=PARTIAL_SUFFIX, dir=path.parent)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    temporary = Path(name)
    temporary.chmod(FILE_MODE & ~_umask())
    return temporary, held


def remove_partial(path: Path) -> None:
    """Remove the temporary files beside `path` of processes that were killed while they wrote it."""
    prefix = f"{PARTIAL_PREFIX}{path.name}-"
    with os.scandir(path.parent) as entries:
        names = [e.name for e in entries if e.name.startswith(prefix) and e.name.endswith(PARTIAL_SUFFIX)]
    for name in names:
        with suppress(OSError):
            remove_unused(path.with_name(name))


def remove_unused(path: Path, *, dry_run: bool = False) -> bool:
    """Remove a lock's or temporary file that no process holds; False for one that is in use, which stays."""
    try:
        descriptor = open_regular(path, os.O_RDWR)
    except OSError:  # not one that we made, but its name says that it is of no use
        if not dry_run:
            path.unlink(missing_ok=True)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not dry_run:
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def commit(temporary: Path, path: Path) -> None:
    """fsync `temporary`, rename it over `path`, fsync the directory: after a crash it is the old or the new."""
    descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def flush(path: Path) -> None:
    """What was written to a file so far is on the disk, so that `commit` has little to wait for."""
    descriptor = open_regular(path, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """`path` holds exactly `text`, or is as it was; a link of that name is replaced, not followed."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """`path` holds exactly `data`, or is as it was; a link of that name is replaced, not followed."""
    with replacing(path) as temporary:
        fill(temporary, data)


def make_directory(path: Path, mode: int = DIRECTORY_MODE) -> None:
    """Make a directory and those above it, where they are missing. OSError for something else of that name."""
    missing = []
    for directory in (path, *path.parents):
        if directory.is_dir():
            break
        missing.append(directory)
    for directory in reversed(missing):
        with suppress(FileExistsError):  # somebody else makes it too; or it is no directory, which shows below
            directory.mkdir(mode=mode)
    if missing and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def free_space(path: Path) -> int:
    """Bytes that this user may still write on the file system of `path`, which exists."""
    space = os.statvfs(path)
    return space.f_bavail * space.f_frsize


def mount_point(path: Path) -> Path:
    """Where the file system of `path`, which exists, is mounted."""
    here = Path(os.path.realpath(path))
    while not here.is_mount() and here != here.parent:
        here = here.parent
    return here


def create(path: Path, mode: int = FILE_MODE) -> BinaryIO:
    """A new file, open for writing. FileExistsError for whatever has the name, a link too."""
    return os.fdopen(os.open(path, os.O_WRONLY | _NEW, mode), "wb")


def write_new(path: Path, data: bytes) -> None:
    """A new file of `data`, in a directory that is ours alone."""
    with create(path) as sink:
        sink.write(data)


def fill(path: Path, data: bytes) -> None:
    """The regular file `path`, a temporary of ours, holds exactly `data`. OSError (ELOOP) for a link."""
    with open_emptied(path) as sink:
        sink.write(data)


def open_emptied(path: Path) -> BinaryIO:
    """The regular file `path`, made or emptied, open for writing. OSError (ELOOP) for a link."""
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, 0)
    return os.fdopen(descriptor, "r+b")


def open_for_append(path: Path) -> BinaryIO:
    """The regular file `path`, made where it is missing, open for writing at its end. OSError (ELOOP) for a link."""
    return os.fdopen(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab")


def open_read_only(path: Path) -> BinaryIO:
    """A regular file that somebody else may have made: no link is followed and no pipe waited for."""
    return os.fdopen(open_regular(path, os.O_RDONLY), "rb")


def open_regular(path: Path, flags: int) -> int:
    """A descriptor of the regular file `path`. OSError for a link (ELOOP) and for a pipe, socket or device (EPERM)."""
    # O_NONBLOCK: a pipe of that name must not be waited for. It means nothing for a file.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, FILE_MODE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "is not a regular file", str(path))
    return descriptor


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes and mode to the new file `target`."""
    with create(target) as sink, source.open("rb") as stream:
        _copy(stream, sink)


def copy_over(source: Path, temporary: Path) -> None:
    """Copy a file's bytes and mode into `temporary`, one of `replacing`."""
    with open_emptied(temporary) as sink, source.open("rb") as stream:
        _copy(stream, sink)


def _copy(stream: BinaryIO, sink: BinaryIO) -> None:
    shutil.copyfileobj(stream, sink, 1024 * 1024)
    os.fchmod(sink.fileno(), stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o775)


class FileLock:
    """A lock between processes and threads, on the file `path`, which is made. It goes with the process.

    Errors: OSError (ELOOP) where the path is a symbolic link.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = -1

    def acquire(self, timeout: float | None = None) -> bool:
        """Take it, waiting for `timeout` seconds (None: as long as it takes); whether it was had."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            descriptor = open_regular(self._path, os.O_RDWR | os.O_CREAT)
            try:
                if _flocked(descriptor, deadline) and _is_at(descriptor, self._path):
                    self._held, descriptor = descriptor, -1
                    return True
                if deadline is not None and time.monotonic() >= deadline:
                    return False
            finally:
                if descriptor >= 0:
                    os.close(descriptor)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two hold it."""
        os.close(self._held)
        self._held = -1


def _flocked(descriptor: int, deadline: float | None) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if deadline is None else fcntl.LOCK_NB))
        except BlockingIOError:
            if deadline is None or time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        else:
            return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still what has the name (`clean` removes the locks of an output directory)."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


class GuardedTree:
    """A directory that is being filled from outside. No path below it is reached through a link.

    `folder_mode`: of the directories it makes, whatever the umask; None: as usual.
    Errors: OSError where something on the way is a link or no directory, or where the name is taken.
    """

    def __init__(self, root: Path, *, folder_mode: int | None = None) -> None:
        make_directory(root)
        self._folder_mode = folder_mode
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Members come directory by directory: the last one is kept open.
        self._last: tuple[tuple[str, ...], int] = ((), self._root)

    def __enter__(self) -> GuardedTree:
        """Itself."""
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        """Close what is open."""
        self.close()

    def close(self) -> None:
        """Close what is open."""
        self._leave()
        os.close(self._root)

    def make_directory(self, path: PurePosixPath) -> None:
        """Make a directory and those above it."""
        self._enter(path.parts)

    def create_file(self, path: PurePosixPath, mode: int = 0o644) -> BinaryIO:
        """A new file, open for writing, with exactly `mode`."""
        descriptor = os.open(path.name, os.O_RDWR | _NEW, 0o600, dir_fd=self._enter(path.parts[:-1]))
        os.fchmod(descriptor, mode)
        return os.fdopen(descriptor, "r+b")

    def make_symlink(self, path: PurePosixPath, target: str) -> None:
        """A new symbolic link, its text as it is."""
        os.symlink(target, path.name, dir_fd=self._enter(path.parts[:-1]))

    def make_hard_link(self, path: PurePosixPath, other: PurePosixPath) -> None:
        """A new hard link to the regular file `other` of the tree."""
        source = os.dup(self._enter(other.parts[:-1]))
        try:
            target = self._enter(path.parts[:-1])
            os.link(other.name, path.name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(source)

    def kind_of(self, path: PurePosixPath) -> str:
        """What has the name: directory|file|link|other, "" for nothing. OSError where it lies below no directory."""
        try:
            mode = os.stat(path.name, dir_fd=self._enter(path.parts[:-1]), follow_symlinks=False).st_mode
        except FileNotFoundError:
            return ""
        kinds = ((stat.S_ISDIR, "directory"), (stat.S_ISREG, "file"), (stat.S_ISLNK, "link"))
        return next((name for test, name in kinds if test(mode)), "other")

    def remove(self, path: PurePosixPath) -> None:
        """Remove a file or link."""
        os.unlink(path.name, dir_fd=self._enter(path.parts[:-1]))

    def _enter(self, parts: tuple[str, ...]) -> int:
        """The descriptor of a directory below the root, made where it is missing."""
        if parts == self._last[0]:
            return self._last[1]
        current = os.dup(self._root)
        for number, part in enumerate(parts):
            if part in ("", ".", "..") or "/" in part:
                os.close(current)
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), "/".join(parts))
            made = False
            try:
                with suppress(FileExistsError):
                    os.mkdir(part, DIRECTORY_MODE, dir_fd=current)
                    made = True
                inner = os.open(part, _DIRECTORY, dir_fd=current)
            except OSError as error:
                # As Linux says it of a link (ENOTDIR): the path that is in the way.
                raise OSError(error.errno, error.strerror, "/".join(parts[: number + 1])) from error
            finally:
                os.close(current)
            current = inner
            if made and self._folder_mode is not None:
                os.fchmod(current, self._folder_mode)
        self._leave()
        self._last = (parts, current)
        return current

    def _leave(self) -> None:
        if self._last[1] != self._root:
            os.close(self._last[1])
        self._last = ((), self._root)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
