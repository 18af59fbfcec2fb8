"""The decoded tree of a Nanos file system: what `inspect` shows, `verify` checks and the writer is given.

This package is the standard library only, so that a stand-in tool can carry it into a container.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """A run of a file's bytes: file offset and length in bytes, position in bytes from the partition's start.

    `position` is None for a run that reads as zeros (key `uninited`, or a gap)."""

    offset: int
    length: int
    position: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A regular file of `size` bytes."""

    size: int
    extents: tuple[Extent, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Symlink:
    """A symbolic link; `target` is verbatim."""

    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Directory:
    """A directory; iteration order of `children` is the image's own."""

    children: dict[str, Node] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Special:
    """A node that is neither file, link nor directory (`kind`: socket, …). Found only in images that ran."""

    kind: str


Node = File | Symlink | Directory | Special
