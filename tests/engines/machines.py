"""Machines of other Debian releases on this kernel: a root, processes, network and control groups of their own.

Their roots are made by mmdebstrap, once, in the user's cache directory. A machine sees them through an overlay, so that
they stay as they are. Needs root, and a cgroup2 hierarchy (a hybrid one has it at /sys/fs/cgroup/unified).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from platformdirs import user_cache_path

from tests.support.user import NOBODY

CHROOTS = user_cache_path("gevulot-orchestrator-engines")
RELEASES = ("bookworm", "trixie", "sid")
_SETUP = Path(__file__).with_name("machine.sh")
_PACKAGES = (
    "docker.io,iptables,podman,crun,runc,netavark,aardvark-dns,slirp4netns,passt,uidmap,fuse-overlayfs,rootlesskit,"
    "openssh-server,openssh-client,ca-certificates,iproute2,procps,python3,python3-venv,git,gcc,libc6-dev,binutils,"
    "busybox-static,file"
)
_MORE = {"bookworm": "", "trixie": ",docker-cli", "sid": ",docker-cli"}
"""Docker's client is a package of its own from 26 on."""
USER = "builder"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Reachable(Protocol):
    """What a scenario asks of a machine with an engine. `folder` has what the engine stores."""

    @property
    def folder(self) -> Path: ...

    def run(self, *command: str, user: bool = False) -> str:
        """What a command there writes."""

    def files(self, path: str) -> Path:
        """A path there, as this machine reaches it."""


def make_chroot(release: str) -> Path:
    """The root of a release with all engines that it has; made the first time, which takes minutes."""
    return make_root(release, release, _PACKAGES + _MORE[release])


