"""Where engines listen: the one that a person has named, else the usual places."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.engine.docker_contexts import current_context
from orchestrator.engine.podman_connections import current_connection
from orchestrator.engine.tls import Tls
from orchestrator.errors import EngineError
from orchestrator.user_paths import is_visible

DOCKER_SOCKET = "/var/run/docker.sock"
SCHEMES = ("unix://", "tcp://", "http://", "https://", "ssh://")
NAMES = ("auto", "docker", "podman", "private")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where an engine may listen: `url`, and `what` it is in a user's words.

    `kind` is docker|podman, or "" for whatever answers. `named` is by what a person named it ("DOCKER_HOST"), "" at a
    usual place: one that is named is used, or nothing is. `tls` is its own (None: the environment's), `identity` the
    file of an ssh key ("" = ssh's choice).
    """

    what: str
    url: str
    kind: str
    named: str = ""
    tls: Tls | None = None
    identity: str = ""


def endpoints(spec: str) -> list[Endpoint]:
    """Where to look for the engine that `spec` (as in --engine) asks for, in order; none for `private`.

    EngineError for an unknown engine, and when what names an engine (a docker context, say) is not there.
    """
    if spec.startswith(SCHEMES):
        return [Endpoint(what=spec, url=spec, kind="", named="--engine")]
    if spec not in NAMES:
        raise EngineError(
            f"unknown engine {spec!r}",
            remedy="use auto, docker, podman, private or a URL (unix:///path, tcp://host:port, ssh://user@host)",
        )
    if spec == "private":
        return []
    if spec == "docker":
        return docker_endpoints()
    if spec == "podman":
        return podman_endpoints()
    if named := named_docker() or named_podman():
        return [named]
    return [*_usual_docker(), *_usual_podman()]


def docker_endpoints() -> list[Endpoint]:
    """Where Docker may be."""
    named = named_docker()
    return [named] if named is not None else list(_usual_docker())


def podman_endpoints() -> list[Endpoint]:
    """Where a running Podman may be."""
    named = named_podman()
    return [named] if named is not None else list(_usual_podman())


def named_docker() -> Endpoint | None:
    """The Docker that the docker command would use: DOCKER_HOST, DOCKER_CONTEXT, `docker context use`, in this order.

    None where nothing names one. EngineError when there is no such context.
    """
    if host := os.environ.get("DOCKER_HOST", "").strip():
        return Endpoint(what="Docker", url=_url(host), kind="docker", named="DOCKER_HOST")
    context = current_context(os.environ.get("DOCKER_CONTEXT", ""))
    if context is None:
        return None
    return Endpoint(what="Docker", url=_url(context.host), kind="docker", named=context.named, tls=context.tls)


def named_podman() -> Endpoint | None:
    """The Podman that the podman command would be a client of: CONTAINER_HOST, CONTAINER_CONNECTION, its settings.

    None where nothing names one. EngineError when there is no such connection.
    """
    if host := os.environ.get("CONTAINER_HOST", "").strip():
        key = os.environ.get("CONTAINER_SSHKEY", "")
        return Endpoint(what="Podman", url=_url(host), kind="podman", named="CONTAINER_HOST", identity=key)
    connection = current_connection(os.environ.get("CONTAINER_CONNECTION", ""))
    if connection is None:
        return None
    url, key = _url(connection.url), connection.identity
    return Endpoint(what="Podman", url=url, kind="podman", named=connection.named, identity=key)


def _usual_docker() -> Iterator[Endpoint]:
    yield Endpoint(what="Docker", url=f"unix://{DOCKER_SOCKET}", kind="docker")
    home = Path(os.environ.get("HOME") or Path.home())
    colima = Path(os.environ.get("COLIMA_HOME") or home / ".colima")
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    others = [
        *(("rootless Docker", folder / "docker.sock") for folder in _runtime_folders()),
        ("Docker Desktop", home / ".docker/desktop/docker.sock"),
        ("Docker Desktop", home / ".docker/run/docker.sock"),
        ("colima", colima / "default/docker.sock"),
        ("colima", settings / "colima/default/docker.sock"),
        ("OrbStack", home / ".orbstack/run/docker.sock"),
        ("Rancher Desktop", home / ".rd/docker.sock"),
    ]
    seen = {Path(DOCKER_SOCKET).resolve()} if is_visible(Path(DOCKER_SOCKET)) else set()
    for what, path in others:
        # Of these only what is there: nobody has them all.
        if is_visible(path, stat.S_IFSOCK) and path.resolve() not in seen:
            seen.add(path.resolve())
            yield Endpoint(what=what, url=f"unix://{path}", kind="docker")


def _usual_podman() -> Iterator[Endpoint]:
    sockets = [folder / "podman/podman.sock" for folder in _runtime_folders()]
    if os.geteuid() == 0:
        sockets.append(Path("/run/podman/podman.sock"))
    for path in sockets:
        yield Endpoint(what="running Podman", url=f"unix://{path}", kind="podman")


def _runtime_folders() -> list[Path]:
    """XDG_RUNTIME_DIR, or where a login would have put it: `sudo -u` and `su` leave it unset."""
    if named := os.environ.get("XDG_RUNTIME_DIR", ""):
        return [Path(named)]
    usual = Path(f"/run/user/{os.getuid()}")
    return [usual] if is_visible(usual, stat.S_IFDIR) else []


def _url(host: str) -> str:
    """A host as the docker command takes it: without a scheme it is TCP, and ports have a default."""
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "tcp", host
    if scheme != "tcp":
        return f"unix://{DOCKER_SOCKET}" if (scheme, rest) == ("unix", "") else f"{scheme}://{rest}"
    name, slash, path = rest.partition("/")
    if name.startswith(":") or not name:
        name = f"localhost{name}"
    if not name.rpartition(":")[2].isdigit():
        name = f"{name}:{'2376' if os.environ.get('DOCKER_TLS_VERIFY') else '2375'}"
    return f"tcp://{name}{slash}{path}"
