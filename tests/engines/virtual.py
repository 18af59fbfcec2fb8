"""A virtual machine of Debian's packages, with its own kernel, systemd and version 2 of control groups: `make test-vm`.

The scenarios run inside of it (inside.py), on the engines as the distribution sets them up, by QEMU's emulation where
KVM does not work. Needs root, mmdebstrap, qemu-system-x86_64 and 6 GB of disk; never part of `make test`.
"""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.run.qemu.accelerator import choose
from tests.engines import record
from tests.engines.client import make_users_cache
from tests.engines.inside import ENGINES, Answer
from tests.engines.machines import USER, make_root, version_in
from tests.engines.scenarios import SCENARIOS, NotHereError
from tests.support.cli import ROOT
from tests.support.tree import list_files
from tests.support.user import NOBODY

RELEASE, PYTHON = "trixie", "3.13"
_QEMU = "qemu-system-x86_64"
_PACKAGES = (
    "linux-image-cloud-amd64,initramfs-tools,systemd,systemd-sysv,libpam-systemd,dbus,dbus-user-session,udev,kmod,podman,"
    "uidmap,slirp4netns,passt,netavark,aardvark-dns,fuse-overlayfs,crun,docker.io,docker-cli,iptables,openssh-server,"
    "openssh-client,ca-certificates,iproute2,procps,python3,python3-venv,git,gcc,libc6-dev,binutils,busybox-static,file,"
    "sudo,zstd,e2fsprogs"
)
_TESTS_NEED = ("pytest", "pytest-xdist", "hypothesis", "pyte", "jsonschema")
"""Of the extra `dev`."""
_BOOT_SECONDS = 900


def _root() -> Path:
    return make_root(f"vm-{RELEASE}", RELEASE, _PACKAGES)


class VirtualMachine:
    """One that runs while the context lasts. `folder` is its own and gets its disk; its user is reached by ssh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accelerator = choose(_QEMU)
        self.booted = 0.0
        """Seconds from QEMU's start to the first session of the user."""
        self._port = 0
        self._qemu: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> VirtualMachine:
        self._make_disk()
        began = time.monotonic()
        self._start()
        try:
            self._wait(began + _BOOT_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        self.booted = time.monotonic() - began
        return self

    def __exit__(self, *_error: object) -> None:
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()

    def _make_disk(self) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / "key"], check=True)
        list_files(self.folder / "files")
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        needed = [row for row in project["optional-dependencies"]["dev"] if row.startswith(_TESTS_NEED)]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        there = ["--only-binary=:all:", f"--python-version={PYTHON}", f"--target={self.folder / 'site'}"]
        subprocess.run([*pip, *there, *project["dependencies"], *needed], check=True)
        make_users_cache(self.folder / "cache")
        words = [str(_root()), str(self.folder), str(ROOT), USER, str(NOBODY)]
        script = str(Path(__file__).with_name("virtual.sh"))
        subprocess.run(["unshare", "--mount", "sh", script, *words], check=True)
        for name in ("root", "upper", "overlay", "site"):
            shutil.rmtree(self.folder / name)

    def _start(self) -> None:
        with socket.socket() as asking:
            asking.bind(("127.0.0.1", 0))
            self._port = asking.getsockname()[1]
        # From a disk whose driver is in the kernel: no initrd to unpack and go through.
        command = [
            *("setpriv", "--pdeathsig=KILL", _QEMU, "-machine", "q35", "-accel", self.accelerator.name),
            *("-cpu", self.accelerator.cpu, "-smp", "2", "-m", "3072", "-nodefaults", "-display", "none"),
            *("-no-reboot", "-serial", f"file:{self.folder}/console", "-kernel", f"{self.folder}/kernel"),
            *("-append", "root=/dev/nvme0n1 rw console=ttyS0 quiet"),
            *("-drive", f"file={self.folder}/disk,format=raw,if=none,id=disk,cache=unsafe"),
            *("-device", "nvme,drive=disk,serial=disk", "-device", "virtio-rng-pci"),
            *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self._port}-:22"),
            *("-device", "virtio-net-pci,netdev=net"),
        ]
        with (self.folder / "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _wait(self, until: float) -> None:
        assert self._qemu is not None
        while not self._answers():
            if self._qemu.poll() is not None or time.monotonic() > until:
                said = "".join(
                    (self.folder / name).read_text(errors="replace")[-3000:] for name in ("qemu.log", "console")
                )
                raise AssertionError(f"the virtual machine does not start:\n{said}")
            time.sleep(2)

    def _answers(self) -> bool:
        with self.session("true") as asking:
            asking.communicate()
        return asking.returncode == 0

    def session(self, command: str) -> subprocess.Popen[str]:
        """A shell's command in a session of the user."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=30")
        client = ["ssh", "-F", "none", "-i", str(self.folder / "key"), "-p", str(self._port)]
        words = [*client, *(word for option in options for word in ("-o", option)), f"{USER}@127.0.0.1", command]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="session")
def machine() -> Iterator[VirtualMachine]:
    with tempfile.TemporaryDirectory(prefix="vm-") as folder, VirtualMachine(Path(folder)) as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What asks one engine's scenarios there."""

    title: str
    process: subprocess.Popen[str]

    def ask(self, scenario: str) -> Answer:
        """How it ends. AssertionError when nothing answers any more."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{scenario}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the session has ended"
        return Answer(**json.loads(line))


@pytest.fixture(scope="module", params=ENGINES)
def inside(machine: VirtualMachine, request: pytest.FixtureRequest) -> Iterator[Inside]:
    engine = ENGINES[request.param]
    version = version_in(_root(), "docker.io" if engine.program == "docker" else engine.program)
    whose = "rootless" if engine.rootless else "root"
    words = shlex.join(["python3", "-m", "tests.engines.inside", request.param, json.dumps(record.digests())])
    with machine.session(f"cd /work/sources && exec sudo {words}") as process:
        yield Inside(title=f"{engine.program.capitalize()} {version}, {whose}{record.VIRTUAL}", process=process)
        assert process.stdin is not None
        process.stdin.close()


def test_it_boots(machine: VirtualMachine) -> None:
    took, _ = machine.session(
        "uname -r; systemd-analyze time; podman info --format '{{.Host.CgroupManager}}'"
    ).communicate()
    print(f"\nbooted in {machine.booted:.0f} s ({machine.accelerator.name})\n{took}")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_distribution(inside: Inside, scenario: str) -> None:
    try:
        with record.keeping(inside.title, scenario):
            answer = inside.ask(scenario)
            if answer.outcome == "refused":
                raise NotHereError(answer.words)
            if answer.outcome != "ok":
                raise AssertionError(answer.words)
    except NotHereError as reason:
        pytest.skip(str(reason))
    record.keep_digests(answer.digests)
