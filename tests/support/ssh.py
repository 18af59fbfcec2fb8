"""A real sshd of this machine that serves git repositories, and an agent with the one key that it takes."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SETTINGS = """\
ListenAddress {host}
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
LogLevel VERBOSE
"""


@dataclass(frozen=True, kw_only=True)
class SshServer:
    """An sshd that runs. `url` is where repositories below `root` are; `agent` is the socket of the agent."""

    host: str
    port: int
    root: Path
    agent: Path
    log: Path

    @property
    def url(self) -> str:
        return f"ssh://{getpass.getuser()}@{self.host}:{self.port}{self.root}"


@contextmanager
def ssh_server(folder: Path, root: Path, host: str) -> Iterator[SshServer]:
    """Serve the git repositories below `root` over ssh at `host`, an address of this machine, and nothing else."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert sshd is not None, "install what the tests need: apt-get install openssh-server"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shell = 'command="git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"",restrict'
    (folder / "authorized").write_text(f"{shell} {(folder / 'user.pub').read_text()}")
    port = _free_port(host)
    (folder / "settings").write_text(_SETTINGS.format(host=host, port=port, folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd shuts itself in; Debian's service makes it
    log, socket_path = folder / "log", folder / "agent.sock"
    daemon = subprocess.Popen([sshd, "-D", "-f", str(folder / "settings"), "-E", str(log)])
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket_path)], stdout=subprocess.DEVNULL)
    try:
        _wait_for(lambda: socket_path.exists() and _listens(host, port), log)
        subprocess.run(
            ["ssh-add", "-q", str(folder / "user")], env={**os.environ, "SSH_AUTH_SOCK": str(socket_path)}, check=True
        )
        yield SshServer(host=host, port=port, root=root, agent=socket_path, log=log)
    finally:
        for process in (agent, daemon):
            process.terminate()
            process.wait(timeout=20)


def own_address() -> str:
    """An address of this machine that its containers reach too, whatever their network; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("192.0.2.1", 9))  # of documentation: the route there is the default one
        return str(asking.getsockname()[0])


def _free_port(host: str) -> int:
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _wait_for(ready: Callable[[], bool], log: Path) -> None:
    for _ in range(200):
        if ready():
            return
        time.sleep(0.05)
    raise AssertionError(f"sshd did not come up:\n{log.read_text(errors='replace') if log.exists() else ''}")
