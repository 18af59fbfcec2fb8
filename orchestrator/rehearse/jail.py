"""A rehearsal's place without a container engine: namespaces around the image's file tree. Run as a script.

Standard library only, and nothing of ours: it is started by its path with `python -I -S`, to be quick. Its one
argument is JSON: root, workspace, workspace_at, launcher (host paths, and guest paths), devices.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

_NEWNS, _NEWIPC, _NEWUTS, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000, 0x8000000, 0x4000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PIVOT_ROOT = 155
_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    _check(_libc.mount(source.encode(), target.encode(), kind.encode(), flags, None), f"mount {target}")


def _bind(source: str, target: str, *, read_only: bool = False) -> None:
    _mount(source, target, "", _BIND | _REC)
    if read_only:
        # A user namespace may not drop the flags that the mount has from outside.
        has = os.statvfs(target).f_flag & (_NOSUID | _NODEV | _NOEXEC)
        _mount("none", target, "", _BIND | _REMOUNT | _RDONLY | has)


def _namespaces() -> None:
    flags = _NEWNS | _NEWIPC | _NEWUTS | _NEWPID | _NEWNET
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _check(_libc.unshare(flags), "unshare")
        return
    _check(_libc.unshare(flags | _NEWUSER), "unshare (user namespace)")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _enter(asked: dict[str, str], devices: list[str]) -> None:
    root = asked["root"]
    _mount("none", "/", "", _REC | _PRIVATE)
    _bind(root, root)
    try:
        _mount("proc", f"{root}/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    except OSError:  # in a container whose own /proc is masked
        _bind("/proc", f"{root}/proc")
    _mount("tmpfs", f"{root}/dev", "tmpfs", _NOSUID | _NOEXEC)
    for device in devices:
        target = Path(f"{root}{device}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        _bind(device, str(target))
    _bind(asked["launcher"], f"{root}{asked['launcher_at']}", read_only=True)
    _bind(asked["workspace"], f"{root}{asked['workspace_at']}")
    has = os.statvfs(root).f_flag & (_NOSUID | _NODEV | _NOEXEC)
    _mount("none", root, "", _BIND | _REMOUNT | _RDONLY | has)
    os.chdir(root)
    _check(_libc.syscall(_PIVOT_ROOT, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount")
    os.chdir("/")


def _main(asked: dict[str, str], devices: list[str]) -> int:
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)  # whoever kills the supervisor ends the program with it
    _namespaces()
    child = os.fork()
    if child == 0:
        _libc.prctl(_PDEATHSIG, signal.SIGKILL)
        _enter(asked, devices)
        os.execve(f"{asked['launcher_at']}/launcher", ["launcher"], {})
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    _asked = json.loads(sys.argv[1])
    _devices = _asked.pop("devices")
    try:
        _status = _main(_asked, _devices)
    except OSError as _error:
        sys.stderr.write(f"{_error.strerror}\n")
        _status = 1
    raise SystemExit(_status)
