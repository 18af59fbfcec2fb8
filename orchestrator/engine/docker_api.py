"""The Docker Engine API over a socket: requests, streams, authentication, and its failures in our words.

The only module that imports docker-py. Podman's compatible API goes through it as well.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import docker
import docker.errors
import requests
import urllib3.exceptions

from orchestrator.engine.ssh_tunnel import SshTunnel
from orchestrator.engine.tls import Tls, tls_of_environment
from orchestrator.errors import EngineError
from orchestrator.text import parse_json, parse_json_values

NEWEST_API = "1.44"
"""The newest API version that this was written against (and docker-py's own)."""
PODMAN = "Podman"
"""How Podman's component is called in /version; Docker's is "Engine"."""
CONNECT_TIMEOUT = 10.0
"""Seconds for a request to begin to be answered, on a local socket or near it."""
REQUEST_TIMEOUT = 120.0
"""Seconds for a plain request: removing a large image on a slow disk takes tens of seconds."""
MAX_MESSAGE = 96 * 1024 * 1024
"""A line of a reply's stream may not be longer (a trace of BuildKit's is base64 of at most 64 MiB)."""
_CHUNK = 64 * 1024
_SERVER = re.compile(r"Docker/(\S+) \((\w+)\)")
_TRANSPORT = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    docker.errors.DockerException,
    OSError,
)


