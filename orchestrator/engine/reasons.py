"""Why an image can't be pulled: the engines' texts, sorted.

Engines report every failure of a registry as one line of text (no code, no type), so the text is all there is to
go by. What a name, an address or a digest in it happens to hold says nothing and is taken out first; what isn't
recognised is passed on as it came: no reason is better than one that isn't true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.engine.logins import Login
from orchestrator.errors import PullError


@dataclass(frozen=True)
class _ReasonRule:
    """What a text must hold, what it means, and what to do. `access`: it is a matter of who may read the image."""

    pattern: str
    reason: str
    remedy: str
    access: bool = False


def _status(number: str) -> str:
    """An HTTP status as the engines' libraries write it; a bare number may be a port, a tag or a part of a digest."""
    return rf"(?:status|StatusCode|registry)(?: code)?(?: from registry)?:? {number}\b|: {number} [A-Z]"


_MIRROR = "or set a mirror for it under mirrors: in project.yaml"
_NETWORK = f"check the network and proxies, {_MIRROR}"
# In this order: what stops an engine before it asks a registry, then the way there, then the registry's answers.
_RULES = (
    _ReasonRule(
        r"no space left on device",
        "the engine's disk is full",
        "free space (`orchestrator clean`, and the engine's own prune)",
    ),
    _ReasonRule(
        r"invalid reference|must be lowercase|invalid port|invalid tag|invalid checksum digest|invalid repository name",
        "its name is not a valid image name",
        "check the name",
    ),
    _ReasonRule(
        r"(?:open|mkdir|(?:un)?mount|l?chown|chmod|fork/exec|unshare|mknod|write|unlink(?:at)?|remove|(?:sym)?link)"
        r" [^:]*: (?:permission denied|operation not permitted|read-only file system)"
        r"|executable file not found|insufficient UIDs",
        "the engine cannot store it on this machine",
        "see the engine's message above, and `orchestrator doctor`",
    ),
    # Go gives the status line of a proxy that refuses CONNECT as the whole error.
    _ReasonRule(
        r"proxyconnect|Proxy Authentication Required|(?:Get|Head) URL: (?:Forbidden|Bad Gateway|Service Unavailable"
        r"|Gateway Timeout|Method Not Allowed)$",
        "the proxy in front of its registry refuses or cannot be reached",
        f"check the engine's proxy settings, {_MIRROR}",
    ),
    _ReasonRule(
        r"no such host|server misbehaving|Temporary failure in name resolution|lookup \S+ on ADDRESS",
        "its registry's name does not resolve",
        f"check the network and DNS, {_MIRROR}",
    ),
    _ReasonRule(
        r"gave HTTP response to HTTPS client",
        "its registry does not use TLS, and the engine requires it",
        "allow it: insecure-registries of dockerd, or `insecure = true` in Podman's registries.conf",
    ),
    _ReasonRule(
        r"x509|certificate|\btls: ",
        "the registry's TLS certificate is not accepted",
        "give the engine the network's CA certificate (a proxy that intercepts TLS has its own)",
    ),
    _ReasonRule(
        rf"toomanyrequests|too many requests|rate limit|{_status('429')}",
        "the registry's rate limit was exceeded",
        f"log in to it, wait, {_MIRROR}",
    ),
    _ReasonRule(
        r"unauthorized|authentication required|no basic auth|no active session|access\b.*\bdenied|^denied|: denied"
        rf"|{_status('40[13]')}",
        "the registry refused it: the image does not exist there, or it needs a login",
        "check the name; log in with `docker login` or `podman login`",
        access=True,
    ),
    _ReasonRule(
        rf"manifest unknown|manifest for .*not found|name unknown|repository .*not found|: not found$|No such image"
        rf"|does not exist|{_status('404')}",
        "the registry has no such image or tag",
        "check the name and the tag",
    ),
    _ReasonRule(
        r"connection refused|connection reset|no route to host|(?:network|host) is unreachable|broken pipe",
        "its registry refuses connections or cannot be reached",
        _NETWORK,
    ),
    _ReasonRule(r"timeout|deadline exceeded|timed out|\bEOF\b", "its registry does not answer", _NETWORK),
    _ReasonRule(_status("5[0-9][0-9]"), "its registry reports a server error", f"try again later, {_MIRROR}"),
    _ReasonRule(
        r"invalid status code|error parsing HTTP|looking for beginning of value|unexpected content",
        "the server at its registry's address is not a registry",
        "check the name",
    ),
)
_AWAY = (
    "Temporary failure in name resolution", "no such host", "connection refused", "connection reset", "x509",
    "certificate", "HTTP response to HTTPS client", "network is unreachable",
)  # fmt: skip
"""How it ends where nothing is a registry at `localhost`."""


def image_error(reference: str, text: str, login: Login | None = None) -> PullError:
    """Why `reference` can't be pulled, from the engine's `text`. `login` = what it was given."""
    said = text.strip()
    bare = _without_names(said, reference)
    if reference.startswith("localhost/") and any(words in bare for words in _AWAY):
        return PullError(
            reference,
            "the engine has no such image, and no registry serves names under `localhost/`",
            remedy="build, tag or load it in this engine, or check the name",
            detail=said,
        )
    rule = next((rule for rule in _RULES if re.search(rule.pattern, bare, re.IGNORECASE)), None)
    if rule is None:
        return PullError(reference, said, remedy="check the name and the network")
    if login is not None and rule.access:
        return _login_refused(reference, said, login)
    return PullError(reference, rule.reason, remedy=rule.remedy, detail=said)


_ADDRESS = r"\d+\.\d+\.\d+\.\d+(?::\d+)?|\[[0-9a-fA-F:]+\](?::\d+)?"


def _without_names(said: str, reference: str) -> str:
    """The text less what may hold any words and numbers: URLs, digests, addresses, and the image's own name."""
    bare = re.sub(r"\"?\b[a-z]+://[^\s\"]*?(?=[:,]?[\s\"]|[:,]?$)\"?", "URL", said)
    bare = re.sub(r"\b[0-9a-f]{12,}\b", "DIGEST", bare)
    bare = re.sub(_ADDRESS, "ADDRESS", bare)
    name = re.sub(r":[^/]*$", "", reference.partition("@")[0])
    host, _, path = name.partition("/")
    for part in sorted({reference, name, path, host, path.removeprefix("library/")} - {""}, key=len, reverse=True):
        bare = re.sub(rf"(?<![\w.-]){re.escape(part)}(?:[:@][\w.:-]*\w)?(?![\w-])", "IMAGE", bare)
    return bare


def _login_refused(reference: str, said: str, login: Login) -> PullError:
    return PullError(
        reference,
        f"{login.registry} refuses the login that {login.source} has for it, or that login may not read the image",
        remedy=f"log in again with `docker login {login.registry}` or `podman login {login.registry}`",
        detail=said,
    )
