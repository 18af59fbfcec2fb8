"""What an image holds, file by file: the tree is read back from the image itself, from both packers' alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path

from orchestrator.image.listing import tree_listing
from orchestrator.image.reader import Image, open_image
from orchestrator.image_kind import BOOT, FileDigests
from orchestrator.verification import PackedFile, StandIn

STUB = "the stub kernel, which prints one line and stops: it runs no program"


def packed_files(
    image: Path, stand_ins: Iterable[StandIn] = (), known: FileDigests | None = None
) -> tuple[PackedFile, ...]:
    """Every file of both file systems, sorted by path. ImageError when the image can't be read.

    `known` are files that needn't be read for it.
    """
    with open_image(image) as opened:
        return files_of(opened, stand_ins, known or {})


def files_of(image: Image, stand_ins: Iterable[StandIn], known: FileDigests) -> tuple[PackedFile, ...]:
    """The same of an open one."""
    words = {stand_in.path: stand_in.text for stand_in in stand_ins}
    if image.is_stub:
        words.setdefault(f"{BOOT}/kernel", STUB)
    return tuple(sorted(_files(image, words, known), key=attrgetter("path")))


def _files(image: Image, stand_ins: dict[str, str], known: FileDigests) -> Iterator[PackedFile]:
    program = image.rootfs.attributes.get("program")
    at = image.rootfs.resolve(program) if isinstance(program, str) else None
    for filesystem, prefix in ((image.bootfs, BOOT), (image.rootfs, "")):
        for entry in tree_listing(filesystem, None if prefix else known) if filesystem is not None else ():
            if entry.type != "file":
                continue
            path = prefix + entry.path
            if prefix:
                role = "kernel" if entry.path == "/kernel" else "klib" if entry.path.startswith("/klib/") else ""
            else:
                role = "program" if at is not None and entry.path == at[0] else ""
            yield PackedFile(
                path=path, size=entry.size, sha256=entry.sha256, role=role, stand_in=stand_ins.get(path, "")
            )
