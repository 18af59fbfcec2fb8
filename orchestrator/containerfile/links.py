"""Symbolic links that lead out of a build context: Podman refuses a context that holds one (4.3 to 5.8; `podman build`
and Docker take it), but unpacks a tar that a Containerfile adds. So such links of the sources come in one.
"""

from __future__ import annotations

import posixpath

from orchestrator.containerfile.members import Member

LINKS = "links.tar"
"""Where the context has them, from the directory of the sources on."""


def climbs(member: Member) -> bool:
    """Whether a member is a link that leads out of the context's root."""
    if member.kind != "link" or member.target.startswith("/"):
        return False
    return posixpath.normpath(posixpath.join(posixpath.dirname(member.path), member.target)).startswith("..")
