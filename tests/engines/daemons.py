"""The engines of the matrix: which there are, and how each is started and reached."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.engine.test_remote import certificates
from tests.engines.machines import USER, Machine, Reachable, version_of

UNIX, TLS, SSH, CONTEXT = "socket", "tcp+TLS", "ssh", "docker context over TLS"


@dataclass(frozen=True, kw_only=True)
class MatrixEngine:
    """One row: `program` docker|podman of a Debian `release`, of root or of a user, and the `way` there.

    Only by a socket it sees this machine's files.
    """

    program: str
    release: str
    rootless: bool = False
    way: str = UNIX

    @property
    def id(self) -> str:
        """Short, as pytest's -k takes it."""
        way = {UNIX: "", TLS: "-tls", SSH: "-ssh", CONTEXT: "-context"}[self.way]
        return f"{self.program}-{self.release}{'-rootless' if self.rootless else ''}{way}"

    @property
    def title(self) -> str:
        """With its version."""
        version = version_of(self.release, "docker.io" if self.program == "docker" else "podman")
        return f"{self.program.capitalize()} {version}, {'rootless' if self.rootless else 'root'}, {self.way}"


ENGINES = (
    *(
        MatrixEngine(program=program, release=release, rootless=rootless)
        for program in ("docker", "podman")
        for release in ("bookworm", "trixie", "sid")
        for rootless in (False, True)
    ),
    MatrixEngine(program="docker", release="trixie", way=TLS),
    MatrixEngine(program="docker", release="bookworm", way=CONTEXT),
    MatrixEngine(program="docker", release="sid", way=SSH),
    MatrixEngine(program="podman", release="trixie", way=SSH),
)


@dataclass(kw_only=True)
class Service:
    """A running engine: `spec` for --engine, and the `environment` that leads to it. `local` is its socket there."""

    engine: MatrixEngine
    machine: Reachable
    spec: str
    local: str
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        """Words of the engine's own command, asked in its machine: the lines that it writes."""
        option = "--host" if self.engine.program == "docker" else "--url"
        client = [self.engine.program, *(["--remote"] if option == "--url" else []), option, self.local]
        return self.machine.run(*client, *arguments, user=self.engine.rootless).splitlines()


def serve(engine: MatrixEngine, machine: Machine) -> Service:
    """Start it on a machine; AssertionError with its log when it doesn't come up."""
    folder = machine.folder / "client"
    folder.mkdir(mode=0o755)
    local = "unix:///sockets/engine.sock"
    options: list[str] = []
    service = Service(engine=engine, machine=machine, spec=f"unix://{machine.sockets}/engine.sock", local=local)
    if engine.way in (TLS, CONTEXT):
        tls = machine.sockets / "tls"
        tls.mkdir()
        certificates(tls, address=machine.address)
        options = ["--tlsverify", "--tlscacert=/sockets/tls/ca.pem", "--tlscert=/sockets/tls/server.pem"]
        options += ["--tlskey=/sockets/tls/server.key", "--host=tcp://0.0.0.0:2376"]
        service.spec, service.environment = _by_tls(engine, machine)
    _start(engine, machine, local, options)
    if engine.way == SSH:
        service.spec, service.environment = _by_ssh(engine, machine, folder)
    _wait(machine.sockets / "engine.sock", machine)
    return service


def _start(engine: MatrixEngine, machine: Machine, local: str, options: list[str]) -> None:
    if engine.program == "podman":
        machine.spawn("podman", "system", "service", "--time=0", local, user=engine.rootless, log="engine")
        return
    command = ["dockerd", f"--host={local}", "--mtu=1400", *options]
    if engine.rootless:
        # As dockerd-rootless.sh of Docker starts it.
        kit = ["rootlesskit", "--net=slirp4netns", "--mtu=65520", "--disable-host-loopback", "--port-driver=builtin"]
        kit += ["--copy-up=/etc", "--copy-up=/run", "--propagation=rslave"]
        runtime = f"/home/{USER}/run"
        # Its own resolver would ask ours, which it can't reach, for 40 seconds a pull.
        alone = 'rm -f /etc/resolv.conf; echo "nameserver 127.0.0.1" >/etc/resolv.conf; exec "$@"'
        command = [*kit, "sh", "-c", alone, "sh", *command, f"--exec-root={runtime}", f"--pidfile={runtime}.pid"]
        command += [f"--data-root=/home/{USER}/docker"]
    machine.spawn(*command, user=engine.rootless, log="engine")


def _by_tls(engine: MatrixEngine, machine: Machine) -> tuple[str, dict[str, str]]:
    url = f"tcp://{machine.address}:2376"
    if engine.way == TLS:
        return url, {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(machine.sockets / "tls")}
    # By the docker command itself, which copies the certificates into its settings.
    docker = ["env", "DOCKER_CONFIG=/sockets/docker", "docker", "context"]
    material = ",".join([f"host={url}", *(f"{name}=/sockets/tls/{name}.pem" for name in ("ca", "cert", "key"))])
    machine.run(*docker, "create", "matrix", "--docker", material)
    machine.run(*docker, "use", "matrix")
    return "auto", {"DOCKER_CONFIG": str(machine.sockets / "docker")}


def _by_ssh(engine: MatrixEngine, machine: Machine, folder: Path) -> tuple[str, dict[str, str]]:
    """A real sshd there, and the real ssh here with settings of its own: it takes no notice of HOME."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    there = machine.files("/root/.ssh")
    there.mkdir(mode=0o700, exist_ok=True)
    (there / "authorized_keys").write_bytes((folder / "user.pub").read_bytes())
    (there / "host").write_bytes((folder / "host").read_bytes())
    (there / "host").chmod(0o600)
    machine.run("mkdir", "-p", "/run/sshd")
    # The engine's usual place, where a remote command looks for it.
    usual = {"docker": "/var/run/docker.sock", "podman": "/run/podman/podman.sock"}[engine.program]
    machine.run("mkdir", "-p", str(Path(usual).parent))
    machine.run("ln", "-sf", "/sockets/engine.sock", usual)
    machine.spawn("/usr/sbin/sshd", "-D", "-h", "/root/.ssh/host", "-o", "PidFile=none", log="sshd")
    known = f"{machine.address} {(folder / 'host.pub').read_text()}"
    (folder / "known_hosts").write_text(known)
    settings = (
        f"Host *\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n"
    )
    (folder / "config").write_text(settings)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/config "$@"\n')
    (programs / "ssh").chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    url = f"ssh://root@{machine.address}"
    return (f"{url}{usual}" if engine.program == "podman" else url), environment


def _wait(path: Path, machine: Machine, *, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not machine.has_ended():
        with suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(path))
            return
        time.sleep(0.1)
    raise AssertionError(f"the engine does not start:\n{machine.log_tail('engine')}")


def variables(service: Service) -> Mapping[str, str]:
    """What leads a command to it, with nothing of this machine's engines in it."""
    return {"DOCKER_HOST": "", "DOCKER_CONTEXT": "", "CONTAINER_HOST": "", **service.environment}
