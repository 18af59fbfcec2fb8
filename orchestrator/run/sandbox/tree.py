"""The image's file tree laid out on this machine. Its paths are the image's: no link of it is ever followed outside."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

from orchestrator.errors import UsageError
from orchestrator.files import GuardedTree
from orchestrator.image.reader import Filesystem
from orchestrator.image.tree import File
from orchestrator.run.sandbox.launcher import FOLDER

_HOSTNAME: Final = "/proc/sys/kernel/hostname"
_NO_HOSTNAME: Final = "uniboot"
"""What Nanos calls itself where the image names no host (measured)."""
_LINKS: Final = 8


def make_folder(tree: Path, path: str) -> None:
    """A directory of the tree at a guest path. UsageError where the image has a link or a file on the way."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    try:
        with GuardedTree(tree, folder_mode=0o755) as inside:  # whatever the umask: the program is another user
            inside.make_directory(PurePosixPath(*names))
    except OSError as error:
        what = "leads out of the image" if ".." in names else f"/{error.filename} is a link or a file"
        raise UsageError(
            f"the image needs a directory at {path}, and {what}; it is not followed",
            remedy="`inspect IMAGE manifest` shows the image's mounts; give a plain path in the manifest",
        ) from error


def resolve(tree: Path, path: str) -> Path:
    """Where a guest path lies in the tree, links resolved as the guest does, within it; the last may not be there.
    UsageError for links in circles."""
    at, todo, links = tree, path.split("/")[::-1], 0
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            at = at if at == tree else at.parent
        elif (at / name).is_symlink():
            links += 1
            if links > _LINKS:
                raise UsageError(f"links in the image form a loop at {path}", remedy="see `inspect IMAGE tree`")
            target = str((at / name).readlink())
            at = tree if target.startswith("/") else at
            todo += target.split("/")[::-1]
        else:
            at /= name
    return at


def hostname(filesystem: Filesystem) -> str:
    """The guest's host name: as the image's file says."""
    node = filesystem.lookup(_HOSTNAME)
    if not isinstance(node, File):
        return _NO_HOSTNAME
    text = filesystem.read_at(node, 0, 64).decode(errors="surrogateescape").strip("\n\0 ")
    return text or _NO_HOSTNAME


def make_mount_points(tree: Path, workspace_at: str) -> None:
    """The directories of the tree that something is mounted on."""
    top = "/" + workspace_at.strip("/").split("/")[0]
    if top in ("/proc", "/dev", "/sys", FOLDER):
        raise UsageError(
            f"the image mounts its volume at {workspace_at}, which is the guest's own",
            remedy="give another path in the manifest's Mounts",
        )
    for path in ("/proc", "/dev", "/sys", f"{FOLDER}/socket", workspace_at):
        make_folder(tree, path)
