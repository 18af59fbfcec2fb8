"""What `mirrors:` may hold, in project.yaml and in the user's settings: the one place that judges it.

A mirror's text reaches apt, pip, git, an engine and our own downloads. Each of them knows more than addresses: apt
takes `deb [trusted=yes] …` and names of files, pip paths, git `ext::COMMAND`, Podman `docker-archive:FILE`. So it must
be an address and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from orchestrator.project.wrong_value import WrongValueError
from orchestrator.suggest import shown
from orchestrator.text import is_one_line

DEBIAN, PYPI = "debian:", "pypi:"
CARGO, GO, NPM = "cargo:", "go:", "npm:"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:/@_~%-]*")
# A registry's host with a port, and a path: no transport of an engine (`dir:`, `oci-archive:`).
_REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5}(?=/|$))?(?:/[A-Za-z0-9._-]*)*")
_SUITE = re.compile(r"debian:[a-z]*")
# apt's signatures make what a directory holds as good as what a server sends; nothing else is signed.
_SCHEMES: Mapping[str, tuple[str, ...]] = {
    DEBIAN: ("http", "https", "file"),
    **dict.fromkeys((PYPI, CARGO, GO, NPM), ("http", "https")),
    "": ("http", "https", "ssh"),  # ssh: sources from git
}


def problem(key: str, value: str) -> WrongValueError | None:
    """What is wrong with one entry; None when nothing is."""
    if not _KEY.fullmatch(key):
        return WrongValueError(
            f"`{shown(key)}` is not the beginning of an address",
            "write the beginning of a URL or of an image reference",
        )
    if not value or not is_one_line(value) or any(c.isspace() or c in "[]<>\"'\\^`{|}$" for c in value):
        return WrongValueError(f"`{shown(value)}` is not an address", "write one without spaces, brackets and quotes")
    for kind in (DEBIAN, PYPI, CARGO, GO, NPM):
        if key.startswith(kind):
            if kind == DEBIAN and not _SUITE.fullmatch(key):
                return WrongValueError(
                    f"`{shown(key)}` does not name a Debian release", "write `debian:` or `debian:bookworm`"
                )
            return _url(value, _SCHEMES[kind])
    if "://" in key or "@" in key:
        return _url(value, _SCHEMES[""])
    if not _REGISTRY.fullmatch(value):
        return WrongValueError(
            f"`{shown(value)}` is not the beginning of an image reference",
            "write, for example, registry.example:5000/library/",
        )
    return None


def problems(mirrors: Any) -> Iterator[tuple[str, WrongValueError]]:
    """Key and problem of every entry that is wrong, of whatever a file holds."""
    if isinstance(mirrors, Mapping):
        for key, value in mirrors.items():
            if isinstance(key, str) and isinstance(value, str) and (wrong := problem(key, value)):
                yield key, wrong


def redirect(url: str, mirrors: Mapping[str, str]) -> str:
    """`url` (or an image reference) with its longest prefix in `mirrors` replaced."""
    matches = [prefix for prefix in mirrors if prefix and url.startswith(prefix)]
    if not matches:
        return url
    best = max(matches, key=len)
    return mirrors[best] + url[len(best) :]


def check_mirrors(mirrors: dict[str, str]) -> dict[str, str]:
    """`mirrors` as they are. ValueError naming the first entry that is wrong."""
    for _, wrong in problems(mirrors):
        raise wrong
    return mirrors


def _url(value: str, schemes: tuple[str, ...]) -> WrongValueError | None:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return WrongValueError(f"`{shown(value)}` is not a URL", "write, for example, https://mirror.example/path/")
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    if parts.scheme not in schemes or "://" not in value:
        return WrongValueError(
            f"`{shown(value)}` must begin with {wanted}", "write, for example, https://mirror.example/path/"
        )
    if parts.scheme == "file":
        inside = parts.path.startswith("/") and ".." not in parts.path.split("/")
        if not inside or parts.netloc:
            return WrongValueError(f"`{shown(value)}` does not name a directory", "write file:///DIRECTORY")
        return None
    if not parts.hostname or parts.hostname.startswith("-") or port == 0:
        return WrongValueError(f"`{shown(value)}` has no host", "write, for example, https://mirror.example/path/")
    return None
