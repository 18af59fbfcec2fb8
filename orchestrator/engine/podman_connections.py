"""Podman's connections to services elsewhere: `podman system connection`, and when podman itself uses one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import process
from orchestrator.errors import EngineError
from orchestrator.text import parse_json, parse_toml


@dataclass(frozen=True, kw_only=True)
class PodmanConnection:
    """A connection: the service's `url`, `identity` is its ssh key ("" = none), `named` says what chose it."""

    url: str
    identity: str
    named: str = ""


def current_connection(asked: str) -> PodmanConnection | None:
    """The connection `asked` for (CONTAINER_CONNECTION), else the default one where podman is only a client.

    On Linux a podman that is installed builds here whatever the default connection is, unless containers.conf says
    `remote = true`; so do we. EngineError when there is no connection `asked`.
    """
    known: dict[str, PodmanConnection] = {}
    default, remote = "", False
    for document in _documents():
        default, remote = _default(document) or default, remote or _is_remote(document)
        known |= _connections(document)
    if asked:
        if asked not in known:
            raise EngineError(
                f"there is no podman connection {asked} (CONTAINER_CONNECTION={asked})",
                remedy="choose one that `podman system connection list` shows, unset CONTAINER_CONNECTION, or choose"
                " with --engine",
            )
        return replace(known[asked], named=f"CONTAINER_CONNECTION={asked}")
    only_client = remote or not sys.platform.startswith("linux") or process.which("podman") is None
    if not only_client or default not in known:
        return None
    return replace(known[default], named=f"`podman system connection default {default}`")


def _documents() -> Iterator[dict[str, Any]]:
    """What podman reads, the last word last: containers.conf of the system and the user, and Podman 5's own file."""
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path(os.environ.get("HOME") or Path.home()) / ".config")
    tables = [Path("/usr/share/containers/containers.conf"), Path("/etc/containers/containers.conf")]
    tables.append(settings / "containers/containers.conf")
    if named := os.environ.get("CONTAINERS_CONF", ""):
        tables = [Path(named)]
    for path in tables:
        with suppress(OSError, ValueError):
            yield parse_toml(path.read_text(encoding="utf-8"))
    own = os.environ.get("PODMAN_CONNECTIONS_CONF") or settings / "containers/podman-connections.json"
    with suppress(OSError, ValueError):
        document = parse_json(Path(own).read_text(encoding="utf-8"))
        yield document if isinstance(document, dict) else {}


def _default(document: dict[str, Any]) -> str:
    return str(_table(document, "engine").get("active_service") or _table(document, "Connection").get("Default") or "")


def _is_remote(document: dict[str, Any]) -> bool:
    return _table(document, "engine").get("remote") is True


def _connections(document: dict[str, Any]) -> dict[str, PodmanConnection]:
    """containers.conf writes names in small letters, podman-connections.json spells URI and Identity."""
    rows = {
        **_table(_table(document, "engine"), "service_destinations"),
        **_table(_table(document, "Connection"), "Connections"),
    }
    return {
        name: PodmanConnection(
            url=str(row.get("uri") or row.get("URI")),
            identity=str(row.get("identity") or row.get("Identity") or ""),
        )
        for name, row in rows.items()
        if isinstance(row, dict) and (row.get("uri") or row.get("URI"))
    }


def _table(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}
