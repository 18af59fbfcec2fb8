"""Where mmdebstrap runs. Packages bring scripts that run as root: not as the root of this machine, if that can be."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator import files, process
from orchestrator.errors import InputError
from orchestrator.events import Emit, Notice
from orchestrator.inputs import userns
from orchestrator.temporary import own_directory
from orchestrator.user_namespaces import find_obstacle, user_name


@dataclass(frozen=True, kw_only=True)
class BootstrapSandbox:
    """`command` goes before mmdebstrap, `mode` is its option; files of `outside` are in `inside` for it."""

    command: tuple[str, ...]
    mode: str
    outside: Path
    inside: Path

    def take(self, name: str, target: Path) -> bool:
        """Copy the file `name` to the new file `target`; whether there is one. What isn't a plain file is none."""
        with suppress(OSError), files.open_read_only(self.outside / name) as source:
            # A script may have put anything there; a second name of a file of the host's, say.
            status = os.fstat(source.fileno())
            if status.st_nlink == 1 and status.st_uid in (os.geteuid(), userns.FIRST_ID):
                with files.create(target) as sink:
                    shutil.copyfileobj(source, sink, 1024 * 1024)
                return True
        return False


@contextmanager
def open_sandbox(emit: Emit, *, trusted: bool) -> Iterator[BootstrapSandbox]:
    """A sandbox for one run. Without `trusted` (a mirror that a project names) only one apart from the host.

    Errors: InputError where there is none.
    """
    with own_directory("mmdebstrap") as directory:
        # Its mode is 0700; the inner one is given to the namespace's root.
        work = directory / "work"
        files.make_directory(work, 0o755)
        if os.geteuid() == 0:
            script = (sys.executable, "-I", "-S", str(userns.__file__), str(work))
            probe = process.run([*script, "true"])
            if probe.status == 0:
                yield BootstrapSandbox(command=script, mode="unshare", outside=work, inside=Path(userns.HOME))
                return
            reason = probe.tail(1) or "no user namespace"
            os.chown(work, 0, 0)
        elif (obstacle := find_obstacle()) is None:
            yield BootstrapSandbox(command=(), mode="unshare", outside=work, inside=work)
            return
        else:
            reason = obstacle.reason
            if not _has_substitute():
                raise InputError(
                    f"a Debian base cannot be made as user {user_name()}: {reason}", remedy=obstacle.remedy
                )
        if not trusted:
            raise InputError(
                "packages from the project's mirror would run their install scripts outside a user namespace:"
                f" {reason}",
                remedy="enable user namespaces, or, if you trust the mirror, name it in your own config.yaml",
            )
        who = "root of this machine" if os.geteuid() == 0 else "you"
        emit(Notice(text=f"Debian packages run their install scripts as {who}: {reason}", level="warning"))
        yield BootstrapSandbox(command=_mounts_apart(), mode="auto", outside=work, inside=work)


def _has_substitute() -> bool:
    """Whether mmdebstrap can do without a user namespace, as a user who isn't root."""
    return process.which("proot") is not None or (
        process.which("fakechroot") is not None and process.which("fakeroot") is not None
    )


def _mounts_apart() -> tuple[str, ...]:
    """As root, a command prefix that gives mmdebstrap mount and process namespaces, where the system allows.

    It mounts /proc, /sys and the host's /dev/shm in its work directory. Killed (our time limit, SIGKILL), it would
    leave them mounted there, and who then clears the directory clears the host's /dev/shm. So the mounts are to go
    with the process, and its children with it.
    """
    prefix = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    if os.geteuid() != 0 or process.which("unshare") is None or process.run([*prefix, "true"]).status != 0:
        return ()
    return (*prefix, "--")
