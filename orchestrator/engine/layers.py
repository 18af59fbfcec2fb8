"""A file of a container out of the layers of its overlay file system, as the kernel would find it.

Reading 1 GiB through an engine's archive takes 3 to 7 s, from the layer half a second (measured on Docker 20.10 and
Podman 4.3.1). The rules are those of the kernel's Documentation/filesystems/overlayfs.rst; whatever is out of the
ordinary (a redirected directory, a file whose data lies in another layer) is left to the engine.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_ELSEWHERE = (
    "trusted.overlay.redirect", "trusted.overlay.metacopy", "user.overlay.redirect", "user.overlay.metacopy",
)  # fmt: skip


class _UnusualError(Exception):
    """Something that only the kernel, mounting the layers, can resolve."""


def open_in_layers(layers: Sequence[str], path: str) -> BinaryIO | None:
    """The regular file `path` (absolute, without links) in layers, the uppermost first. None: ask the engine.

    No link is followed, whatever the layers hold: a path never leads out of its layer.
    """
    # Only root sees what overlayfs notes of a file.
    if os.geteuid() != 0 or not path.startswith("/"):
        return None
    parts = path.strip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        return None
    try:
        for layer in layers:
            descriptor, hidden = _look(layer, parts)
            if descriptor is not None:
                return os.fdopen(descriptor, "rb", buffering=0)
            if hidden:
                return None
    except (OSError, _UnusualError):
        return None
    return None


def _look(layer: str, parts: Sequence[str]) -> tuple[int | None, bool]:
    """The open file in one layer, None where it isn't there; whether the layers below don't count any more."""
    hidden = False
    with _opened(layer, None, os.O_DIRECTORY) as top:
        at, opened = top, []
        try:
            for part in parts[:-1]:
                with suppress(FileNotFoundError):
                    at = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                    opened.append(at)
                    _ordinary(at)
                    hidden = hidden or _is_opaque(at)
                    continue
                return None, hidden
            return _file(at, parts[-1]), hidden
        finally:
            for descriptor in opened:
                os.close(descriptor)


def _file(directory: int, name: str) -> int | None:
    try:
        # O_NONBLOCK: a whiteout is a device, and what else may lie there could be a pipe.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _UnusualError
        _ordinary(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _opened(path: str, directory: int | None, flags: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _ordinary(descriptor: int) -> None:
    if any(_has(descriptor, name) for name in _ELSEWHERE):
        raise _UnusualError


def _is_opaque(descriptor: int) -> bool:
    return any(_has(descriptor, name) for name in _OPAQUE)


def _has(descriptor: int, name: str) -> bool:
    try:
        os.getxattr(descriptor, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise
    return True
