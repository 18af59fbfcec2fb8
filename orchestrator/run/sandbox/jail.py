"""A rehearsal's sandbox without a container engine: namespaces around the image's file tree. Run as a script.

Standard library only, and nothing of ours: it is started by its path with `python -I -S`, to be quick. Its one
argument is JSON, see `JailSettings`. What stops it goes to stderr as one line.

The program is nobody on this machine. Started by a user, the user namespace comes first, and it all happens in there.
Started by root, the mounts are made with root's power, and the user namespace, whose only user is an id that nobody
has, comes last: then the program holds nothing of what was made for it. The launcher drops every capability.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_NEWNS, _NEWIPC, _NEWUTS, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000, 0x8000000, 0x4000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PIVOT_ROOT, _MOUNT_SETATTR = 155, 442
_EMPTY_PATH, _RECURSIVE = 0x1000, 0x8000
_PDEATHSIG = 1
_SIOCSIFFLAGS, _UP = 0x8914, 1
_SOCKET = 3
"""The descriptor at which the launcher expects the supervisor's socket."""
_HIDDEN_FILES = (
    "cmdline", "config.gz", "interrupts", "kallsyms", "kcore", "keys", "key-users", "kmsg", "latency_stats", "modules",
    "sched_debug", "sysrq-trigger", "timer_list",
)  # fmt: skip
_HIDDEN_FOLDERS = ("acpi", "asound", "bus", "driver", "fs", "irq", "scsi")
"""Of /proc: what tells of the machine and not of the program. All of /proc is read-only besides."""

_libc = ctypes.CDLL(None, use_errno=True)


class JailSettings(NamedTuple):
    """Host paths of the image's tree, the workspace, and the launcher's folder, and where the program sees the last
    two; device nodes; the host name; the supervisor's socket; the id to become (-1: we are a user, and stay it)."""

    root: str
    workspace: str
    workspace_at: str
    launcher: str
    launcher_at: str
    devices: list[str]
    hostname: str
    socket: int
    user: int


def _check(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    what = f"mount {kind or source}"
    _check(_libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode()), what)


class _Tree:
    """The image's tree, mounted on itself. No link in it is ever followed: its paths are the image's."""

    def __init__(self, path: str) -> None:
        _mount(path, path, flags=_BIND | _REC)
        self.descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)

    def open(self, path: str) -> int:
        """A descriptor for a path of the tree, through what is mounted there. OSError: a link is on the way."""
        descriptor = os.dup(self.descriptor)
        for name in path.split("/"):
            if name == "..":
                raise OSError(errno.ELOOP, f"{path} leads out of the image")
            if name in ("", "."):
                continue
            below = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
            if stat.S_ISLNK(os.fstat(descriptor).st_mode):
                raise OSError(errno.ELOOP, f"{path} of the image leads through a link")
        return descriptor

    def mount(self, source: str, path: str, kind: str = "", flags: int = 0, options: str = "") -> None:
        """Mount on a path of the tree. A bind takes the mounts below its source along, under the same flags."""
        under = self.open(path)
        _mount(source, f"/proc/self/fd/{under}", kind, _BIND | _REC if not kind else flags, options)
        os.close(under)
        if not kind:
            self.restrict(path, flags)

    def restrict(self, path: str, flags: int) -> None:
        """Add flags to what is mounted at a path of the tree, and to all below it."""
        over = self.open(path)
        attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)  # RDONLY, NOSUID, NODEV, NOEXEC have mount(2)'s values
        if _libc.syscall(_MOUNT_SETATTR, over, b"", _EMPTY_PATH | _RECURSIVE, attributes, 32) < 0:  # Linux < 5.12
            self._remount(over, flags)
        os.close(over)

    def _remount(self, over: int, flags: int) -> None:
        # A user namespace may not drop the flags that the mount has from outside.
        has = os.fstatvfs(over).f_flag & (_RDONLY | _NOSUID | _NODEV | _NOEXEC)
        _mount("none", f"/proc/self/fd/{over}", flags=_BIND | _REMOUNT | flags | has)

    def enter(self) -> None:
        """Make it the root, read-only, and let go of the old one."""
        self._remount(self.descriptor, _RDONLY | _NOSUID | _NODEV)
        os.fchdir(self.descriptor)
        _check(_libc.syscall(_PIVOT_ROOT, b".", b"."), "pivot_root")
        _check(_libc.umount2(b".", _MNT_DETACH), "umount")
        os.chdir("/")


