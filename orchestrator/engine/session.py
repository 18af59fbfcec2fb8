"""BuildKit's session: while a build runs, the daemon asks us for secrets, logins and the ssh agent.

The client opens `POST /session`, both sides switch to HTTP/2 (h2c), and then the *client* is the gRPC server: the
daemon calls the methods that the request's headers expose. gRPC takes no ready connection, so the server listens on
a private Unix socket, and a thread copies bytes between that and the daemon's connection. The messages are those of
buildkit.proto.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.engine.docker_api import ApiError
from orchestrator.engine.file_sync import DIFF_COPY, RESULT, ContextTransfer, take_result
from orchestrator.engine.logins import Login, registry_host
from orchestrator.engine.tls import Tls
from orchestrator.engine.upgrade import upgrade
from orchestrator.errors import EngineError
from orchestrator.rpc import Exchange, Reply, serving, socket_directory

if TYPE_CHECKING:
    import grpc

SSH_ID = "default"
"""The agent's name in `--mount=type=ssh`, when the mount gives none."""
OPEN_TIMEOUT = 20.0
_WORKERS = 16  # each connection to the agent holds one for as long as it lasts
_CHUNK = 64 * 1024
_HEALTH = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True, kw_only=True)
class Attachables:
    """What the daemon may ask for: secrets by id, logins by registry, the path of an ssh agent's socket ("" = none),
    the build context. `key` is what the daemon keeps a context under."""

    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    logins: Mapping[str, Login] = field(default_factory=dict, repr=False)
    ssh: str = ""
    context: ContextTransfer | None = None
    key: str = ""

    def __bool__(self) -> bool:
        return bool(self.secrets or self.logins or self.ssh or self.context)


class SessionRefusedError(EngineError):
    """A daemon, or a proxy in front of it, that opens no session."""


class Session:
    """A session under way. `id` goes into the build's query; `broken` says that the connection ended before we did."""

    def __init__(self, identity: str) -> None:
        self.id = identity
        self.broken = False


@contextmanager
def open_session(endpoint: str, path: str, attachables: Attachables, tls: Tls | None = None) -> Iterator[Session]:
    """A session with the daemon at `endpoint` (`path` is the API's `/vN.NN/session`), closed at the end.

    EngineError when the daemon won't have it.
    """
    session = Session(uuid.uuid4().hex)
    answers, exchanges = _unary(attachables), _streams(attachables)
    headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "h2c"),
        ("X-Docker-Expose-Session-Uuid", session.id),
        ("X-Docker-Expose-Session-Name", "orchestrator"),
        ("X-Docker-Expose-Session-Sharedkey", attachables.key),
        *(("X-Docker-Expose-Session-Grpc-Method", name) for name in (*answers, *exchanges)),
    ]
    with ExitStack() as stack:
        path_of_ours = stack.enter_context(socket_directory("session")) / "grpc.sock"
        stack.enter_context(serving(path_of_ours, answers, exchanges, workers=_WORKERS))
        try:
            daemon = stack.enter_context(upgrade(endpoint, path, headers, timeout=OPEN_TIMEOUT, tls=tls))
        except ApiError as error:
            raise SessionRefusedError(
                f"the daemon at {endpoint} did not open a BuildKit session, which build steps need for secrets"
                f" and certificates: {error.message}",
                remedy="let the proxy in front of it pass `POST /session` with an Upgrade header, or set"
                " DOCKER_BUILDKIT=0 (the classic builder does not support secrets)",
            ) from error
        ours = stack.enter_context(socket.socket(socket.AF_UNIX))
        ours.connect(str(path_of_ours))
        stack.enter_context(_copying(session, daemon, ours))
        yield session


@contextmanager
def _copying(session: Session, daemon: socket.socket, ours: socket.socket) -> Iterator[None]:
    """Bytes go both ways until one side ends; when that is the daemon's, the session is broken."""
    closing = threading.Event()

    def copy() -> None:
        with suppress(OSError):
            _copy(daemon, ours)
        session.broken = not closing.is_set()

    thread = threading.Thread(target=copy, name="session-copy", daemon=True)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        for end in (daemon, ours):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


