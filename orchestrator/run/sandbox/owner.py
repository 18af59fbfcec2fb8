"""Whose the program is on this machine: of the user who rehearses it, or with root an id that nobody has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from orchestrator.errors import UsageError

_UNUSED: Final = 0x70000000
"""Past the ids that systemd's UIDS-GIDS gives to anyone (it ends containers' at 0x6FFFFFFF)."""


def program_id() -> int | None:
    """The id, for user and group, that a program started by root is given; its own for this run.

    None: we are not root, or root of a user namespace that has no other id.
    """
    if os.geteuid() != 0:
        return None
    wanted = _UNUSED + os.getpid()
    users, groups = _mapped("uid_map"), _mapped("gid_map")
    if any(wanted in ids for ids in users) and any(wanted in ids for ids in groups):
        return wanted
    last = min(max((ids[-1] for ids in ranges), default=0) for ranges in (users, groups))
    return last or None


def _mapped(name: str) -> list[range]:
    with suppress(OSError, ValueError):
        lines = Path(f"/proc/self/{name}").read_text().splitlines()
        rows = [[int(number) for number in line.split()] for line in lines]
        return [range(first, first + count) for first, _, count in rows]
    return []


@contextmanager
def lend_folder(folder: Path, user: int | None, *, back: bool) -> Iterator[None]:
    """`folder` and all in it belong to `user` for a while (None: nothing is changed). No link is followed.

    With `back` all have their owners again at the end; what is new is the folder's owner's, and never set-id.
    """
    if user is None:
        yield
        return
    before: dict[tuple[int, int], tuple[int, int]] = {}
    try:
        try:
            _lend(folder, user, before)
        except OSError as error:
            what = f"{folder} cannot be given to the program's user: {error.strerror}"
            raise UsageError(what, remedy="take another --workspace") from error
        yield
    finally:
        if back:
            _give_back(folder, before)


def _lend(folder: Path, user: int, before: dict[tuple[int, int], tuple[int, int]]) -> None:
    top = folder.stat()
    before[top.st_dev, top.st_ino] = (top.st_uid, top.st_gid)
    for name, descriptor, status in _entries(folder):
        # Several names, and not the folder's owner's: one of them may be of a file elsewhere.
        if status.st_nlink > 1 and stat.S_ISREG(status.st_mode) and status.st_uid != top.st_uid:
            continue
        before[status.st_dev, status.st_ino] = (status.st_uid, status.st_gid)
        os.chown(name, user, user, dir_fd=descriptor, follow_symlinks=False)
    os.chown(folder, user, user)


def _give_back(folder: Path, before: dict[tuple[int, int], tuple[int, int]]) -> None:
    top = folder.stat()
    owner = before.get((top.st_dev, top.st_ino), (top.st_uid, top.st_gid))
    os.chown(folder, *owner)
    for name, descriptor, status in _entries(folder):
        whose = before.get((status.st_dev, status.st_ino), owner)
        with suppress(OSError):
            os.chown(name, *whose, dir_fd=descriptor, follow_symlinks=False)  # takes set-id away, too


def _entries(folder: Path) -> Iterator[tuple[str, int, os.stat_result]]:
    """All below a folder: name, descriptor of its directory, what it is. It may change meanwhile."""
    for _, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                yield name, descriptor, os.stat(name, dir_fd=descriptor, follow_symlinks=False)
