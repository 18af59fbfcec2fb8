"""From the tuples of a log to the checked tree: names, links, extents, root attributes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.values import Value

from .codec import Decoder, Encoder, Raw, damaged
from .mbr import SECTOR
from .tree import Directory, Extent, File, Node, Special, Symlink

MAX_DIRECTORIES: Final = 256  # one inside the other
MAX_NUMBER: Final = 2**63 - 1
MAX_NAME: Final = 255  # Linux's limits, which Nanos shares and no host tool exceeds; they also keep the paths of a
MAX_PATH: Final = 4095  # hostile tree from taking far more memory than the tree itself
_MAX_ATTRIBUTE_DEPTH: Final = 64
_SHOWN: Final = frozenset(("children", "extents", "filelength", "linktarget", "socket", ".", ".."))


@dataclass(frozen=True, kw_only=True)
class Noted:
    """A key of nodes that no node shows (`mtime` …): how many nodes have it, and a sum over their names and values."""

    nodes: int = 0
    values: int = 0

    def and_of(self, name: str, value: Raw) -> Noted:
        """With one node more."""
        text = f"{name}\0{value if isinstance(value, str | int) else type(value).__name__}"
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        return Noted(nodes=self.nodes + 1, values=(self.values + int.from_bytes(digest[:8])) % 2**64)


@dataclass(frozen=True, kw_only=True)
class NodeTree:
    """The checked contents of a file system. `runs` are (start, end, name) of stored data, in bytes, sorted.

    `other_keys` are those that `root` doesn't show: times, which a kernel that ran keeps.
    """

    root: Directory
    attributes: dict[str, Value]
    runs: list[tuple[int, int, str]]
    other_keys: dict[str, Noted]


def build_tree(root: dict[str, Raw], version: int, length: int) -> NodeTree:
    """Check the root tuple of a partition of `length` bytes and turn it into nodes. ImageError if it breaks a rule."""
    builder = _Builder(length)
    tree = builder.directories(root)
    builder.runs.sort()
    return NodeTree(
        root=tree,
        attributes=_attributes(root, version),
        runs=builder.runs,
        other_keys={key: builder.other_keys[key] for key in sorted(builder.other_keys)},
    )


def attributes_as_read(attributes: Mapping[str, Value], version: int) -> dict[str, Value]:
    """What a reader will see of root attributes: empty strings gone, in version 4 decimals for integers."""
    encoder = Encoder(version)
    encoder.value(dict(attributes))
    decoder = Decoder()
    decoder.decode(bytes(encoder.data), version)
    return _attributes(decoder.root, version)


def _attributes(root: dict[str, Raw], version: int) -> dict[str, Value]:
    attributes = {name: value for name, value in root.items() if name not in ("children", ".", "..")}
    _check_attributes(attributes)
    if version == 4:
        attributes = {name: _vectors(value) for name, value in attributes.items()}
        if attributes.get("arguments") == {}:
            attributes["arguments"] = []
    return attributes


class _Builder:
    def __init__(self, length: int) -> None:
        self._length = length
        self._seen: set[int] = set()  # ids of directory tuples; the decoder keeps them alive
        self._files: dict[int, File] = {}
        self.runs: list[tuple[int, int, str]] = []
        self.other_keys: dict[str, Noted] = {}

    def directories(self, root: dict[str, Raw]) -> Directory:
        """The whole tree, without recursion."""
        top = Directory()
        self._enter("directory", "/", root, root.get("children"))
        pending = [(root, top, 1, 0)]
        while pending:
            raw, directory, depth, above = pending.pop()
            children = raw.get("children")
            if not isinstance(children, dict):
                raise damaged("the root of the file system has no directory in it")
            for name, child in children.items():
                check_name(name)
                length = above + 1 + len(name)
                if length > MAX_PATH:
                    raise damaged(f"a path that ends in {name!r} is longer than {MAX_PATH} characters")
                if not isinstance(child, dict):
                    raise damaged(f"the entry {name!r} is not a node but a plain value")
                node = self._node(name, child)
                directory.children[name] = node
                if isinstance(node, Directory):
                    if depth >= MAX_DIRECTORIES:
                        raise damaged(f"directories are nested deeper than {MAX_DIRECTORIES}")
                    self._enter("directory", name, child, child["children"])
                    pending.append((child, node, depth + 1, length))
        return top

    def _enter(self, what: str, name: str, *parts: Raw) -> None:
        # A tuple can be referred to again. A directory in two places could make the tree endless or exponential, and
        # many files with the same extents, quadratic.
        for part in parts:
            if id(part) in self._seen:
                raise damaged(f"the {what} {name!r} is in the tree twice")
            self._seen.add(id(part))

    def _node(self, name: str, raw: dict[str, Raw]) -> Node:
        kinds = [key for key in ("children", "extents", "linktarget") if key in raw]
        if len(kinds) > 1:
            raise damaged(f"{name!r} has {' and '.join(kinds)}: it cannot be all of them")
        for key in () if raw.keys() <= _SHOWN else raw.keys() - _SHOWN:
            self.other_keys[key] = self.other_keys.get(key, Noted()).and_of(name, raw[key])
        if "children" in raw:
            if not isinstance(raw["children"], dict):
                raise damaged(f"the children of {name!r} are not a tuple")
            return Directory()
        if "extents" in raw:
            file = self._files.get(id(raw))
            if file is None:
                file = self._files[id(raw)] = self._file(name, raw)
            return file
        if "linktarget" in raw:
            target = raw["linktarget"]
            if not isinstance(target, str) or not target or "\0" in target or len(target) > MAX_PATH:
                raise damaged(f"the symbolic link {name!r} has no usable target")
            return Symlink(target=target)
        return Special(kind="socket" if "socket" in raw else "unknown")

    def _file(self, name: str, raw: dict[str, Raw]) -> File:
        size = _number(raw.get("filelength", 0), "the length of {!r}", name)
        extents = raw["extents"]
        if not isinstance(extents, dict):
            raise damaged(f"the extents of {name!r} are not a tuple")
        if extents:
            self._enter("storage of", name, extents)
        stored = [self._extent(name, key, value) for key, value in extents.items()]
        if len(stored) == 1 and not stored[0][0] and stored[0][1] >= size > 0:  # as nearly every file is
            position = stored[0][2]
            return File(
                size=size, extents=(Extent(offset=0, length=size, position=position if position >= 0 else None),)
            )
        covered: list[Extent] = []
        at = 0
        end_before = 0
        for start, length, position in sorted(stored):
            if start < end_before:
                raise damaged(f"two extents of {name!r} overlap at byte {start} of the file")
            end_before = start + length
            if start >= size:
                continue  # allocated past the end: room the kernel keeps for growth
            if start > at:
                covered.append(Extent(offset=at, length=start - at, position=None))
            shown = min(length, size - start)
            if shown:
                covered.append(Extent(offset=start, length=shown, position=None if position < 0 else position))
            at = start + shown
        if at < size:
            covered.append(Extent(offset=at, length=size - at, position=None))
        return File(size=size, extents=tuple(covered))

    def _extent(self, name: str, key: str, value: Raw) -> tuple[int, int, int]:
        """(file offset, length, position or -1 for zeros) in bytes; its storage is noted in `runs`."""
        if not isinstance(value, dict):
            raise damaged(f"an extent of {name!r} is not a tuple")
        start = _number(key, "the place of an extent of {!r}", name) * SECTOR
        length = _number(value.get("length"), "the length of an extent of {!r}", name) * SECTOR
        position = _number(value.get("offset"), "the offset of an extent of {!r}", name) * SECTOR
        allocated = _number(value.get("allocated"), "the allocation of an extent of {!r}", name) * SECTOR
        if length > allocated:
            raise damaged(f"an extent of {name!r} has {length} bytes but only {allocated} allocated")
        if start + length > MAX_NUMBER:
            raise damaged(f"an extent of {name!r} lies beyond the largest possible file")
        if position + allocated > self._length:
            raise damaged(
                f"an extent of {name!r} ends at byte {position + allocated} of a partition of {self._length} bytes"
            )
        if allocated:
            self.runs.append((position, position + allocated, name))
        return start, length, -1 if "uninited" in value else position


def check_name(name: str) -> None:
    """ImageError unless `name` can be a directory entry."""
    if len(name) > MAX_NAME:
        raise damaged(f"a file's name is longer than {MAX_NAME} characters: {name[:40]!r}…")
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise damaged(f"a file is named {name!r}")


def _number(value: Raw, what: str, name: str) -> int:
    """A number, which ops writes as decimals and the kernel and mkfs as an integer. `what` is of the file `name`."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
        if value <= MAX_NUMBER:
            return value
    if not isinstance(value, int) or not 0 <= value <= MAX_NUMBER:
        shown = value if isinstance(value, int | str) else type(value).__name__
        raise damaged(f"{what.format(name)} is not a number from 0 to {MAX_NUMBER}: {str(shown)[:40]!r}")
    return value


def _check_attributes(attributes: dict[str, Value]) -> None:
    """ImageError when a tuple or vector is used twice: whoever walks the values must come to an end soon."""
    seen: set[int] = set()
    pending: list[tuple[dict[str, Value] | list[Value], int]] = [(attributes, 0)]
    while pending:
        value, depth = pending.pop()
        if id(value) in seen:
            raise damaged("a value of the root tuple is used in two places")
        if depth > _MAX_ATTRIBUTE_DEPTH:
            raise damaged(f"values of the root tuple are nested deeper than {_MAX_ATTRIBUTE_DEPTH}")
        seen.add(id(value))
        for item in value.values() if isinstance(value, dict) else value:
            if item and isinstance(item, dict | list):  # sharing empty ones does no harm
                pending.append((item, depth + 1))


def _vectors(value: Value) -> Value:
    """`value` with tuples keyed "0", "1", … as vectors, which is how version 4 spells them."""
    if not isinstance(value, dict):
        return value
    items = {name: _vectors(item) for name, item in value.items()}
    if items and all(str(position) in items for position in range(len(items))):
        return [items[str(position)] for position in range(len(items))]
    return items
