"""On what ground an input is believed the first time: from then on the lock pins it."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from orchestrator.inputs.access import Access
from orchestrator.inputs.store import IMPORTED, CacheEntry
from orchestrator.network import is_plain
from orchestrator.resolved import Ground, Input

WORDS: dict[Ground, str] = {
    "known": "its SHA-256 is the one that ships with orchestrator",
    "given": "project.yaml gives its sha256, digest or commit",
    "signature": "the package archive's signature, which apt checked",
    "checksum": "the vendor's MD5, which comes from the same server",
    "tls": "TLS alone: whoever runs the server",
    "ssh": "ssh alone: whoever runs the server",
    "registry": "the registry alone, which says what the tag is now",
    "engine": "the engine already had it, from an unknown source",
    "bundle": "the bundle alone: whoever made it",
    "local": "it is on this machine",
    "none": "NOTHING: it came without TLS, so anyone on the way could have changed it",
}


def ground_of_download(access: Access, url: str, entry: CacheEntry, sha256: str | None = None) -> Ground:
    """Why a downloaded file is believed; `sha256` is what project.yaml says that it is."""
    if sha256 is not None:
        return "given"
    if url in access.known:
        return "known"
    return "bundle" if IMPORTED in entry.info else ground_of_address(access.redirected(url))


def ground_of_address(address: str) -> Ground:
    """Why what comes from an address (git's `host:path` and paths too) is believed, if nothing else speaks for it."""
    scheme = urlsplit(address).scheme if "://" in address else ""
    if scheme in ("https", "ssh", "git+ssh"):
        return "tls" if scheme == "https" else "ssh"
    if is_plain(address):
        return "none"
    return "ssh" if not scheme and ":" in address.partition("/")[0] else "local"


def believed(inputs: Iterable[Input]) -> str:
    """Inputs by their ground, in one line: `base (the registry alone …); nanos, ops (TLS alone …)`."""
    groups: dict[Ground, list[str]] = {}
    for resolved in inputs:
        if resolved.ground:
            groups.setdefault(resolved.ground, []).append(resolved.name)
    ordered = [ground for ground in WORDS if ground in groups]
    return "; ".join(f"{', '.join(groups[ground])} ({WORDS[ground]})" for ground in ordered)
