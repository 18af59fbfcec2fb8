"""How two images differ: in what they hold, and in how that is written down.

What an image holds is all that a machine, a guest or a person can find in it. The same holding can be written in many
ways (UUIDs, the order of entries, the places of files, the encoding), and ops chooses anew in every build.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from orchestrator.values import Value

from .codec import encode_text
from .errors import ImageError
from .esp import read_esp
from .listing import path_key
from .mbr import CRASH_LOG, REGION_AT, SECTOR, TABLE_AT, stage2_length
from .nodes import Noted
from .reader import CHUNK, Filesystem, Image
from .regions import MAX_STAGE2, first_byte, loose_bytes, range_digest, region_at
from .tree import Directory, File, Node, Symlink

Part = Literal["boot", "kernel", "klibs", "manifest", "tree", "free space", "form"]
_SHORT: Final = 100


@dataclass(frozen=True, kw_only=True)
class ImageDifference:
    """One difference. `change`: "-" what only the first image has, "+" only the second, "~" both, and not the same.

    `part` "form" is about how something is written down; every other part is about what an image holds. `path` is a
    guest path, a key of the manifest (`environment.USER`), or what it is that differs; `detail` says how, the first
    image's value first. `offset` is the first differing byte of a file that both have, or of the image.
    """

    part: Part
    change: Literal["-", "+", "~"]
    path: str
    detail: str = ""
    offset: int | None = None


def compare_images(one: Image, other: Image) -> list[ImageDifference]:
    """Every difference, what the images hold first. None only if the two files are the same, byte for byte.

    Errors: ImageError where an image can't be read to its end.
    """
    differences = [
        *_boot_code(one, other),
        *_boot_file_system(one.bootfs, other.bootfs),
        *compare_values(one.rootfs.attributes, other.rootfs.attributes),
        *compare_trees(one.rootfs, other.rootfs, lambda _: "tree"),
        *_beside_the_tree(one.rootfs, other.rootfs),
        *_free_space(one, other),
        *_form(one, other),
    ]
    return differences or list(_unexplained(one, other))


def same_content(differences: list[ImageDifference]) -> bool:
    """Whether two images with these differences hold the same."""
    return all(difference.part == "form" for difference in differences)


def compare_values(one: dict[str, Value], other: dict[str, Value], above: str = "") -> Iterator[ImageDifference]:
    """How two manifests (root attributes) differ, key by key into mappings."""
    for key in sorted({*one, *other}, key=encode_text):
        path = f"{above}{key}"
        if key not in one or key not in other:
            side = one if key in one else other
            yield ImageDifference(
                part="manifest", change="-" if side is one else "+", path=path, detail=_shown(side[key])
            )
            continue
        mine, theirs = one[key], other[key]
        if isinstance(mine, dict) and isinstance(theirs, dict):
            yield from compare_values(mine, theirs, f"{path}.")
        elif mine != theirs:
            yield ImageDifference(part="manifest", change="~", path=path, detail=f"{_shown(mine)} / {_shown(theirs)}")


def compare_trees(one: Filesystem, other: Filesystem, part_of: Callable[[str], Part]) -> Iterator[ImageDifference]:
    """How the nodes of two file systems differ, by path; files are read. `part_of` says what part a path is."""
    left, right = dict(one.walk()), dict(other.walk())
    for path in sorted({*left, *right}, key=path_key):
        mine, theirs = left.get(path), right.get(path)
        if mine is None or theirs is None:
            only = _kind(mine or theirs)
            yield ImageDifference(part=part_of(path), change="-" if theirs is None else "+", path=path, detail=only)
            continue
        detail, offset = "", None
        if isinstance(mine, File) and isinstance(theirs, File):
            offset = first_difference(one, mine, other, theirs)
            if offset is not None:
                sizes = "the same size" if mine.size == theirs.size else f"{mine.size} / {theirs.size} bytes"
                detail = f"{sizes}, from byte {offset} on"
        elif _kind(mine) != _kind(theirs):
            detail = f"{_kind(mine)} / {_kind(theirs)}"
        elif isinstance(mine, Symlink) and isinstance(theirs, Symlink) and mine.target != theirs.target:
            detail = f"{_cut(mine.target)} / {_cut(theirs.target)}"
        if detail:
            yield ImageDifference(part=part_of(path), change="~", path=path, detail=detail, offset=offset)


def _beside_the_tree(one: Filesystem, other: Filesystem) -> Iterator[ImageDifference]:
    """Its label, and what a kernel that ran notes of nodes: times."""
    if one.label != other.label:
        yield ImageDifference(part="tree", change="~", path="label", detail=f"{one.label!r} / {other.label!r}")
    for key in sorted({*one.other_keys, *other.other_keys}):
        mine, theirs = one.other_keys.get(key, Noted()), other.other_keys.get(key, Noted())
        if mine != theirs:
            detail = f"recorded for {mine.nodes} / {theirs.nodes} nodes"
            detail += ", with different values" if mine.nodes == theirs.nodes else ""
            yield ImageDifference(part="tree", change="~", path=_cut(key), detail=detail)


def first_difference(one: Filesystem, file: File, other: Filesystem, its_file: File) -> int | None:
    """The offset of the first byte in which two files differ (the shorter's end, if it is a beginning); or None.

    Holes that both have are not gone through, so it takes no longer than what is stored.
    """
    end = min(file.size, its_file.size)
    at = mine = theirs = 0
    while at < end:
        here, there = file.extents[mine], its_file.extents[theirs]
        stop = min(here.offset + here.length, there.offset + there.length, end)
        if here.position is None and there.position is None:
            at = stop
        while at < stop:
            count = min(CHUNK, stop - at)
            place = first_byte(one.read_at(file, at, count), other.read_at(its_file, at, count))
            if place is not None:
                return at + place
            at += count
        mine += here.offset + here.length == at
        theirs += there.offset + there.length == at
    return None if file.size == its_file.size else end


def boot_files(image: Image) -> dict[str, bytes]:
    """What is beside the file systems: boot code and crash log by name, the files of the EFI partition by path.

    In place of what is too large to be what it claims to be (and of further partitions) there is a digest.
    """
    by_kind = {partition.kind: partition for partition in image.partitions}
    if "bootfs" not in by_kind:
        return {}
    sector = image.read_at(0, SECTOR)
    start = min(partition.offset for partition in image.partitions)
    files = {
        "boot sector": sector[:REGION_AT],
        "region record": sector[REGION_AT:TABLE_AT],
        "second stage": _second_stage(image, stage2_length(sector)),
        "crash log": image.read_at(start - CRASH_LOG, CRASH_LOG).rstrip(b"\0"),
    }
    if "esp" in by_kind:
        esp = by_kind["esp"]
        try:
            files |= read_esp(lambda at, length: image.read_at(esp.offset + at, length), esp.length)
        except ImageError:
            files["EFI partition"] = range_digest(image, esp.offset, esp.offset + esp.length)
    others = [partition for partition in image.partitions if partition.kind == "other"]
    for number, partition in enumerate(others, 1):
        files[f"further partition {number}"] = range_digest(
            image, partition.offset, partition.offset + partition.length
        )
    return {name: data for name, data in files.items() if data}


def _second_stage(image: Image, length: int) -> bytes:
    return image.read_at(SECTOR, length) if length <= MAX_STAGE2 else range_digest(image, SECTOR, SECTOR + length)


def _boot_code(one: Image, other: Image) -> Iterator[ImageDifference]:
    left, right = boot_files(one), boot_files(other)
    for name in sorted({*left, *right}):
        mine, theirs = left.get(name), right.get(name)
        if mine is None or theirs is None:
            yield ImageDifference(part="boot", change="-" if theirs is None else "+", path=name)
        elif mine != theirs:
            offset = first_byte(mine, theirs)
            offset = min(len(mine), len(theirs)) if offset is None else offset
            yield ImageDifference(part="boot", change="~", path=name, detail=f"from byte {offset} on", offset=offset)


def _boot_file_system(one: Filesystem | None, other: Filesystem | None) -> Iterator[ImageDifference]:
    if one is None or other is None:
        if one is not other:
            yield ImageDifference(part="boot", change="-" if other is None else "+", path="boot file system")
        return
    yield from compare_trees(one, other, _part_of_boot)
    if one.label != other.label:
        yield ImageDifference(
            part="boot", change="~", path="boot file system: label", detail=f"{one.label!r} / {other.label!r}"
        )
    for difference in compare_values(one.attributes, other.attributes):
        yield ImageDifference(
            part="boot", change=difference.change, path=f"boot file system: {difference.path}", detail=difference.detail
        )


def _part_of_boot(path: str) -> Part:
    return "kernel" if path == "/kernel" else "klibs" if path.startswith("/klib/") else "boot"


def _free_space(one: Image, other: Image) -> Iterator[ImageDifference]:
    mine, theirs = one.rootfs.free, other.rootfs.free
    if mine != theirs:
        yield ImageDifference(part="free space", change="~", path="size", detail=f"{mine} / {theirs} bytes")
    left, right = loose_bytes(one), loose_bytes(other)
    if left != right:
        detail = f"{left.count} / {right.count} non-zero bytes that belong to no file"
        yield ImageDifference(part="free space", change="~", path="contents", detail=detail)


def _form(one: Image, other: Image) -> Iterator[ImageDifference]:
    def row(path: str, mine: object, theirs: object) -> Iterator[ImageDifference]:
        if mine != theirs:
            yield ImageDifference(part="form", change="~", path=path, detail=f"{_cut(str(mine))} / {_cut(str(theirs))}")

    yield from row("size", one.size, other.size)
    yield from row("partitions", _table(one), _table(other))
    pairs = (("boot file system", one.bootfs, other.bootfs), ("root file system", one.rootfs, other.rootfs))
    for name, mine, theirs in pairs:
        if mine is None or theirs is None:
            continue
        yield from row(f"{name}: encoding", mine.version, theirs.version)
        yield from row(f"{name}: UUID", mine.uuid, theirs.uuid)
        yield from row(f"{name}: log extensions", len(mine.extensions), len(theirs.extensions))
        yield from _order(name, mine, theirs)


def _order(name: str, one: Filesystem, other: Filesystem) -> Iterator[ImageDifference]:
    """The first entry that isn't at the same place in both, and the first file that is stored elsewhere."""
    for (mine, _), (theirs, _) in zip(one.walk(), other.walk(), strict=False):
        if mine != theirs:
            detail = f"{_cut(mine)} / {_cut(theirs)} is the first that differs"
            yield ImageDifference(part="form", change="~", path=f"{name}: order of entries", detail=detail)
            break
    for path, node in one.walk():
        same = other.lookup(path, follow=False)
        if (
            isinstance(node, File)
            and isinstance(same, File)
            and node.extents != same.extents
            and node.size == same.size
        ):
            detail = f"{_cut(path)} is the first that is stored elsewhere"
            yield ImageDifference(part="form", change="~", path=f"{name}: places of files", detail=detail)
            break


def _unexplained(one: Image, other: Image) -> Iterator[ImageDifference]:
    """The first byte that differs in images that read the same; its place says in what."""
    for at in range(0, one.size, CHUNK):
        place = first_byte(one.read_at(at, CHUNK), other.read_at(at, CHUNK))
        if place is not None:
            where = region_at(one, at + place)
            yield ImageDifference(
                part="form", change="~", path=where, detail=f"from byte {at + place} on", offset=at + place
            )
            return


def _table(image: Image) -> str:
    return ", ".join(f"{partition.kind} {partition.length} at {partition.offset}" for partition in image.partitions)


def _kind(node: Node | None) -> str:
    if isinstance(node, File):
        return "file"
    if isinstance(node, Symlink):
        return "symlink"
    return "directory" if isinstance(node, Directory) else "special"


def _shown(value: Value) -> str:
    return _cut(json.dumps(value, sort_keys=True, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"
