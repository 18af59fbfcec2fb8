"""An engine behind ssh://: a Unix socket here, each of whose connections one ssh process carries to the engine.

As the docker command does it: ssh starts `docker system dial-stdio` (or Podman's) over there, which joins its input and
output to the engine's socket. So all that works on a socket, BuildKit's session included, works over ssh.
"""

from __future__ import annotations

import shlex
import socket
import threading
from contextlib import ExitStack, suppress
from urllib.parse import unquote, urlsplit

from orchestrator import process
from orchestrator.errors import EngineError
from orchestrator.rpc import socket_directory

CONNECT_TIMEOUT = 20
"""Seconds in which ssh must have reached the other machine."""


class SshTunnel:
    """`address` is the socket here. EngineError for a URL without a host, and where there is no ssh."""

    def __init__(self, url: str, *, kind: str, identity: str = "") -> None:
        self._ssh, path = _ssh(url, identity)
        self._command = [*self._ssh, shlex.join(_joining(kind, path))]
        self._left = False
        self._stack = ExitStack()
        folder = self._stack.enter_context(socket_directory("ssh"))
        self.address = f"unix://{folder}/engine.sock"
        self._log = folder / "log"
        self._listening = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        self._listening.bind(f"{folder}/engine.sock")
        self._listening.listen()
        self._carriers: list[process.Background] = []
        self._thread = threading.Thread(target=self._serve, name="ssh-tunnel", daemon=True)
        self._thread.start()

    def problem(self) -> str:
        """What ssh, or the program over there, has said last; "" when nothing."""
        with suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
            return "\n".join([line.strip() for line in lines if line.strip()][-3:])
        return ""

    def command_there(self, script: str) -> list[str]:
        """The command that has a shell over there run `script`."""
        return [*self._ssh, shlex.join(["sh", "-c", script])]

    def leave_connections(self) -> None:
        """Have `close` end none that another process holds."""
        self._left = True

    def close(self) -> None:
        """End the connections, remove the socket."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join(timeout=5)
        for carrier in [] if self._left else self._carriers:  # the others end with what they carry
            process.stop(carrier)
        self._stack.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with connection:
                    self._carriers = [carrier for carrier in self._carriers if carrier.poll() is None]
                    self._carriers.append(process.start(self._command, log=self._log, channel=connection))


def _joining(kind: str, path: str) -> list[str]:
    """What joins its input and output to the socket at `path` over there ("" = the usual one)."""
    program, option = ("podman", "--url") if kind == "podman" or "podman" in path else ("docker", "--host")
    return [program, *([option, f"unix://{path}"] if path else []), "system", "dial-stdio"]


def _ssh(url: str, identity: str) -> tuple[list[str], str]:
    """ssh with its options, up to the command over there, and the path of the socket there."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or host.startswith("-") or (parts.username or "").startswith("-"):
        raise EngineError(f"{url} names no host", remedy="write it as ssh://user@host or ssh://user@host/path/of.sock")
    ssh = process.which("ssh")
    if ssh is None:
        raise EngineError(f"{url} needs ssh, which is not installed", remedy="apt-get install openssh-client")
    # Nobody could answer a question: each connection is a process of its own, without a terminal.
    options = ["-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT}"]
    options += ["-p", str(port)] if port else []
    options += ["-l", unquote(parts.username)] if parts.username else []
    options += ["-i", identity] if identity else []
    return [ssh, *options, "--", host], unquote(parts.path).rstrip("/")