def _copy(left: socket.socket, right: socket.socket) -> None:
    """In one thread, because a TLS connection is not made for two. Neither side ever waits for the other to read:
    gRPC's reader and the daemon's take what comes."""
    with selectors.DefaultSelector() as selector:
        selector.register(left, selectors.EVENT_READ, right)
        selector.register(right, selectors.EVENT_READ, left)
        while True:
            for key, _events in selector.select():
                source = left if key.fileobj is left else right
                while True:
                    data = source.recv(_CHUNK)
                    if not data:
                        return
                    key.data.sendall(data)
                    # TLS may have decrypted more than was asked for: the selector does not know of that.
                    if not (isinstance(source, ssl.SSLSocket) and source.pending()):
                        break


def _unary(attachables: Attachables) -> dict[str, Reply]:
    from orchestrator.engine import buildkit_pb2 as messages  # late: only BuildKit's builds need protobuf

    def health(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        return messages.HealthCheckResponse(status=messages.HealthCheckResponse.SERVING).SerializeToString()

    def secret(request: bytes, context: grpc.ServicerContext) -> bytes:
        name = messages.GetSecretRequest.FromString(request).id
        if name not in attachables.secrets:
            _abort(context, "NOT_FOUND", f"no secret {name}")
        return messages.GetSecretResponse(data=attachables.secrets[name]).SerializeToString()

    def credentials(request: bytes, _context: grpc.ServicerContext) -> bytes:
        login = attachables.logins.get(registry_host(messages.CredentialsRequest.FromString(request).host))
        if login is None:
            return b""  # anonymous
        if login.token:
            return messages.CredentialsResponse(secret=login.token).SerializeToString()
        response = messages.CredentialsResponse(username=login.username, secret=login.password)
        return response.SerializeToString()

    def check_agent(request: bytes, context: grpc.ServicerContext) -> bytes:
        if messages.CheckAgentRequest.FromString(request).id not in ("", SSH_ID):
            _abort(context, "NOT_FOUND", "the only ssh agent is called default")
        return b""

    answers: dict[str, Reply] = {_HEALTH: health}
    if attachables.secrets:
        answers["/moby.buildkit.secrets.v1.Secrets/GetSecret"] = secret
    if attachables.logins:
        answers["/moby.filesync.v1.Auth/Credentials"] = credentials
    if attachables.ssh:
        answers["/moby.sshforward.v1.SSH/CheckAgent"] = check_agent
    return answers


def _streams(attachables: Attachables) -> dict[str, Exchange]:
    from orchestrator.engine.buildkit_pb2 import BytesMessage

    def forward(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        with socket.socket(socket.AF_UNIX) as agent:
            try:
                agent.connect(attachables.ssh)
            except OSError as error:
                _abort(context, "UNAVAILABLE", f"the ssh agent at {attachables.ssh} does not answer: {error.strerror}")
            # The call may end from either side: then neither reading may go on waiting.
            context.add_callback(lambda: _shut(agent))
            threading.Thread(target=_feed, args=(agent, requests), name="session-ssh", daemon=True).start()
            with suppress(OSError):
                while data := agent.recv(_CHUNK):
                    yield BytesMessage(data=data).SerializeToString()

    exchanges: dict[str, Exchange] = {}
    if attachables.ssh:
        exchanges["/moby.sshforward.v1.SSH/ForwardAgent"] = forward
    if attachables.context is not None:
        exchanges |= {DIFF_COPY: attachables.context.serve, RESULT: take_result}
    return exchanges


def _feed(agent: socket.socket, requests: Iterator[bytes]) -> None:
    """What the build step says to the agent. gRPC's iterator raises when the call is over."""
    from orchestrator.engine.buildkit_pb2 import BytesMessage

    with suppress(Exception):
        for request in requests:
            agent.sendall(BytesMessage.FromString(request).data)
    _shut(agent, socket.SHUT_WR)


def _shut(connection: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with suppress(OSError):
        connection.shutdown(how)


def _abort(context: grpc.ServicerContext, code: str, text: str) -> None:
    import grpc

    context.abort(getattr(grpc.StatusCode, code), text)
