"""Whether a directory is the tree of a git commit, by git's own object ids: a commit's id proves all its files.

The commit object names its tree, a tree its entries, an entry its blob; each by the hash of what it is. What
`.gitattributes` lets git write out otherwise (line ends) does not prove itself; a lock's own digest is for that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

_CHUNK = 1024 * 1024
COMMIT, MODULES = "commit-object", "modules"
"""Facts of a cache's entry: the commit object in base64, and `ID PATH` of each submodule, a line each."""
_TREE = re.compile(rb"tree ([0-9a-f]{40}|[0-9a-f]{64})\n")


def proves(commit: str, tree: Path, facts: Mapping[str, str]) -> bool:
    """Whether the directory `tree` is what `commit` (hex) names, given the entry's facts."""
    try:
        data = base64.b64decode(facts.get(COMMIT, ""), validate=True)
        modules = {path: id_ for id_, _, path in (line.partition(" ") for line in facts.get(MODULES, "").split("\n"))}
        named = _TREE.match(data)
        if named is None or _id("commit", data, commit) != commit or not tree.is_dir():
            return False
        return _tree_id(tree, "", modules, commit) == named[1].decode()
    except (binascii.Error, ValueError, OSError, RecursionError):
        return False


def _hash(like: str) -> hashlib._Hash:
    # SHA-1 is what git has; a lock holds the SHA-256 of the files beside it.
    return hashlib.sha1(usedforsecurity=False) if len(like) == 40 else hashlib.sha256()


def _id(kind: str, data: bytes, like: str) -> str:
    whole = _hash(like)
    whole.update(f"{kind} {len(data)}\0".encode() + data)
    return whole.hexdigest()


def _blob_id(path: Path, size: int, like: str) -> str:
    whole = _hash(like)
    whole.update(f"blob {size}\0".encode())
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            whole.update(chunk)
    return whole.hexdigest()


def _tree_id(directory: Path, prefix: str, modules: Mapping[str, str], like: str) -> str:
    entries: list[tuple[bytes, bytes]] = []
    with os.scandir(directory) as children:
        for child in children:
            name, path = os.fsencode(child.name), prefix + child.name
            status = child.stat(follow_symlinks=False)
            if path in modules and stat.S_ISDIR(status.st_mode):
                # Its own files are another repository's, and no part of this id.
                if any((directory / child.name).iterdir()):
                    raise ValueError("a submodule's directory holds files")
                entries.append((name, b"160000 " + name + b"\0" + bytes.fromhex(modules[path])))
            elif stat.S_ISDIR(status.st_mode):
                inner = _tree_id(directory / child.name, path + "/", modules, like)
                entries.append((name + b"/", b"40000 " + name + b"\0" + bytes.fromhex(inner)))
            elif stat.S_ISLNK(status.st_mode):
                target = os.fsencode(os.readlink(child.path))  # noqa: PTH115 (Path would tidy the target)
                entries.append((name, b"120000 " + name + b"\0" + bytes.fromhex(_id("blob", target, like))))
            elif stat.S_ISREG(status.st_mode):
                mode = b"100755 " if status.st_mode & 0o100 else b"100644 "
                blob = _blob_id(directory / child.name, status.st_size, like)
                entries.append((name, mode + name + b"\0" + bytes.fromhex(blob)))
            else:
                raise ValueError("neither file, link nor directory")
    # Git sorts directories as if their names ended in a slash.
    return _id("tree", b"".join(entry for _, entry in sorted(entries)), like)
