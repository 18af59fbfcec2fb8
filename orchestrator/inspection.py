"""What `inspect` shows of an image's root file system, as data and as lines."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.amounts import size
from orchestrator.errors import UsageError
from orchestrator.files import GuardedTree
from orchestrator.image.errors import ImageError
from orchestrator.image.listing import SPARSE_SLACK
from orchestrator.image.reader import CHUNK, Filesystem, Image
from orchestrator.image.tree import Directory, File, Node, Symlink
from orchestrator.image_kind import Row
from orchestrator.suggest import nearest


def summary(image: Image, path: Path) -> dict[str, Any]:
    """What an image is: sizes in bytes, offsets from its start. `boot` lists the ways a machine can start it.

    `kernel` is stub, nanos or none; `nanos_version` is what the image's environment claims.
    """
    root, rootfs = image.rootfs.attributes, image.rootfs
    environment = root.get("environment", {})
    kernel = "stub" if image.is_stub else "nanos" if image.bootfs and image.bootfs.lookup("/kernel") else "none"
    return {
        "image": str(path),
        "size": image.size,
        "kernel": kernel,
        "nanos_version": environment.get("NANOS_VERSION") if isinstance(environment, dict) else None,
        "boot": [name for name, there in (("bios", image.boot_sector), ("uefi", image.uefi)) if there],
        "program": root.get("program", ""),
        "arguments": root.get("arguments", []),
        "mounts": root.get("mounts", {}),
        "format": f"TFS version {rootfs.version}",
        "uuid": rootfs.uuid,
        "files": sum(isinstance(node, File) for _, node in rootfs.walk()),
        "partitions": {part.kind: {"offset": part.offset, "length": part.length} for part in image.partitions},
        "log_extensions": len(rootfs.extensions),
    }


def summary_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """A summary for people."""
    version = f" {document['nanos_version']}" if document["nanos_version"] else ""
    kernel = {
        "stub": "stub: a stand-in that prints one line and stops; not bootable as a program",
        "nanos": f"Nanos{version}",
    }.get(document["kernel"], "none: not bootable")
    partitions = document["partitions"].items()
    rows = {
        "image": document["image"],
        "size": f"{size(document['size'])} ({document['size']} bytes)",
        "kernel": kernel,
        "boot": " and ".join(name.upper() for name in document["boot"]) or "no boot code",
        "program": document["program"] or "none named",
        "arguments": _words(document["arguments"]),
        "mounts": _places(document["mounts"]),
        "files": document["files"],
        "file system": f"{document['format']}, UUID {document['uuid']}, {document['log_extensions']} log extensions",
        "partitions": "; ".join(f"{kind} {size(part['length'])} at byte {part['offset']}" for kind, part in partitions),
    }
    yield from (f"{name + ':':<13} {value}" for name, value in rows.items())


def _words(arguments: Any) -> str:
    """Arguments as a shell would take them; anything else (the image may hold any value) as it is."""
    texts = isinstance(arguments, list) and all(isinstance(argument, str) for argument in arguments)
    return shlex.join(arguments) if texts else str(arguments)


def _places(mounts: Any) -> str:
    if not isinstance(mounts, dict):
        return str(mounts)
    return ", ".join(f"{label} at {where}" for label, where in mounts.items()) or "none"


def node_at(filesystem: Filesystem, path: str) -> Node:
    """The node at a guest path (links followed); UsageError with the nearest name when there is none."""
    node = filesystem.lookup(path)
    if node is None:
        near = nearest(path.strip("/"), [name.strip("/") for name, _ in filesystem.walk()])
        raise UsageError(
            f"the image has no {path}", remedy=f"did you mean /{near}?" if near else "`inspect IMAGE tree` lists all"
        )
    return node


def file_at(filesystem: Filesystem, path: str) -> File:
    """The regular file at a guest path."""
    node = node_at(filesystem, path)
    if not isinstance(node, File):
        raise UsageError(f"{path} is not a regular file", remedy="`inspect IMAGE ls PATH` lists a directory")
    return node


def entries(filesystem: Filesystem, path: str, *, recursive: bool) -> list[Row]:
    """The nodes below `path`, sorted; a file is its own only row."""
    top = "/" + path.strip("/") if path.strip("/") else ""
    node = node_at(filesystem, path or "/")
    if not isinstance(node, Directory):
        return [_row(top, node)]
    return list(_below(node, top, recursive))


def _below(directory: Directory, prefix: str, recursive: bool) -> Iterator[Row]:
    for name in sorted(directory.children):
        child = directory.children[name]
        yield _row(f"{prefix}/{name}", child)
        if recursive and isinstance(child, Directory):
            yield from _below(child, f"{prefix}/{name}", recursive)


def _row(path: str, node: Node) -> Row:
    if isinstance(node, File):
        return Row(path=path, type="file", size=node.size)
    if isinstance(node, Symlink):
        return Row(path=path, type="symlink", target=node.target)
    return Row(path=path, type="directory" if isinstance(node, Directory) else "special")


def tree_lines(filesystem: Filesystem, path: str) -> Iterator[str]:
    """The tree below `path` as `tree` draws it, with sizes."""
    node = node_at(filesystem, path or "/")
    yield "/" + path.strip("/")
    if isinstance(node, Directory):
        yield from _branches(node, "")


def _branches(directory: Directory, indent: str) -> Iterator[str]:
    names = sorted(directory.children)
    for name in names:
        child, last = directory.children[name], name == names[-1]
        row = _row(name, child)
        more = f" -> {row.target}" if row.target else f"  ({row.size})" if row.type == "file" else ""
        yield f"{indent}{'└── ' if last else '├── '}{name}{more}"
        if isinstance(child, Directory):
            yield from _branches(child, indent + ("    " if last else "│   "))


def extract_tree(filesystem: Filesystem, directory: Path, on_time: Callable[[], None] = lambda: None) -> int:
    """Write the whole tree into an empty or new directory; returns how many entries. Nothing is written of one that is
    nearly all holes, or larger than what is free there (ImageError, UsageError). `on_time` is called now and then.

    Links are written as links and never followed, and the reader refuses names that would leave the tree.
    """
    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty; nothing was written", remedy="give a new or empty directory")
    _check_sizes(filesystem, directory)
    count = 0
    with GuardedTree(directory) as tree:
        for path, node in filesystem.walk():
            target = PurePosixPath(path.lstrip("/"))
            count += 1
            if isinstance(node, Directory):
                tree.make_directory(target)
            elif isinstance(node, File):
                _write(filesystem, node, tree, target, on_time)
            elif isinstance(node, Symlink):
                tree.make_symlink(target, node.target)
    return count


def _check_sizes(filesystem: Filesystem, directory: Path) -> None:
    files = [node for _, node in filesystem.walk() if isinstance(node, File)]
    claimed = sum(node.size for node in files)
    if claimed > filesystem.length + SPARSE_SLACK:
        raise ImageError(
            f"the image's files claim {claimed} bytes in a file system of {filesystem.length}: they are nearly all"
            " holes, and are not extracted",
            remedy="`inspect IMAGE cat PATH` shows one file; is the image damaged?",
        )
    held = sum(extent.length for node in files for extent in node.extents if extent.position is not None)
    space = os.statvfs(next(folder for folder in (directory, *directory.absolute().parents) if folder.exists()))
    if held > space.f_bavail * space.f_frsize:
        raise UsageError(
            f"the image's files hold {size(held)}, and {size(space.f_bavail * space.f_frsize)} are free at {directory}",
            remedy="free some space, or use another directory (TMPDIR for a rehearsal)",
        )


def _write(
    filesystem: Filesystem, node: File, tree: GuardedTree, target: PurePosixPath, on_time: Callable[[], None]
) -> None:
    with tree.create_file(target) as sink:
        for extent in node.extents:
            # Holes stay holes, and aren't gone through: a claimed size must cost neither disk nor time.
            if extent.position is None:
                continue
            end = min(extent.offset + extent.length, node.size)
            for offset in range(extent.offset, end, CHUNK):
                on_time()
                chunk = filesystem.read_at(node, offset, min(CHUNK, end - offset))
                if chunk.count(0) < len(chunk):
                    sink.seek(offset)
                    sink.write(chunk)
        sink.truncate(node.size)
        # The file system has no modes; a program that was packed must be runnable where it is extracted.
        sink.seek(0)
        if sink.read(4) == b"\x7fELF":
            os.fchmod(sink.fileno(), 0o755)