class ApiError(EngineError):
    """The engine answered with an error, in its own words. `status` is the HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message, said=message)
        self.status = status


class ConnectionFault(StrEnum):
    """Why there is no connection: nobody serves the socket, no socket, no permission, no answer, TLS, anything else."""

    REFUSED = "refused"
    MISSING = "missing"
    DENIED = "denied"
    TIMEOUT = "timeout"
    INSECURE = "insecure"
    BROKEN = "broken"


class GoneError(EngineError):
    """The connection to the engine failed or broke."""

    def __init__(self, message: str, *, reason: ConnectionFault) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Version:
    """What /version says: `kind` is docker|podman."""

    kind: str
    version: str
    api_version: str
    os: str


class Api:
    """One engine at `endpoint` (unix://, tcp://, http://, https://, ssh://); the API version is negotiated.

    `tls` is how to speak TLS there (None: as the environment says). By ssh:// goes `tunnel`, closed with this.
    `address` is what is connected to: the endpoint, or the tunnel's socket.

    Errors: GoneError when nothing answers there, EngineError when what answers isn't a Docker API.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        timeout: float = CONNECT_TIMEOUT,
        tls: Tls | None = None,
        tunnel: SshTunnel | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.address = tunnel.address if tunnel is not None else endpoint
        self.tls = tls or tls_of_environment(endpoint)
        self._tunnel = tunnel
        self._prefix = ""
        with self._failures():
            # The version here is docker-py's own; ours, in `_url`, is negotiated with one request.
            self._client = docker.APIClient(
                base_url=self.address, version=NEWEST_API, timeout=int(timeout), tls=self.tls is not None
            )
        # Nothing of the environment: REQUESTS_CA_BUNDLE would win over the engine's own authority, and a proxy for
        # downloads doesn't lead to an engine (BuildKit's session, which every build needs, goes through none).
        self._client.trust_env = False
        if self.tls is not None:
            self._client.verify = self.tls.authority()
            self._client.cert = (self.tls.cert, self.tls.key) if self.tls.cert else None
        try:
            self.version = self._ask_version(timeout)
        except BaseException:
            self._client.close()
            raise
        self._prefix = f"/v{self.version.api_version}"

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()
        if self._tunnel is not None:
            self._tunnel.close()

    def command_there(self, script: str) -> list[str]:
        """The command that has a shell on the engine's machine run `script`; none where no ssh leads there."""
        return self._tunnel.command_there(script) if self._tunnel is not None else []

    def leave_connections(self) -> None:
        """Let those that another process holds live on after `close`."""
        if self._tunnel is not None:
            self._tunnel.leave_connections()

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> Any:
        """A plain request; the decoded reply (None when it is empty). ApiError on a status of 400 or more."""
        with self._failures():
            self._knock()
            reply = self._client.request(method, self._url(path), params=_query(params), json=body, timeout=timeout)
            _check(reply)
            return parse_json(reply.content) if reply.content.strip() else None

    @contextmanager
    def post_stream(
        self,
        path: str,
        *,
        params: Mapping[str, Any],
        data: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        idle: float | None = None,
    ) -> Iterator[Messages]:
        """Post `data` (sent chunk by chunk as the engine takes it); gives the reply's JSON messages, one by one.

        `idle` bounds the seconds between two messages. Leaving the context early closes the connection, which
        is how an engine learns that nobody waits any more. What `data` itself raises comes out as it is.
        """
        body = _Body(data) if data is not None else None
        try:
            reply = self._open("POST", path, params, body, dict(headers or {}), idle)
        except EngineError as error:
            if body is not None and body.error is not None:
                raise body.error from error
            raise
        try:
            yield Messages(self._messages(reply), reply)
        finally:
            reply.close()

    @contextmanager
    def get_stream(self, path: str, *, params: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        """The chunks of a reply's body, as sent."""
        # Docker gzips an archive when it may, which costs more than a local socket does.
        reply = self._open("GET", path, params, None, {"Accept-Encoding": "identity"}, None)
        try:
            yield self._chunks(reply)
        finally:
            reply.close()

    def put(self, path: str, *, params: Mapping[str, Any], data: Iterable[bytes]) -> None:
        """Put the chunks of a tar there. What `data` itself raises comes out as it is."""
        body = _Body(data)
        try:
            self._open("PUT", path, params, body, {}, None).close()
        except EngineError as error:
            if body.error is not None:
                raise body.error from error
            raise

    def path(self, path: str) -> str:
        """`path` as it stands in a URL, with the API version that was agreed on."""
        return f"{self._prefix}{path}"

    def _gone(self, error: BaseException) -> GoneError:
        """The failure of a connection in words: ssh's, where there is a tunnel that has any."""
        said = self._tunnel.problem() if self._tunnel is not None else ""
        if not said:
            return connection_error(error, self.endpoint)
        return GoneError(f"{self.endpoint} cannot be reached: {said}", reason=ConnectionFault.BROKEN)

    def _ask_version(self, timeout: float) -> Version:
        """From the headers of /_ping where they have it all: Podman's /version asks dpkg, which takes most of a second,
        Docker's asks containerd and runc."""
        with self._failures():
            self._knock()
            reply = self._client.get(self._url("/_ping"), timeout=timeout)
        headers = reply.headers
        if reply.status_code == 200 and "Libpod-Api-Version" in headers and "Api-Version" in headers:
            known = {"ApiVersion": headers["Api-Version"], "Version": headers["Libpod-Api-Version"]}
            return _version({**known, "Components": [{"Name": PODMAN}]}, self.endpoint)
        if reply.status_code == 200 and (pinged := _docker_ping(headers)) is not None:
            return _version(pinged, self.endpoint)
        return _version(self.json("GET", "/version", timeout=timeout), self.endpoint)

    def _open(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any],
        body: _Body | None,
        headers: dict[str, str],
        idle: float | None,
    ) -> requests.Response:
        if body is not None:
            headers = {"Content-Type": "application/x-tar", **headers}
        with self._failures():
            self._knock()
            reply = self._client.request(
                method,
                self._url(path),
                params=_query(params),
                data=body,
                headers=headers,
                stream=True,
                # No limit on connecting: urllib3 uses it for each send as well, and an engine may rightly
                # leave a context unread for as long as it pulls a base.
                timeout=(None, idle),
            )
            try:
                _check(reply)
            except BaseException:
                reply.close()
                raise
        return reply

    def _knock(self) -> None:
        """OSError when nothing serves the socket. docker-py would leave its own socket open in that case."""
        if self.endpoint.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as knocking:
                knocking.connect(self.endpoint.removeprefix("unix://"))

    def _chunks(self, reply: requests.Response) -> Iterator[bytes]:
        chunks = reply.raw.stream(_CHUNK, decode_content=False)
        while True:
            with self._failures():
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def _messages(self, reply: requests.Response) -> Iterator[dict[str, Any]]:
        """JSON objects one after another: a line each (Docker) or run together (older Podman)."""
        rest = b""
        for chunk in self._chunks(reply):
            *lines, rest = (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
            for line in lines:
                yield from _objects(line)
            if len(rest) > MAX_MESSAGE:
                raise EngineError(f"the engine at {self.endpoint} sent a message of over {MAX_MESSAGE} bytes")
        yield from _objects(rest)

    def _url(self, path: str) -> str:
        base = f"{self._client.base_url}"
        if path.startswith("/libpod/"):
            return f"{base}/v4.0.0{path}"  # Podman's own API; any version from 4.0.0 on is accepted
        return f"{base}{self._prefix}{path}"

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except EngineError:
            raise
        except _TRANSPORT as error:
            raise self._gone(error) from error
        except ValueError as error:  # JSON that isn't
            raise EngineError(
                f"the server at {self.endpoint} is not a Docker-compatible engine: {error}",
                remedy="check DOCKER_HOST and --engine",
            ) from error


class Messages(Iterator[dict[str, Any]]):
    """The JSON messages of a reply, one by one."""

    def __init__(self, messages: Iterator[dict[str, Any]], reply: requests.Response) -> None:
        self._messages = messages
        self._reply = reply

    def __next__(self) -> dict[str, Any]:
        """The next, once it is there."""
        return next(self._messages)

    def fileno(self) -> int:
        """The descriptor of the connection that the reply comes by."""
        return int(self._reply.raw.fileno())


class _Body:
    """An upload whose own failure is told from the engine's."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._chunks:
                if chunk:  # an empty chunk would end the chunked body
                    yield chunk
        except Exception as error:
            self.error = error
            raise


def reference_path(reference: str) -> str:
    """An image reference or id as part of a URL's path."""
    return quote(reference, safe="/:@")


def _query(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Booleans as 1, mappings as JSON, empty values left out."""
    query: dict[str, Any] = {}
    for key, value in (params or {}).items():
        if isinstance(value, bool):
            query.update({key: "1"} if value else {})
        elif isinstance(value, Mapping):
            query.update({key: json.dumps(dict(value))} if value else {})
        elif value not in ("", None):
            query[key] = value
    return query


def _objects(line: bytes) -> Iterator[dict[str, Any]]:
    text = line.decode("utf-8", errors="replace")
    try:
        yield from (value for value in parse_json_values(text) if isinstance(value, dict))
    except ValueError as error:
        raise EngineError(f"the engine's reply is not JSON, or is truncated: {text[:200]!r}") from error


def _check(reply: requests.Response) -> None:
    if reply.status_code < 400:
        return
    try:
        message = str(parse_json(reply.content)["message"])
    except (ValueError, KeyError, TypeError):
        message = reply.text[:500] or reply.reason
    raise ApiError(message.strip(), status=reply.status_code)


def _version(reply: Any, endpoint: str) -> Version:
    """The newest version that both sides know. A later daemon may have dropped ours: then the oldest that it has."""
    if not isinstance(reply, dict) or "ApiVersion" not in reply:
        raise EngineError(
            f"the server at {endpoint} is not a Docker-compatible engine", remedy="check DOCKER_HOST and --engine"
        )
    theirs = _numbers(str(reply["ApiVersion"]))
    oldest = _numbers(str(reply.get("MinAPIVersion", "1.24")))
    if not theirs:
        raise EngineError(
            f"the engine at {endpoint} reports API version {reply['ApiVersion']!r}, which is not a version",
            remedy="update it",
        )
    names = [str(part.get("Name", "")) for part in reply.get("Components") or []]
    podman = any(name.startswith(PODMAN) for name in names)
    return Version(
        kind="podman" if podman else "docker",
        version=str(reply.get("Version", "unknown")),
        api_version=_text(min(theirs, max(_numbers(NEWEST_API), oldest))),
        os=str(reply.get("Os", "linux")),
    )


def _docker_ping(headers: Mapping[str, str]) -> dict[str, str] | None:
    """What the headers of Docker's /_ping say, where that is all of interest: a daemon that is newer than `NEWEST_API`
    may have dropped ours, and only /version tells."""
    server, api = _SERVER.fullmatch(headers.get("Server", "")), headers.get("Api-Version", "")
    if server is None or not api or _numbers(api) > _numbers(NEWEST_API):
        return None
    return {"ApiVersion": api, "Version": server[1], "Os": headers.get("Ostype") or server[2]}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _text(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def connection_error(error: BaseException, endpoint: str) -> GoneError:
    """The failure of a connection in words."""
    causes = list(_causes(error))
    for kind, reason, message in (
        (PermissionError, ConnectionFault.DENIED, "cannot be opened by this user"),
        (FileNotFoundError, ConnectionFault.MISSING, "does not exist"),
        (ConnectionRefusedError, ConnectionFault.REFUSED, "refuses connections: no engine is listening"),
        (ssl.SSLError, ConnectionFault.INSECURE, "cannot be reached over TLS"),
        (TimeoutError, ConnectionFault.TIMEOUT, "does not answer"),
        (requests.exceptions.Timeout, ConnectionFault.TIMEOUT, "does not answer"),
    ):
        if cause := next((cause for cause in causes if isinstance(cause, kind)), None):
            why = f": {cause.args[-1]}" if isinstance(cause, ssl.SSLError) and cause.args else ""
            return GoneError(f"the engine's socket {endpoint} {message}{why}", reason=reason)
    return GoneError(f"the connection to the engine at {endpoint} failed: {causes[-1]}", reason=ConnectionFault.BROKEN)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and everything it wraps: requests and urllib3 nest the true one in `args` and `reason`."""
    queue, seen = [error], set[int]()
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
        queue += [item for item in inner if isinstance(item, BaseException)]
