"""Registry logins: what `docker login` and `podman login` stored, in their files or their credential helpers."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator import process
from orchestrator.text import parse_json
from orchestrator.user_paths import is_visible

DOCKER_HUB = "docker.io"
_HUB_KEY = "https://index.docker.io/v1/"
"""Under which docker keeps the login of Docker Hub, as if it were still a registry of version 1."""
_HUB_HOSTS = {DOCKER_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
_HELPER_TIMEOUT = 30.0
_TOKEN_USER = "<token>"
"""The user name with which a helper says that its secret is an identity token."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """A login for `registry` (host[:port], Docker Hub is `docker.io`): name and password, or an identity token.

    `source` is the file that holds or names it.
    """

    registry: str
    source: str
    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def registry_of(reference: str) -> str:
    """The registry of an image reference: `alpine` → docker.io, `localhost:5000/x` → localhost:5000."""
    first, slash, _rest = reference.partition("/")
    host = first if slash and ("." in first or ":" in first or first == "localhost") else DOCKER_HUB
    return registry_host(host)


def registry_host(host: str) -> str:
    """One name for a registry: all of Docker Hub's are `docker.io`."""
    return DOCKER_HUB if host in _HUB_HOSTS else host


def find_login(reference: str) -> Login | None:
    """The login for an image, from the first of the files that has one; None when there is none.

    Podman's files may hold a login for a part of a registry (`host/team`): the longest that fits counts. A file
    that can't be read has no logins.
    """
    for path in _auth_files(os.environ):
        with suppress(OSError, ValueError, TypeError, AttributeError):
            document = parse_json(path.read_text(encoding="utf-8"))
            if login := _in_file(document, reference, path):
                return login
    return None


def auth_header(login: Login | None) -> dict[str, str]:
    """X-Registry-Auth for a pull; {} without a login."""
    return {"X-Registry-Auth": _header(_entry(login))} if login is not None else {}


def config_header(logins: Mapping[str, Login]) -> dict[str, str]:
    """X-Registry-Config for a build, from logins by registry; {} when there are none."""
    if not logins:
        return {}
    entries = {(_HUB_KEY if name == DOCKER_HUB else name): _entry(login) for name, login in logins.items()}
    return {"X-Registry-Config": _header(entries)}


def _header(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode("ascii")


def _entry(login: Login) -> dict[str, str]:
    server = _HUB_KEY if login.registry == DOCKER_HUB else login.registry
    if login.token:
        return {"identitytoken": login.token, "serveraddress": server}
    return {"username": login.username, "password": login.password, "serveraddress": server}


def _auth_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where podman and docker keep logins, in podman's order of looking."""
    home = Path(environ.get("HOME") or Path.home())
    candidates = [environ.get("REGISTRY_AUTH_FILE", "")]
    if runtime := environ.get("XDG_RUNTIME_DIR", ""):
        candidates.append(f"{runtime}/containers/auth.json")
    else:
        candidates.append(f"/run/containers/{os.getuid()}/auth.json")
    candidates.append(f"{environ.get('XDG_CONFIG_HOME') or home / '.config'}/containers/auth.json")
    candidates.append(f"{environ.get('DOCKER_CONFIG') or home / '.docker'}/config.json")
    return (Path(path) for path in candidates if path and is_visible(Path(path), stat.S_IFREG))


def _in_file(document: dict[str, Any], reference: str, path: Path) -> Login | None:
    auths = {_key(name): entry for name, entry in (document.get("auths") or {}).items()}
    helpers = {_key(name): helper for name, helper in (document.get("credHelpers") or {}).items()}
    registry = registry_of(reference)
    for key in _keys(reference, registry):
        helper = helpers.get(key) or (document.get("credsStore") if key == registry else None)
        if helper and (login := _ask(str(helper), registry, path)):
            return login
        if login := _stored(auths.get(key), registry, path):
            return login
    return None


def _keys(reference: str, registry: str) -> Iterator[str]:
    """`host/a/b`, `host/a`, `host` for an image `host/a/b:tag`."""
    name = reference.partition("@")[0]
    last = name.rpartition("/")[2]
    name = name.removesuffix(f":{last.partition(':')[2]}") if ":" in last else name
    first, _slash, rest = name.partition("/")
    path = [registry, *(rest if registry_host(first) == registry else name).split("/")]
    return ("/".join(path[:length]) for length in range(len(path), 0, -1))


def _key(name: str) -> str:
    """A key of an auth file without scheme and API version."""
    plain = re.sub(r"^https?://", "", name).rstrip("/")
    plain = re.sub(r"/v[12]$", "", plain)
    host, slash, rest = plain.partition("/")
    return f"{registry_host(host)}{slash}{rest}"


def _stored(entry: Any, registry: str, path: Path) -> Login | None:
    if not isinstance(entry, dict):
        return None
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        username, _colon, password = base64.b64decode(entry["auth"]).decode("utf-8").partition(":")
    token = str(entry.get("identitytoken") or "")
    if not token and not username:
        return None
    return Login(registry=registry, source=str(path), username=username, password=password.strip("\0"), token=token)


def _ask(helper: str, registry: str, path: Path) -> Login | None:
    """The login that a credential helper (`docker-credential-NAME get`) has, or None."""
    program = process.which(f"docker-credential-{helper}")
    if program is None:
        return None
    with tempfile.TemporaryFile() as question:
        question.write((_HUB_KEY if registry == DOCKER_HUB else registry).encode())
        question.seek(0)
        try:
            done = process.run([program, "get"], stdin=question, timeout=_HELPER_TIMEOUT)
        except OSError:  # it can't be started, or doesn't end; its file may have other logins
            return None
    return _answered(done.output, registry, path) if done.status == 0 else None


def _answered(output: bytes, registry: str, path: Path) -> Login | None:
    """The login in a helper's answer. None for what isn't one: `{}`, null, an empty name, no JSON."""
    try:
        said = parse_json(output)
    except ValueError:
        return None
    username, secret = (said.get("Username"), said.get("Secret")) if isinstance(said, dict) else (None, None)
    if not isinstance(username, str) or not isinstance(secret, str) or not (username and secret):
        return None
    if username == _TOKEN_USER:
        return Login(registry=registry, source=str(path), token=secret)
    return Login(registry=registry, source=str(path), username=username, password=secret)
