"""The guest's file system as it is seen from outside: where a path leads, whatever the sandbox has put there.

Three realms: `root`, the image's tree; `share`, the workspace; `system`, /dev, /proc and /sys, which hold what the
guest's kernel and the image put there (a skeleton of ours) and nothing of this machine's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from orchestrator.run.sandbox.launcher import FOLDER

SKELETON: Final = "guest"
"""The skeleton's name in the launcher's folder, which the program's own root shows at FOLDER."""
_SYSTEM: Final = ("dev", "proc", "sys")
_MOST_LINKS: Final = 40
_OPENAT2: Final = 437
_BENEATH_WITHOUT_LINKS: Final = 0x02 | 0x04 | 0x08  # RESOLVE_NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH
_OF_THE_ENGINE: Final = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""What container engines mount over the image's own."""
Realm = Literal["root", "share", "system"]
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class Spot:
    """Where a path leads: `path` with links followed, `asked` as it was given.

    `error` is 0 when it is there; ENOENT with `parent_there` when only its last name isn't. `beyond`: it is this
    machine's own, not the guest's.
    """

    path: str
    realm: Realm
    host: str
    asked: str = ""
    error: int = 0
    parent_there: bool = False
    status: os.stat_result | None = None
    target: str = ""
    beyond: bool = False

    @property
    def mode(self) -> int:
        """Its type and mode; 0 when it isn't there."""
        return self.status.st_mode if self.status is not None else 0

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link (only when the last one wasn't followed)."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_mounted_over(self) -> bool:
        """Whether a container engine has put a file of its own there."""
        return self.path in _OF_THE_ENGINE


@dataclass
class View:
    """Finds paths. `tree`, `skeleton`, `share` are host directories; `share_at` is where the guest sees the last.

    `beyond`: what the guest's /dev, /proc and /sys lack is this machine's own, as the driver of its GPUs wants it.
    """

    tree: Path
    skeleton: Path
    share: Path
    share_at: str
    beyond: bool = False
    _own_root: str = ""
    _own_number: str = "self"
    _share_descriptor: int = -1
    _known: dict[tuple[str, bool], Spot] = field(default_factory=dict)

    def look_through(self, pid: int) -> None:
        """From now on through the eyes of process `pid`, where that is allowed: numbers of files are what it sees."""
        root = f"/proc/{pid}/root"
        if os.access(f"{root}/.", os.R_OK):
            self._own_root = root
            self._own_number = _number_of_its_own(pid)
        self._known.clear()
        self.close()
        self._share_descriptor = os.open(self.share, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the share's descriptor."""
        if self._share_descriptor >= 0:
            os.close(self._share_descriptor)
            self._share_descriptor = -1

    def realm_of(self, path: str) -> Realm:
        """The realm of a path without links."""
        if path == self.share_at or path.startswith(f"{self.share_at}/"):
            return "share"
        return "system" if path.split("/", 2)[1] in _SYSTEM else "root"

    def find(self, path: str, *, follow: bool = True) -> Spot:
        """Follow an absolute path. It need not be normal: `.`, `..` and links are taken as the kernel does."""
        path = path.removeprefix(f"{FOLDER}/{SKELETON}") or "/"  # relative to a directory that we gave
        known = self._known.get((path, follow))
        if known is None:
            spot, through_share = self._walk(path, follow=follow)
            known = replace(spot, asked=os.path.normpath(path))
            # All else can't change, but for this machine's own, where threads come and go.
            if not through_share and not (self.beyond and spot.realm == "system"):
                self._known[path, follow] = known
        return known

    def own_path(self, spot: Spot) -> str:
        """Where to open a directory of the skeleton so that the program's `..` stays in its own root; "" nowhere."""
        return f"{self._own_root}{FOLDER}/{SKELETON}{spot.path}" if self._own_root else ""

    def _walk(self, path: str, *, follow: bool) -> tuple[Spot, bool]:
        here, links, through_share = "/", 0, False
        spot = self._spot("/")
        rest = path.split("/")[::-1]
        must_be_directory = path.endswith(("/", "/."))
        while rest:
            name = rest.pop()
            if name in ("", "."):
                continue
            if not spot.is_directory:
                return _absent(spot, here, errno.ENOTDIR), through_share
            if name == "..":
                here = os.path.dirname(here)  # noqa: PTH120 - plain text, a hundred thousand times
                spot = self._spot(here)
                continue
            last = not any(part not in ("", ".") for part in rest)
            there = f"{here.rstrip('/')}/{name}"
            spot = self._spot(there)
            through_share |= spot.realm == "share"
            if spot.error:
                absent = _absent(spot, there, spot.error, parent_there=last and spot.error == errno.ENOENT)
                return absent, through_share
            if spot.is_link and (follow or not last or must_be_directory):
                links += 1
                if links > _MOST_LINKS:
                    return _absent(spot, there, errno.ELOOP), through_share
                rest += spot.target.split("/")[::-1]
                here = "/" if spot.target.startswith("/") else here
                spot = self._spot(here)
            else:
                here = there
        if must_be_directory and not spot.is_directory:
            return _absent(spot, here, errno.ENOTDIR), through_share
        return spot, through_share

    def _spot(self, path: str) -> Spot:
        """What is at a path whose directories are no links."""
        realm = self.realm_of(path) if path != "/" else "root"
        if realm == "share":
            return self._spot_in_share(path)
        host = f"{self.skeleton if realm == 'system' else self.tree}{path}"
        if path == FOLDER:
            return Spot(path=path, realm=realm, host=host, error=errno.ENOENT)
        beyond = self.beyond and realm == "system" and not os.path.lexists(host)
        if beyond:
            # "self" would be us.
            host = self._own_root + re.sub("^/proc/self/", f"/proc/{self._own_number}/", path)
        try:
            status = os.lstat(host)
            target = str(Path(host).readlink()) if stat.S_ISLNK(status.st_mode) else ""
            if realm == "root" and self._own_root and path not in _OF_THE_ENGINE:
                status = os.lstat(f"{self._own_root}{path}")
        except OSError as error:
            return Spot(path=path, realm=realm, host=host, error=error.errno or errno.ENOENT)
        return Spot(path=path, realm=realm, host=host, status=status, target=target, beyond=beyond)

    def _spot_in_share(self, path: str) -> Spot:
        name = path[len(self.share_at) :].lstrip("/") or "."
        host = f"{self.share}/{name}"
        descriptor = -1
        try:
            # The program can put links there while we look: none is followed, and nothing outside is seen.
            descriptor = _open_beneath(self._share_descriptor, name)
            status = os.fstat(descriptor)
            target = os.readlink("", dir_fd=descriptor) if stat.S_ISLNK(status.st_mode) else ""
        except OSError as error:
            return Spot(path=path, realm="share", host=host, error=error.errno or errno.ENOENT)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return Spot(path=path, realm="share", host=host, status=status, target=target)


def _absent(spot: Spot, path: str, error: int, *, parent_there: bool = False) -> Spot:
    return Spot(path=path, realm=spot.realm, host=spot.host, error=error, parent_there=parent_there)


def _number_of_its_own(pid: int) -> str:
    """What process `pid` is called in its own namespace, whose /proc it sees."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((line.split()[-1] for line in lines if line.startswith("NSpid:")), str(pid))


def _open_beneath(directory: int, name: str) -> int:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    how = struct.pack("<QQQ", flags, 0, _BENEATH_WITHOUT_LINKS)
    descriptor: int = _libc.syscall(_OPENAT2, directory, os.fsencode(name), how, len(how))
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return descriptor
