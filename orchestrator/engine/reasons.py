"""Why an image can't be had: the engines' texts, sorted.

Engines report every failure of a registry as one line of text (no code, no type), so the text is all there is to
go by; what isn't recognised is passed on as it came.
"""

from __future__ import annotations

import re

from orchestrator.engine.logins import Login
from orchestrator.errors import InputError

_MIRROR = "or set a mirror for it under mirrors: in project.yaml"
_REFUSED = "the registry refuses"
_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        r"no such host|server misbehaving|Temporary failure in name resolution|lookup \S+ on",
        "its registry's name does not resolve",
        f"check the network and DNS, {_MIRROR}",
    ),
    (
        r"x509|certificate|tls: ",
        "the registry's TLS certificate is not accepted",
        "give the engine the network's CA certificate (a proxy that intercepts TLS has its own)",
    ),
    (
        r"toomanyrequests|rate limit|429",
        "the registry limits how often it may be asked",
        f"log in to it, wait, {_MIRROR}",
    ),
    (
        r"unauthorized|authentication required|denied|no basic auth|no active session|\b40[13]\b",
        f"{_REFUSED}: it doesn't exist there, or a login is needed",
        "check the name; log in with `docker login` or `podman login`",
    ),
    (
        r"manifest unknown|not found|name unknown|\b404\b|No such image",
        "the registry has no such image or tag",
        "check the name and the tag",
    ),
    (
        r"connection refused|connection reset|no route to host|network is unreachable",
        "its registry refuses connections or can't be reached",
        f"check the network and proxies, {_MIRROR}",
    ),
    (
        r"timeout|deadline exceeded|timed out|EOF",
        "its registry does not answer",
        f"check the network and proxies, {_MIRROR}",
    ),
    (
        r"no space left on device",
        "the engine's disk is full",
        "free space (`orchestrator clean`, and the engine's own prune)",
    ),
    (
        r"invalid reference|invalid status code|http: server gave HTTP response",
        "what answers for its registry is not a registry",
        "check the name",
    ),
)


def image_error(reference: str, text: str, login: Login | None = None) -> InputError:
    """An InputError that says why `reference` can't be had, from the engine's `text`. `login` = what it was given."""
    said = text.strip()
    for pattern, reason, remedy in _REASONS:
        if re.search(pattern, said, re.IGNORECASE):
            if login is not None and reason.startswith(_REFUSED):
                return _login_refused(reference, said, login)
            return InputError(f"image {reference} can't be had: {reason}", remedy=remedy, detail=said)
    return InputError(f"image {reference} can't be had: {said}", remedy="check the name and the network")


def _login_refused(reference: str, said: str, login: Login) -> InputError:
    return InputError(
        f"image {reference} can't be had: {login.registry} refuses the login that {login.source} has for it,"
        " or that login may not read it",
        remedy=f"log in again with `docker login {login.registry}` or `podman login {login.registry}`",
        detail=said,
    )