def _furnish(tree: _Tree, asked: JailSettings) -> None:
    quiet = _NOSUID | _NOEXEC
    tree.mount("tmpfs", "/dev", "tmpfs", quiet, "size=64k,mode=755")
    dev = tree.open("/dev")
    for device in asked.devices:
        *folders, name = device.split("/")[2:]
        below = f"/proc/self/fd/{dev}/" + "".join(f"{folder}/" for folder in folders)
        Path(below).mkdir(parents=True, exist_ok=True)
        os.close(os.open(below + name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        tree.mount(device, device, flags=quiet)
    os.close(dev)
    tree.restrict("/dev", _RDONLY | quiet)  # which a device itself doesn't mind
    try:
        tree.mount("proc", "/proc", "proc", quiet | _NODEV)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} (in a container that hides part of /proc?)") from error
    for name in (*_HIDDEN_FILES, *_HIDDEN_FOLDERS):
        with suppress(FileNotFoundError):
            if name in _HIDDEN_FILES:
                tree.mount("/dev/null", f"/proc/{name}", flags=_RDONLY | quiet)
            else:
                tree.mount("tmpfs", f"/proc/{name}", "tmpfs", _RDONLY | quiet | _NODEV, "size=4k")
    tree.restrict("/proc", _RDONLY | quiet | _NODEV)
    tree.mount(asked.launcher, asked.launcher_at, flags=_RDONLY | _NOSUID | _NODEV)
    tree.mount(asked.workspace, asked.workspace_at, flags=_NOSUID | _NODEV)


def _reason(name: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/sys/{name}").read_text().strip()
    return ""


def _new_user_namespace() -> None:
    """OSError in words that say why there is none."""
    try:
        _check(_libc.unshare(_NEWUSER), "user namespaces are refused here")
    except OSError as error:
        why = "by a seccomp profile, as of a container"
        if _reason("user/max_user_namespaces") == "0":
            why = "user.max_user_namespaces is 0"
        elif _reason("kernel/unprivileged_userns_clone") == "0":
            why = "kernel.unprivileged_userns_clone is 0"
        raise OSError(error.errno, f"{error.strerror} ({why})") from error


def _become_root_inside() -> None:
    """As a user: one user namespace, whose root we are."""
    user, group = os.geteuid(), os.getegid()
    _new_user_namespace()
    try:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    except OSError as error:
        why = "an AppArmor profile"
        if _reason("kernel/apparmor_restrict_unprivileged_userns") == "1":
            why = "kernel.apparmor_restrict_unprivileged_userns is 1"
        text = f"user namespaces have no power here: {error.strerror} ({why}?)"
        raise OSError(error.errno, text) from error
    with suppress(OSError):
        Path("/proc/sys/user/max_user_namespaces").write_text("0")  # no further one in there


def _map_for(child: int, user: int) -> None:
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{name}").write_text(f"0 {user} 1")


def _leave_root(asking: int, answer: int) -> None:
    """As root: into a user namespace that the parent maps to an id that nobody has."""
    _new_user_namespace()
    os.write(asking, b"?")
    if os.read(answer, 1) != b"!":
        raise OSError(errno.EPERM, "the user namespace was not mapped")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _raise_loopback() -> None:
    """127.0.0.1, as the guest has it."""
    descriptor = _check(_libc.socket(2, 2, 0), "socket")
    request = b"lo".ljust(16, b"\0") + _UP.to_bytes(24, "little")
    _check(_libc.ioctl(descriptor, _SIOCSIFFLAGS, request), "set the loopback interface up")
    os.close(descriptor)


def _start(asked: JailSettings, asking: int, answer: int) -> None:
    """The first process of the new PID namespace: makes the sandbox, and becomes the launcher."""
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)
    _check(_libc.unshare(_NEWNS), "unshare (mounts)")
    _mount("none", "/", flags=_REC | _PRIVATE)
    tree = _Tree(asked.root)
    _furnish(tree, asked)
    tree.enter()
    if asked.user >= 0:
        _leave_root(asking, answer)
        _libc.prctl(_PDEATHSIG, signal.SIGKILL)  # another user's process loses it
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.set_inheritable(_SOCKET, True)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and it would be by the program
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execve(f"{asked.launcher_at}/launcher", ["launcher", "3"], {})
    except OSError as error:
        raise OSError(error.errno, f"start the launcher: {error.strerror}") from error


def _main(asked: JailSettings) -> int:
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)  # whoever kills the supervisor ends the program with it
    if asked.socket != _SOCKET:
        os.dup2(asked.socket, _SOCKET)  # first, while the number is free
        os.close(asked.socket)
    os.set_inheritable(_SOCKET, False)
    if asked.user < 0:
        _become_root_inside()
    what = (
        "namespaces are refused here (root without CAP_SYS_ADMIN, as in a container?)" if asked.user >= 0 else "unshare"
    )
    _check(_libc.unshare(_NEWIPC | _NEWUTS | _NEWPID | _NEWNET), what)
    name = os.fsencode(asked.hostname)
    _check(_libc.sethostname(name, len(name)), "sethostname")
    _raise_loopback()
    asking, asked_by_child = os.pipe()
    answer, answering = os.pipe()
    child = os.fork()
    if child == 0:
        log = os.dup(2)
        try:
            _start(asked, asked_by_child, answer)
        except OSError as error:
            os.write(log, f"{error.strerror}\n".encode())
        return 1
    for descriptor in (asked_by_child, answer, _SOCKET):
        os.close(descriptor)
    if asked.user >= 0 and os.read(asking, 1):
        _map_for(child, asked.user)
        os.write(answering, b"!")
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    try:
        _status = _main(JailSettings(*json.loads(sys.argv[1])))
    except OSError as _error:
        sys.stderr.write(f"{_error.strerror}\n")
        _status = 1
    raise SystemExit(_status)
