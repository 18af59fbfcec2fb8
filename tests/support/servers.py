"""Real servers on this host's loopback, with faults on demand: an HTTP archive server and git over HTTP."""

from __future__ import annotations

import base64
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Fault:
    """What one request meets instead of a plain answer. `at` is a position in the body sent (bytes)."""

    kind: str
    """reset | truncate | stall | status | html | redirect | corrupt | weak | garbage-range | other-file | drop
    | slow-headers | slow-body"""
    at: int = 0
    status: int = 503
    retry_after: str = ""
    location: str = ""


@dataclass
class Seen:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Served:
    """A file the server has, and the faults that its next requests meet, one each."""

    data: bytes
    faults: list[Fault] = field(default_factory=list)
    ranges: bool = True
    validators: bool = True
    length: bool = True
    always: Fault | None = None


class QuietServer(HTTPServer):
    """Keeps a client that leaves early to itself.

    socketserver prints a traceback on stderr for it, from a thread: into whatever command a test is reading just then.
    """

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class QuietThreadingServer(QuietServer, ThreadingHTTPServer):
    """Such a server that answers each client in a thread of its own."""


class FileServer:
    """Serves `files` by path. `seen` are the requests so far. `host` is the address of this machine that it is at."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.files: dict[str, Served] = {}
        self.seen: list[Seen] = []
        self.sent = 0
        """Bytes of bodies that were sent."""
        self.lock = threading.Lock()
        self.released = threading.Event()
        files = self

        class Handler(_FileHandler):
            owner = files

        self._server = QuietThreadingServer((host, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self._server.server_address[1]}"

    @property
    def other_url(self) -> str:
        """The same server under another host name."""
        return f"http://localhost:{self._server.server_address[1]}"

    def add(self, path: str, data: bytes, *faults: Fault, **options: Any) -> str:
        """Serve `data` at `path`; returns its URL."""
        self.files[path] = Served(data, list(faults), **options)
        return self.url + path

    def count(self, path: str) -> int:
        return sum(1 for request in self.seen if request.path == path)

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _FileHandler(BaseHTTPRequestHandler):
    owner: FileServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        with self.owner.lock:
            self.owner.seen.append(Seen(self.command, path, {k.lower(): v for k, v in self.headers.items()}))
            served = self.owner.files.get(path)
            fault = None
            if served is not None:
                fault = served.faults.pop(0) if served.faults else served.always
        if served is None:
            self._plain(404, b"no such file")
            return
        if fault is None or not self._instead(fault):
            self._send(served, fault)

    def _instead(self, fault: Fault) -> bool:
        """Answer in a way that isn't the file; whether it was done."""
        if fault.kind == "drop":
            self._reset()
        elif fault.kind == "slow-headers":
            self.send_response(200)
            self.flush_headers()
            self._drip(b"X-Wait: x\r\n")
        elif fault.kind == "status":
            extra = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self._plain(fault.status, b"later", extra)
        elif fault.kind == "html":
            self._plain(200, b"<!DOCTYPE html><title>Please log in</title>" + b" " * fault.at)
        elif fault.kind == "redirect":
            self._plain(302, b"", {"Location": fault.location})
        else:
            return False
        return True

    def _drip(self, data: bytes) -> None:
        """`data` again and again, often enough that no wait for the next byte ends."""
        self.close_connection = True
        with suppress(OSError):
            while not self.owner.released.wait(0.05):
                self.wfile.write(data)

    def _plain(self, status: int, body: bytes, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send(self, served: Served, fault: Fault | None) -> None:
        other = fault is not None and fault.kind == "other-file"  # and a server that knows no If-Range
        data, start = (served.data[::-1] if other else served.data), 0
        asked = self.headers.get("Range", "")
        tag = f'"{hash(data) & 0xFFFFFFFF:x}"'
        fresh = other or self.headers.get("If-Range", tag) in {tag, formatdate(1_000_000_000, usegmt=True)}
        if served.ranges and asked.startswith("bytes=") and fresh:
            start = int(asked[6:].split("-")[0])
        if start and start >= len(data):
            self._plain(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        body = data[start:]
        self.send_response(206 if start else 200)
        if start:
            first = start + 7 if fault and fault.kind == "garbage-range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        if served.validators:
            weak = "W/" if fault and fault.kind == "weak" else ""
            self.send_header("ETag", weak + tag)
            if not weak:
                self.send_header("Last-Modified", formatdate(1_000_000_000, usegmt=True))
        if served.length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self._body(body, fault)

    def _body(self, body: bytes, fault: Fault | None) -> None:
        if fault is None or fault.kind in {"weak", "garbage-range", "other-file"}:
            self.owner.sent += len(body)
            self.wfile.write(body)
            return
        cut = min(fault.at, len(body))
        self.owner.sent += cut
        if fault.kind == "corrupt" and cut < len(body):
            self.wfile.write(body[:cut] + bytes([body[cut] ^ 0xFF]) + body[cut + 1 :])
            return
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if fault.kind == "reset" and cut < len(body):
            self._reset()
        elif fault.kind == "truncate":
            self.close_connection = True
        elif fault.kind == "slow-body":
            self._drip(b"x")
        elif fault.kind == "stall":
            self.owner.released.wait(20)
            self.close_connection = True
        else:
            self.wfile.write(body[cut:])

    def _reset(self) -> None:
        """Close with RST, as a dying load balancer does."""
        time.sleep(0.005)  # let what was sent arrive first: RST may overtake it
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, self.connection.fileno())  # the last reference to the connection goes, whoever holds the file
        os.close(null)


class GitServer:
    """git's own http-backend over every repository below `root`; `requests` are (method, path) so far.

    With `token` it is private: whoever has not that as the password, with any name, is refused.
    """

    def __init__(self, root: Path, host: str = "127.0.0.1", token: str = "") -> None:
        self.root = root
        self.host = host
        self.token = token
        self.requests: list[tuple[str, str]] = []
        self.failures: list[int] = []
        owner = self

        class Handler(_GitHandler):
            server_of = owner

        self._server = QuietThreadingServer((host, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self._server.server_address[1]}"

    def __enter__(self) -> GitServer:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _GitHandler(BaseHTTPRequestHandler):
    server_of: GitServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.server_of.requests.append((self.command, self.path))
        if self.server_of.failures:
            self.send_error(self.server_of.failures.pop(0))
            return
        if not self._is_let_in():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            env={
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(self.server_of.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": unquote(parts.path),
                "QUERY_STRING": parts.query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REMOTE_ADDR": "127.0.0.1",
            },
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
        status = next((value for name, value in headers if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in headers:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _is_let_in(self) -> bool:
        token, login = self.server_of.token, self.headers.get("Authorization", "")
        with suppress(ValueError):
            return not token or base64.b64decode(login.removeprefix("Basic ")).decode().endswith(f":{token}")
        return False


@contextmanager
def file_server() -> Iterator[FileServer]:
    """A running FileServer."""
    with FileServer() as server:
        yield server


@contextmanager
def git_server(root: Path, host: str = "127.0.0.1", token: str = "") -> Iterator[GitServer]:
    """A running GitServer for the repositories below `root`."""
    with GitServer(root, host, token) as server:
        yield server