def make_root(name: str, release: str, packages: str) -> Path:
    """The root of a release with these packages, kept as `name`; made the first time, and when they are others."""
    CHROOTS.mkdir(parents=True, exist_ok=True)
    root, made = CHROOTS / name, CHROOTS / f"{name}.made"
    with (CHROOTS / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists() and made.read_text() == packages:
            return root
        shutil.rmtree(root, ignore_errors=True)
        # A mirror that stands still has a Release file of sid that has expired.
        old = ("--aptopt", 'Acquire::Check-Valid-Until "false"')
        command = ["mmdebstrap", *old, "--variant=minbase", "--format=directory", f"--include={packages}"]
        subprocess.run([*command, release, str(root), "http://deb.debian.org/debian"], check=True)
        made.write_text(packages)
    return root


def version_of(release: str, package: str) -> str:
    """The upstream version of a package in a release's root: `5.4.2` of 5.4.2+ds1-2+b2."""
    return version_in(make_chroot(release), package)


def version_in(root: Path, package: str) -> str:
    """The same in this root."""
    command = ["chroot", str(root), "dpkg-query", "--show", "--showformat=${Version}", package]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return text.partition(":")[2].partition("+")[0] if ":" in text else text.partition("+")[0].partition("-")[0]


class Machine:
    """One machine; `address` is where this one reaches it. A context: it runs inside of it.

    `shared` is a directory that it has under the same name, None for none. `sockets` is its /sockets.
    """

    def __init__(self, release: str, folder: Path, *, shared: Path | None) -> None:
        self.release = release
        self.folder = folder
        self.sockets = folder / "sockets"
        self._shared = shared
        self._group = _unified() / f"orchestrator-{os.getpid()}-{folder.parent.name}"
        self._holder: subprocess.Popen[bytes] | None = None
        self._spawned: list[subprocess.Popen[bytes]] = []
        self.pid = 0
        self.address = ""

    def __enter__(self) -> Machine:
        root = make_chroot(self.release)
        self.folder.mkdir(parents=True)
        self._group.mkdir()
        # Bookworm as with older kernels' settings, the others as distributions have it today.
        groups = "1" if self.release == "bookworm" else "2"
        namespaces = ["--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--cgroup", "--kill-child"]
        folders = [str(self.folder), str(root), str(self._shared or "")]
        words: list[str] = [*folders, USER, str(NOBODY), *_limits(), groups]
        enter = 'echo $$ >"$0/cgroup.procs"; exec "$@"'
        # Killed with us, however we end.
        command = [
            "sh",
            "-c",
            enter,
            str(self._group),
            "setpriv",
            "--pdeathsig=KILL",
            "unshare",
            *namespaces,
            "sh",
            str(_SETUP),
            *words,
        ]
        with (self.folder / "log").open("wb") as log:
            self._holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait()
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for spawned in self._spawned:
            spawned.kill()
        if self._holder is not None:
            self._holder.kill()  # and with it, the first process of its PID namespace and so all
            self._holder.wait()
        for spawned in self._spawned:
            spawned.wait()
        until = time.monotonic() + 20
        while "populated 1" in (self._group / "cgroup.events").read_text() and time.monotonic() < until:
            (self._group / "cgroup.kill").write_text("1")
            time.sleep(0.1)
        for group, *_ in os.walk(self._group, topdown=False):
            with contextlib.suppress(OSError):
                Path(group).rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self) -> None:
        assert self._holder is not None
        until = time.monotonic() + 60
        while not (self.sockets / "ready").exists():
            if self._holder.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the machine does not start:\n{(self.folder / 'log').read_text()}")
            time.sleep(0.05)
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text()
        self.pid = int(children.split()[0])

    def _connect(self) -> None:
        """A cable between the two."""
        number = self.pid % 16000
        ours, theirs = (f"10.97.{number // 64}.{number % 64 * 4 + end}" for end in (1, 2))
        cable = f"orch{self.pid}"
        pair = ["ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid)]
        subprocess.run(pair, check=True)
        subprocess.run(["ip", "address", "add", f"{ours}/30", "dev", cable], check=True)
        subprocess.run(["ip", "link", "set", cable, "up"], check=True)
        self.run("ip", "address", "add", f"{theirs}/30", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", ours)
        self.address = theirs

    def run(self, *command: str, user: bool = False) -> str:
        """What a command there writes. CalledProcessError."""
        done = subprocess.run(self._inside(command, user=user), capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done.stdout

    def spawn(self, *command: str, user: bool = False, log: str) -> None:
        """Start a daemon there."""
        with (self.folder / f"{log}.log").open("ab") as output:
            inside = self._inside(command, user=user)
            self._spawned.append(
                subprocess.Popen(inside, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
            )

    def has_ended(self) -> bool:
        """Whether one of its daemons has."""
        return any(spawned.poll() is not None for spawned in self._spawned)

    def log_tail(self, name: str) -> str:
        """The last lines of a daemon's log."""
        with contextlib.suppress(OSError):
            return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-12:])
        return ""

    def _inside(self, command: Sequence[str], *, user: bool) -> list[str]:
        group = f"/run/cgroup/{'user' if user else 'system'}/own"
        enter = 'mkdir -p "$0"; echo $$ >"$0/cgroup.procs"; exec "$@"'
        environment: Mapping[str, str] = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
        become: list[str] = []
        if user:
            environment = {
                **environment,
                "HOME": f"/home/{USER}",
                "USER": USER,
                "XDG_RUNTIME_DIR": f"/run/user/{NOBODY}",
            }
            become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--init-groups"]
        variables = [f"{name}={value}" for name, value in environment.items()]
        return [
            "nsenter",
            f"--target={self.pid}",
            "--all",
            "sh",
            "-c",
            enter,
            group,
            *become,
            "env",
            "-i",
            *variables,
            *command,
        ]

    def files(self, path: str) -> Path:
        """A path there, as this machine reaches it."""
        return Path(f"/proc/{self.pid}/root{path}")


def _unified() -> Path:
    """Where this machine has its cgroup2 hierarchy."""
    hybrid = Path("/sys/fs/cgroup/unified")
    return hybrid if hybrid.is_dir() else Path("/sys/fs/cgroup")


def _limits() -> list[str]:
    """The most that a container of Podman may ask for where root lacks CAP_SYS_RESOURCE: open files, processes."""
    files, tasks = resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return [str(1 << 20 if limit == resource.RLIM_INFINITY else limit) for limit in (files, min(tasks, 32768))]
