"""Layers that come from a registry, and go there, for builders that have no cache of their own yet: CI."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orchestrator.engine.base import BuildRequest
from orchestrator.engine.docker_api import Api, reference_path
from orchestrator.engine.logins import auth_header, find_login
from orchestrator.errors import EngineError

INLINE = "BUILDKIT_INLINE_CACHE"
"""The build argument with which BuildKit writes into an image what its layers are a cache of."""
_NOBODY = {"X-Registry-Auth": base64.urlsafe_b64encode(b"{}").decode()}
"""Docker takes no push without the header."""


def require_cache(request: BuildRequest, *, able: bool, single: bool, engine: str) -> None:
    """EngineError where a request wants a registry's cache and the engine has none, or (`single`) not several."""
    if not (request.cache_from or request.cache_to):
        return
    if not able:
        raise EngineError(
            f"{engine} takes no cache from a registry",
            remedy="leave out --cache-from and --cache-to (or write `none` there, where your config.yaml has"
            " `registry-cache:`), or use Docker with BuildKit, or Podman 4.3 or newer",
        )
    if single and len(request.cache_from) > 1:
        raise EngineError(
            "Podman takes its cache from one repository",
            remedy="give --cache-from (or `registry-cache: {from: …}`) once",
        )
    for reference in (*request.cache_from, *filter(None, [request.cache_to])):
        if single and _has_tag(reference):
            raise EngineError(
                f"Podman keeps its cache in a repository, and names the tags in it itself: {reference}",
                remedy=f"give {reference.partition('@')[0].rpartition(':')[0] or reference}",
            )


def push(api: Api, image: str, reference: str, error_text: Callable[[Mapping[str, Any]], str]) -> str:
    """Push a local image as `reference`; "" or why it could not be. May raise ApiError."""
    name, tag = _split(reference)
    api.json("POST", f"/images/{reference_path(image)}/tag", params={"repo": name, "tag": tag})
    headers = auth_header(find_login(reference)) or _NOBODY
    try:
        with api.post_stream(f"/images/{reference_path(name)}/push", params={"tag": tag}, headers=headers) as messages:
            return _problem(messages, error_text)
    finally:
        api.json("DELETE", f"/images/{reference_path(f'{name}:{tag}')}", params={"noprune": True})


def _problem(messages: Iterable[Mapping[str, Any]], error_text: Callable[[Mapping[str, Any]], str]) -> str:
    return next((problem for message in messages if (problem := error_text(message))), "")


def _has_tag(reference: str) -> bool:
    return "@" in reference or ":" in reference.rpartition("/")[2]


def _split(reference: str) -> tuple[str, str]:
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "latest")
