"""A command as root of a user namespace: root over its own files, nobody on the host. Run as a script, by root.

Standard library only, and nothing of ours: it is started by its path with `python -I -S`. Arguments: a directory, and
the command. The directory is the command's home, current and temporary directory, and stands at /root for it; the
rest of the host is as an unprivileged user sees it. The command has process, mount, IPC and UTS namespaces too: killed,
it leaves no mount and no process.

mmdebstrap --mode=unshare makes a user namespace for everyone but root: its own page says so (measured on 1.3.5: as
root, a package's script read a file of mode 0600 through /proc/1/root).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

FIRST_ID, COUNT = 0x7000_0000, 65536
"""Users and groups of the namespace on the host: above all that systemd (524288 to 0x6FFFFFFF), adduser and
container engines give out, so that no other process on the host has them."""

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_PDEATHSIG = 1
HOME = "/root"
"""Where the directory is for the command."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    _check(_libc.mount(source.encode(), target.encode(), kind.encode(), flags, None), f"mount {target}")


def _map(pid: int) -> None:
    for name in ("uid_map", "gid_map"):
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, f"0 {FIRST_ID} {COUNT}".encode())
        os.close(descriptor)


def _enter() -> None:
    """Become root of new namespaces; a child that stays behind writes the map, as only the host's root may."""
    told, tell = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(tell)
        os.read(told, 1)  # ends when the parent has unshared, or is gone
        try:
            _map(parent)
        except OSError as error:
            raise SystemExit(1) from error  # the parent says that there is no map
        raise SystemExit(0)
    _check(_libc.unshare(_NEWUSER | _NEWNS | _NEWPID | _NEWIPC | _NEWUTS), "unshare (user namespace)")
    os.close(tell)
    _, status = os.waitpid(child, 0)
    if status:
        raise OSError(0, "the user namespace's map cannot be written")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)  # a change of ids clears it


def _find_program(program: str) -> str:
    """The program's path. Now: Python's own files may lie where nobody else may look, and are out of reach later."""
    candidates = (os.path.join(folder, program) for folder in os.get_exec_path())  # noqa: PTH118 (no pathlib: to be quick)
    return next((path for path in candidates if os.access(path, os.X_OK)), program)


def _main(directory: str, command: list[str]) -> int:
    program = _find_program(command[0])
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)
    os.chown(directory, FIRST_ID, FIRST_ID)
    _check(_libc.unshare(_NEWNS), "unshare (mounts)")
    _mount("none", "/", "", _REC | _PRIVATE)
    # Before the ids change: what leads to the directory may be closed to everyone else.
    _mount(directory, HOME, "", _BIND)
    _enter()
    child = os.fork()
    if child == 0:
        _libc.prctl(_PDEATHSIG, signal.SIGKILL)
        try:
            _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
            os.chdir(HOME)
            os.execve(program, command, {**os.environ, "HOME": HOME, "TMPDIR": HOME})
        except OSError as error:
            sys.stderr.write(f"{error.strerror}\n")
        raise SystemExit(126)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    try:
        _status = _main(sys.argv[1], sys.argv[2:])
    except OSError as _error:
        sys.stderr.write(f"{_error.strerror}\n")
        _status = 126
    raise SystemExit(_status)
