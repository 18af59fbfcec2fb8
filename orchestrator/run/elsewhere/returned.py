"""A workspace that a program filled elsewhere, put in the place of what it was sent."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from orchestrator import archive
from orchestrator.archive import ArchiveError, Meter, Tar, UnpackLimits, read_tar, translate_errors
from orchestrator.errors import EngineError
from orchestrator.files import GuardedTree, open_emptied
from orchestrator.temporary import remove_tree

_LIMITS: Final = UnpackLimits(size=2**42, members=2**31, seconds=24 * 3600.0)
"""What a program may leave is limited while it runs."""


def return_workspace(stream: BinaryIO, workspace: Path) -> None:
    """Make `workspace` what the tar in `stream` has in its only directory.

    A file that was there keeps its owner. Not set-id, and no socket, pipe or device comes back.
    """
    there: set[PurePosixPath] = set()
    try:
        with translate_errors(), read_tar(Meter(stream=stream, limits=_LIMITS)) as tar, GuardedTree(workspace) as tree:
            for member in tar:
                inside = PurePosixPath(*PurePosixPath(member.name).parts[1:])
                if inside.parts and _put(tree, workspace, tar, member, inside):
                    there.add(inside)
    except (ArchiveError, OSError) as error:
        raise EngineError(f"failed to fetch the workspace: {error}", remedy="try again") from error
    _remove_others(workspace, there)


def _put(tree: GuardedTree, workspace: Path, tar: Tar, member: tarfile.TarInfo, path: PurePosixPath) -> bool:
    """Whether it is there now."""
    before = tree.kind_of(path)
    if before == "directory" and not member.isdir():
        remove_tree(workspace / path)
        before = ""
    if member.isdir():
        if before not in ("directory", ""):
            tree.remove(path)
        tree.make_directory(path)
    elif member.isreg() and before == "file" and (workspace / path).lstat().st_nlink == 1:
        with open_emptied(workspace / path) as sink:
            _copy(tar, member, sink)
        (workspace / path).chmod(member.mode & 0o777)
    else:
        if before:
            tree.remove(path)
        if member.isreg():
            with tree.create_file(path, member.mode & 0o777) as sink:
                _copy(tar, member, sink)
        elif member.issym():
            tree.make_symlink(path, member.linkname)
        elif member.islnk():
            tree.make_hard_link(path, PurePosixPath(*PurePosixPath(member.linkname).parts[1:]))
        else:
            return False
    return True


def _copy(tar: Tar, member: tarfile.TarInfo, sink: BinaryIO) -> None:
    source = tar.content(member)
    while chunk := source.read(archive.CHUNK):
        sink.write(chunk)


def _remove_others(workspace: Path, there: set[PurePosixPath]) -> None:
    for path in sorted(workspace.rglob("*"), reverse=True):
        if PurePosixPath(path.relative_to(workspace)) in there:
            continue
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
