"""Calls that take a path, answered as the guest's file system does."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestrator.run.outcome import Severity
from orchestrator.run.sandbox.answers import DONE, PROCEED, Answer, Process, fails, returns
from orchestrator.run.sandbox.contents import Contents
from orchestrator.run.sandbox.notify import Call, path_seen_by
from orchestrator.run.sandbox.view import Spot, View

_O_TMPFILE: Final = 0o20000000
_O_PATH: Final = 0o10000000
_NOWHERE: Final = -1
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_AT_REMOVEDIR: Final = 0x200
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_STAT: Final = struct.Struct("<3Q4IQ3q6q24x")


@dataclass
class PathCalls:
    """Answers by call name. `opened` counts the paths that were opened for reading, with a trace."""

    process: Process
    view: View
    contents: Contents
    trace: bool = False
    opened: Counter[str] = field(default_factory=Counter)

    def handlers(self) -> Mapping[str, Callable[[Call], Answer]]:
        """The calls that are answered here."""
        return {
            "open": lambda call: self._open(call, _NOWHERE, 0, call.arguments[1]),
            "openat": lambda call: self._open(call, 0, 1, call.arguments[2]),
            "creat": lambda call: self._open(call, _NOWHERE, 0, os.O_CREAT | os.O_WRONLY | os.O_TRUNC),
            "stat": lambda call: self._stat(call, self._find(call, _NOWHERE, 0), 1),
            "lstat": lambda call: self._stat(call, self._find(call, _NOWHERE, 0, follow=False), 1),
            "newfstatat": self._fstatat,
            "access": lambda call: self._access(self._find(call, _NOWHERE, 0), call.arguments[1]),
            "faccessat": lambda call: self._access(self._find(call, 0, 1), call.arguments[2]),
            "readlink": lambda call: self._readlink(self._find(call, _NOWHERE, 0, follow=False), call, 1),
            "readlinkat": lambda call: self._readlink(self._find(call, 0, 1, follow=False), call, 2),
            "chdir": lambda call: self._chdir(self._find(call, _NOWHERE, 0)),
            "truncate": lambda call: self._truncate(call, self._find(call, _NOWHERE, 0)),
            "mkdir": lambda call: self._make(call, self._find(call, _NOWHERE, 0, follow=False)),
            "mkdirat": lambda call: self._make(call, self._find(call, 0, 1, follow=False)),
            "symlink": lambda call: self._make(call, self._find(call, _NOWHERE, 1, follow=False)),
            "symlinkat": lambda call: self._make(call, self._find(call, 1, 2, follow=False)),
            "rmdir": lambda call: self._remove(call, self._find(call, _NOWHERE, 0, follow=False), directory=True),
            "unlink": lambda call: self._remove(call, self._find(call, _NOWHERE, 0, follow=False), directory=False),
            "unlinkat": self._unlinkat,
            "rename": lambda call: self._rename(call, (_NOWHERE, 0), (_NOWHERE, 1), 0),
            "renameat": lambda call: self._rename(call, (0, 1), (2, 3), 0),
            "renameat2": lambda call: self._rename(call, (0, 1), (2, 3), call.arguments[4] & 0xFFFFFFFF),
            "utime": lambda call: self._touch(self._find(call, _NOWHERE, 0)),
            "utimes": lambda call: self._touch(self._find(call, _NOWHERE, 0)),
            "utimensat": self._utimensat,
            "statfs": lambda call: self._statfs(call, self._find(call, _NOWHERE, 0, follow=False)),
            "fstatfs": lambda call: self._statfs(call, self._at_descriptor(call, call.arguments[0])),
            "fallocate": self._fallocate,
        }

    # Each takes None for a path that can't be read: then the kernel answers, as it would without us.

    def _find(self, call: Call, directory: int, at: int, *, follow: bool = True) -> Spot | None:
        text = self.process.memory.text(call.arguments[at])
        if text is None:
            return None
        if not text:
            return Spot(path="", realm="root", host="", error=errno.ENOENT)
        number = call.arguments[directory] & 0xFFFFFFFF if directory >= 0 else _NOWHERE
        path = path_seen_by(call.pid, text, number)
        return None if path is None else self.view.find(path, follow=follow)

    def _at_descriptor(self, call: Call, descriptor: int) -> Spot | None:
        try:
            link = str(Path(f"/proc/{call.pid}/fd/{descriptor & 0xFFFFFFFF}").readlink())
        except OSError:
            return None
        if not link.startswith("/"):
            return None
        return self.view.find(link.removesuffix(" (deleted)"))

    def _open(self, call: Call, directory: int, at: int, flags: int) -> Answer:
        leave_links = flags & os.O_NOFOLLOW or (flags & os.O_CREAT and flags & os.O_EXCL)
        spot = self._find(call, directory, at, follow=not leave_links)
        if spot is None:
            return PROCEED
        if spot.realm == "share":
            if flags & _O_TMPFILE == _O_TMPFILE:
                return self._refused_by_share(call, "O_TMPFILE")
            return PROCEED
        changes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if not changes and self.trace and spot.realm == "root" and spot.asked:
            self.opened[spot.asked] += 1
        if (named := self.contents.take_name(spot, flags)) is not None:
            return named
        error = _why_not(spot, flags)
        if error == errno.EROFS or (error == errno.ENOENT and flags & os.O_CREAT):
            self._note_write(call, "opened {} for writing", spot)
        elif error == errno.ENOENT and spot.realm == "system":
            self._note_absent(call, spot)
        if error:
            return fails(error)
        if spot.realm == "system" or spot.is_mounted_over:
            return self.contents.give(spot, flags)
        return PROCEED

    def _fstatat(self, call: Call) -> Answer:
        follow = not call.arguments[3] & _AT_SYMLINK_NOFOLLOW
        return self._stat(call, self._find(call, 0, 1, follow=follow), 2)

    def _stat(self, call: Call, spot: Spot | None, at: int) -> Answer:
        if spot is None:
            return PROCEED
        if spot.status is None:
            return fails(spot.error)
        if spot.beyond:
            return PROCEED  # a device has its own numbers, by which a driver knows it
        try:
            self.process.memory.write(call.arguments[at], self._stat_bytes(spot, spot.status))
        except OSError:
            return fails(errno.EFAULT)
        return DONE

    def _stat_bytes(self, spot: Spot, status: os.stat_result) -> bytes:
        """struct stat. Device and number are this machine's, as fstat tells them too; the guest's are others."""
        modes = self.process.machine.guest.modes
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe",
                 stat.S_IFSOCK: "socket"}  # fmt: skip
        kind = kinds.get(stat.S_IFMT(status.st_mode), "device")
        if kind == "file" and self.contents.is_made(spot.path):
            kind = "device"
        size, blocks, block = (status.st_size, status.st_blocks, 4096) if kind == "file" else (0, 0, 0)
        if kind == "file":  # the root's in blocks of 512 bytes, the share's not at all
            blocks = 0 if spot.realm == "share" else -(-size // 512)
        times = [
            part for nanoseconds in (status.st_atime_ns, status.st_mtime_ns, 0) for part in divmod(nanoseconds, 10**9)
        ]
        return _STAT.pack(
            status.st_dev, status.st_ino, 0, modes[kind], 0, 0, 0, 0, size, block, blocks, *times
        )  # fmt: skip

    def _access(self, spot: Spot | None, mode: int) -> Answer:
        if spot is None:
            return PROCEED
        if spot.error:
            return fails(spot.error)
        # The kernel marks the program's own file read-only; all else may be written as far as modes go.
        is_program = spot.path == self.process.machine.program.path
        return fails(errno.EACCES) if mode & os.W_OK and is_program else DONE

    def _readlink(self, spot: Spot | None, call: Call, at: int) -> Answer:
        if spot is None or (spot.realm == "share" and not spot.error):
            return PROCEED
        if spot.error:
            return fails(spot.error)
        if not spot.is_link:
            return fails(errno.EINVAL)
        data = os.fsencode(spot.target)[: call.arguments[at + 1]]
        try:
            self.process.memory.write(call.arguments[at], data)
        except OSError:
            return fails(errno.EFAULT)
        return returns(len(data))

    @staticmethod
    def _chdir(spot: Spot | None) -> Answer:
        if spot is None:
            return PROCEED
        if spot.error:
            return fails(spot.error)
        return PROCEED if spot.is_directory else fails(errno.ENOENT)

    def _truncate(self, call: Call, spot: Spot | None) -> Answer:
        if spot is None or spot.realm == "share":
            return PROCEED
        if spot.error or spot.is_directory:
            return fails(spot.error or errno.EISDIR)
        return self._read_only(call, "called truncate on {}", spot)

    def _make(self, call: Call, spot: Spot | None) -> Answer:
        if spot is None or spot.realm == "share":
            return PROCEED
        if not spot.error:
            return fails(errno.EEXIST)
        if not spot.parent_there:
            self._note_write(call, f"called {call.name} on {{}}", spot)
            return fails(spot.error)
        return self._read_only(call, f"called {call.name} on {{}}", spot)

    def _unlinkat(self, call: Call) -> Answer:
        if call.arguments[2] & ~_AT_REMOVEDIR & 0xFFFFFFFF:
            return fails(errno.EINVAL)
        spot = self._find(call, 0, 1, follow=False)
        return self._remove(call, spot, directory=bool(call.arguments[2] & _AT_REMOVEDIR))

    def _remove(self, call: Call, spot: Spot | None, *, directory: bool) -> Answer:
        if spot is None:
            return PROCEED
        if spot.realm == "share":
            if not directory:
                self._note_gone(call, spot)
            return PROCEED
        if spot.error:
            return fails(spot.error)
        if directory != spot.is_directory:
            return fails(errno.ENOTDIR if directory else errno.EISDIR)
        if directory and any(Path(spot.host).iterdir()):
            return fails(errno.ENOTEMPTY)
        return self._read_only(call, f"called {call.name} on {{}}", spot)

    def _rename(self, call: Call, old_at: tuple[int, int], new_at: tuple[int, int], flags: int) -> Answer:
        if flags & ~(_RENAME_EXCHANGE | _RENAME_NOREPLACE) or flags == _RENAME_EXCHANGE | _RENAME_NOREPLACE:
            return fails(errno.EINVAL)
        old, new = self._find(call, *old_at, follow=False), self._find(call, *new_at, follow=False)
        if old is None or new is None:
            return PROCEED
        if old.error:
            return fails(old.error)
        if new.error and not new.parent_there:
            return fails(new.error)
        if (old.realm == "share") != (new.realm == "share"):
            return fails(errno.EXDEV)
        if old.realm != "share":
            return self._read_only(call, f"called {call.name} on {{}}", new)
        if flags & _RENAME_EXCHANGE:
            return self._refused_by_share(call, "RENAME_EXCHANGE")
        if not flags & _RENAME_NOREPLACE and old.path != new.path:
            self._note_gone(call, new)
        return PROCEED

    @staticmethod
    def _touch(spot: Spot | None) -> Answer:
        if spot is None or spot.realm == "share":
            return PROCEED
        return fails(spot.error) if spot.error else DONE  # the guest keeps it until it ends

    def _utimensat(self, call: Call) -> Answer:
        flags = call.arguments[3] & 0xFFFFFFFF
        if flags & ~_AT_SYMLINK_NOFOLLOW:
            return fails(errno.EINVAL)
        if not call.arguments[1]:
            return self._touch(self._at_descriptor(call, call.arguments[0]))
        return self._touch(self._find(call, 0, 1, follow=not flags))

    def _statfs(self, call: Call, spot: Spot | None) -> Answer:
        if spot is None:
            return PROCEED
        if spot.realm != "share" or spot.error:
            return fails(spot.error) if spot.error else PROCEED
        machine = self.process.machine
        if stop := machine.guest.stop("statfs", machine.version):
            why = f"{stop.says}: {stop.then}"
            self.process.findings.add(
                call, stop.code, f"called {call.name} on {{}}", why, subject=spot.asked, severity="error"
            )
        return PROCEED

    def _fallocate(self, call: Call) -> Answer:
        spot = self._at_descriptor(call, call.arguments[0])
        if spot is None or spot.realm != "share" or not stat.S_ISREG(spot.mode):
            return PROCEED
        return self._refused_by_share(call, "fallocate")

    def _refused_by_share(self, call: Call, what: str) -> Answer:
        rule = self.process.machine.guest.share_rule(what)
        workspace = self.process.machine.program.workspace
        done = f"called {rule.named.replace('/workspace', workspace)}"
        self.process.findings.add(call, "share", done, f"there it fails with {errno.errorcode[rule.errno]}")
        return fails(rule.errno)

    def _read_only(self, call: Call, done: str, spot: Spot) -> Answer:
        self._note_write(call, done, spot)
        return fails(errno.EROFS)

    def _note_write(self, call: Call, done: str, spot: Spot) -> None:
        if self._is_of_the_driver(spot):
            return
        why = f"only {self.process.machine.program.workspace} can be written"
        self.process.findings.add(call, "write", done, why, subject=spot.asked)

    def _note_absent(self, call: Call, spot: Spot) -> None:
        if self._is_of_the_driver(spot):
            return
        why = "the guest has no such file"
        self.process.findings.add(call, "system-file", "looked for {}", why, subject=spot.asked, severity="note")

    def _is_of_the_driver(self, spot: Spot) -> bool:
        """Whether this machine's GPU driver looks there or makes its nodes, and not the program."""
        return self.view.beyond and spot.realm == "system"

    def _note_gone(self, call: Call, spot: Spot) -> None:
        """A file of the share is about to go. It stops the guest when it is still open, and may when it is new."""
        machine = self.process.machine
        if spot.status is None or not stat.S_ISREG(spot.mode):
            return
        opened = self.process.holds_open(spot.status)
        stop = machine.guest.stop("unlink-open" if opened else "unlink-written", machine.version)
        if stop is None or not (opened or (spot.status.st_size and spot.status.st_mtime >= self.process.began)):
            return
        done = f"called {call.name} on {{}} {'while it was open' if opened else 'soon after writing it'}"
        why = f"{stop.then} (mended in Nanos {stop.fixed})" if stop.fixed else stop.then
        severity: Severity = "limit" if stop.sometimes else "error"
        self.process.findings.add(call, stop.code, done, why, subject=spot.asked, severity=severity)


def _why_not(spot: Spot, flags: int) -> int:
    """The errno with which opening `spot`, which is on the read-only root, fails; 0 when it doesn't."""
    creates = flags & os.O_CREAT
    if spot.error:
        return errno.EROFS if creates and spot.parent_there else spot.error
    if creates and flags & os.O_EXCL:
        return errno.EEXIST
    if spot.is_link and not flags & _O_PATH:
        return errno.ELOOP
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
        return 0 if spot.beyond and stat.S_ISCHR(spot.mode) else errno.EROFS  # a GPU is worked by its node
    if flags & os.O_DIRECTORY and not creates and not spot.is_directory:
        return errno.ENOTDIR
    return 0
