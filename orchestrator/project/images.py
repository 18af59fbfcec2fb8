"""What names an image: a registry's or a local one, and nothing else that an engine understands.

Podman and buildah read `oci:DIR`, `docker-archive:FILE` and others as transports (containers-transports(5)): a FROM of
one takes its image from a file or a store of the host, past the lock and past whoever reads project.yaml.
"""

from __future__ import annotations

from orchestrator.project.wrong_value import WrongValueError
from orchestrator.suggest import shown

REFERENCE = (
    r"^([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/)?"  # a registry's host
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"  # a tag
    r"(@[a-z0-9]+:[0-9a-f]{32,128})?$"
)
"""The grammar of an image reference, as the distribution specification and both engines have it."""
IN_WORDS = "the name of an image, such as docker.io/library/debian:bookworm or localhost/mine"
# Not `docker`: without its `//`, which no reference has, the engines read a name (docker:dind).
_TRANSPORTS = frozenset(
    {
        "containers-storage", "dir", "docker-archive", "docker-daemon", "oci", "oci-archive", "ostree", "sif",
        "tarball", "atomic",
    }
)  # fmt: skip


def transport_of(reference: str) -> str:
    """The transport that an engine would read at the beginning of `reference`, or ""."""
    first, colon, _ = reference.partition(":")
    return first if colon and first in _TRANSPORTS else ""


def check_image(reference: str) -> str:
    """`reference` as it is. ValueError where an engine would not look for an image of that name."""
    if transport := transport_of(reference):
        message = f"`{shown(reference)}` is not allowed here: engines read `{transport}:` as a place on this machine"
        raise WrongValueError(message, f"write {IN_WORDS}; an image in a file is loaded into the engine first")
    return reference


def qualified(reference: str) -> str:
    """`reference` with the registry, the folder and the tag that Docker reads where it has none."""
    first, slash, _ = reference.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        reference = f"docker.io/{reference}" if slash else f"docker.io/library/{reference}"
    return reference if "@" in reference or ":" in reference.rpartition("/")[2] else f"{reference}:latest"
