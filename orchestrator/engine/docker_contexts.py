"""The docker command's contexts: named engines in its configuration directory, and which of them is in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.docker_config import chosen_context, docker_folder
from orchestrator.engine.tls import Tls, tls_in
from orchestrator.errors import EngineError
from orchestrator.text import parse_json

DEFAULT = "default"
"""The context of that name is no context: DOCKER_HOST or the usual socket."""


@dataclass(frozen=True, kw_only=True)
class DockerContext:
    """A context: `host` is its engine's URL, `named` says what chose it, `tls` what it has for TLS (None = no TLS)."""

    host: str
    named: str
    tls: Tls | None


def current_context(asked: str) -> DockerContext | None:
    """The context `asked` for (DOCKER_CONTEXT), else the one that `docker context use` chose; None: the default one.

    EngineError when there is none of that name. A configuration that can't be read names no context.
    """
    folder = docker_folder()
    name = asked or chosen_context()
    if name in ("", DEFAULT):
        return None
    named = f"DOCKER_CONTEXT={name}" if asked else f"`docker context use {name}`"
    for meta, document in _contexts(folder):
        if document.get("Name") != name:
            continue
        endpoint = document["Endpoints"].get("docker")
        if isinstance(endpoint, dict) and (host := str(endpoint.get("Host") or "")):
            verify = not endpoint.get("SkipTLSVerify")
            return DockerContext(host=host, named=named, tls=_tls(folder, meta, verify=verify))
    undo = "unset DOCKER_CONTEXT" if asked else "run `docker context use default`"
    raise EngineError(
        f"there is no docker context {name} in {folder} ({named})",
        remedy=f"choose one that `docker context ls` shows, {undo}, or choose with --engine",
    )


def _contexts(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every context's own folder and what its meta.json says."""
    with suppress(OSError):
        for meta in sorted((folder / "contexts/meta").iterdir()):
            with suppress(OSError, ValueError):
                document = parse_json((meta / "meta.json").read_text(encoding="utf-8"))
                if isinstance(document, dict) and isinstance(document.get("Endpoints"), dict):
                    yield meta, document


def _tls(folder: Path, meta: Path, *, verify: bool) -> Tls | None:
    """Of the folder beside the context's, which has the same name: a hash of the context's."""
    tls = tls_in(folder / "contexts/tls" / meta.name / "docker", verify=verify)
    return tls if tls.ca or tls.cert or not verify else None
