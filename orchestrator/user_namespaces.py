"""Whether this user can have a user namespace with more than one id: what rootless Podman and mmdebstrap need."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator import process

_SUBORDINATE = ((Path("/etc/subuid"), ()), (Path("/etc/subgid"), ("-g",)))


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why it can't, and what to do."""

    reason: str
    remedy: str


def user_name() -> str:
    """This user's name, by which its ranges of ids are known; its number where it has no name, as in a container."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def find_obstacle() -> Obstacle | None:
    """What keeps this user from a user namespace with a range of ids; None when nothing does."""
    name = user_name()
    if process.which("newuidmap") is None:
        return Obstacle(
            reason="newuidmap is not installed", remedy="install it (Debian: apt-get install uidmap), or run as root"
        )
    for path, option in _SUBORDINATE:
        if not _has_range(path, name, option):
            ranges = "--add-subuids 100000-165535 --add-subgids 100000-165535"
            return Obstacle(
                reason=f"{path} has no range for user {name}",
                remedy=f"give it ranges that no other user has (usermod {ranges} {name}), or run as root",
            )
    if process.which("unshare") is not None and process.run(["unshare", "--user", "true"]).status != 0:
        return Obstacle(
            reason="this system does not allow user namespaces",
            remedy="allow them (sysctl kernel.unprivileged_userns_clone=1,"
            " kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces), or run as root",
        )
    return None


def _has_range(path: Path, name: str, option: tuple[str, ...]) -> bool:
    with suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if any(line.partition(":")[0] in (name, str(os.getuid())) for line in lines):
            return True
    # Ranges may also come from a directory (nsswitch.conf, `subid:`), which this program asks.
    program = process.which("getsubids")
    return program is not None and process.run([program, *option, name]).status == 0
