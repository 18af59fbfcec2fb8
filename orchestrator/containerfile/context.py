"""The build context: one deterministic tar of everything that the Containerfile copies."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from orchestrator.containerfile.links import LINKS, climbs
from orchestrator.containerfile.members import Member, content_of, status_of, unreadable
from orchestrator.containerfile.order import MTIME, TimeOrder, order_of
from orchestrator.containerfile.tree import HostTree, ListedTree, list_tree
from orchestrator.errors import UsageError
from orchestrator.events import Emit, Notice, ignore
from orchestrator.files import GuardedTree
from orchestrator.tar_stream import TAR_END, member_chunks

__all__ = ["CONTAINERFILE", "MANIFEST", "MTIME", "ORDER", "BuildContext", "Content", "HostFile", "HostTree", "Part"]

ORDER = "scripts/step/orchestrator/order"
"""Where the context names the order of its sources' times, which the engine's cache must know: see `order`."""
CONTAINERFILE = "Containerfile"
MANIFEST = "manifest.json"
"""Where it has what the guest is told."""
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, kw_only=True)
class Content:
    """A file of the context with the bytes given (a script, a manifest). `path` is relative, with '/'."""

    path: str
    data: bytes
    executable: bool = False


@dataclass(frozen=True, kw_only=True)
class HostFile:
    """A file of the context, copied from `source` on this host. `executable` None: as the host's file is."""

    path: str
    source: Path
    executable: bool | None = None


Part = Content | HostFile | HostTree | ListedTree
ContextLine = tuple[str, str]
"""A member's path, and its kind with its SHA-256 or a link's target."""


def digest_of(lines: Iterable[ContextLine]) -> str:
    """SHA-256 (hex) of a context's lines."""
    whole = hashlib.sha256()
    for path, line in lines:
        whole.update(f"{path}\0{line}\0".encode(errors="surrogateescape"))
    return whole.hexdigest()


def with_text(lines: Iterable[ContextLine], path: str, text: str) -> list[ContextLine]:
    """The lines of a context in which the file `path` has another text."""
    changed = f"f {hashlib.sha256(text.encode()).hexdigest()}"
    return [(name, changed if name == path else line) for name, line in lines]


@dataclass(kw_only=True)
class BuildContext:
    """A build context made of `parts`; a later part replaces an earlier one's file of the same path.

    What it holds is listed once; files are read by each method, but for the digest, which is that of the last stream,
    if there was a whole one. Errors: UsageError for a file that can't be read, or that changes while it is read, and
    for an ignore file that can't be parsed. `caches` are the host paths of what was left out as a cache. `with_ours`:
    files of ours say what a context can't hold: `ORDER`, and `LINKS`.
    """

    parts: Sequence[Part]
    emit: Emit = ignore
    with_ours: bool = True
    caches: set[Path] = field(default_factory=set)
    # Not of what `replace` makes of it: that has other parts.
    _said: set[str] = field(default_factory=set, init=False)
    _listed: list[Member] | None = field(default=None, init=False)
    _streamed: list[ContextLine] | None = field(default=None, init=False)

    def stream(self) -> Iterator[bytes]:
        """The tar's chunks: sorted, owner 0, modes 0644/0755, no time of the host. Never a whole file in memory."""
        yield from self.stream_members(self.in_order())

    def stream_members(self, members: Iterable[Member]) -> Iterator[bytes]:
        """The chunks of the tar; what the digest needs is kept once they have all been taken."""
        self._streamed, hashes = None, dict[str, str]()
        for member in members:
            content = hashlib.sha256()
            yield from _tar_member(member, content)
            hashes[member.path] = content.hexdigest()
        self.keep_hashes(hashes)
        yield TAR_END

    def keep_hashes(self, hashes: Mapping[str, str]) -> None:
        """Take SHA-256 (hex) by path as those of what was sent: the digest is of them."""
        self._streamed = [_line(member, hashes.get(member.path, "")) for member in self.members()]

    def digest(self) -> str:
        """SHA-256 (hex) over the sorted entries: what the receipt records.

        Of contents, names and modes: a checkout elsewhere, whose files have other times, has the same.
        """
        return digest_of(self.lines())

    def lines(self) -> list[ContextLine]:
        """What the digest is of. Reads every file, unless they have just been streamed."""
        if self._streamed is not None:
            return self._streamed
        lines = []
        for member in self.members():
            content = hashlib.sha256()
            for chunk in content_of(member)[1] if member.kind == "file" else ():
                content.update(chunk)
            lines.append(_line(member, content.hexdigest()))
        return lines

    def write_to(self, directory: Path) -> None:
        """Write the context as files under `directory` (made if missing; its files of the same names replaced)."""
        members = self.in_order()
        with GuardedTree(directory) as tree:
            for member in members:
                path = PurePosixPath(member.path)
                there = tree.kind_of(path)
                if there == "directory" and member.kind != "dir":
                    raise UsageError(f"{directory / path} is a directory", remedy="give another output directory")
                if there not in ("", "directory"):
                    tree.remove(path)
                if member.kind == "dir":
                    tree.make_directory(path)
                elif member.kind == "link":
                    tree.make_symlink(path, member.target)
                else:
                    with tree.create_file(path, 0o755 if member.executable else 0o644) as sink:
                        for chunk in content_of(member)[1]:
                            sink.write(chunk)
        for member in reversed(members):  # a directory after what is in it
            os.utime(directory / member.path, (member.mtime, member.mtime), follow_symlinks=False)

    def members(self) -> list[Member]:
        """Every member, parents first, sorted by path; the order of their times is left aside."""
        if self._listed is None:
            self._listed = self._list()
        return self._listed

    def _list(self) -> list[Member]:
        members: dict[str, Member] = {}
        links: dict[str, Member] = {}
        self.caches.clear()
        for part in self.parts:
            for member in self._of(part):
                if (tree := _sources(part)) is not None and climbs(member):
                    path = member.path.removeprefix(f"{tree.prefix}/")
                    links[path] = replace(member, path=path)
                else:
                    self._add(members, member)
        if links and not self.with_ours:
            self._say(f"left out of the build context, because they lead out of it: {', '.join(sorted(links))}")
        elif links:
            self._add(members, Member(path=LINKS, kind="file", data=_tar(_sorted(links))))
        return _sorted(members)

    def order_key(self) -> str:
        """What build tools can tell of how old the sources are; see `TimeOrder.key`."""
        return _order(self.members()).key

    def in_order(self) -> list[Member]:
        """The members with their times, and the file that names the order of the sources' ones."""
        members = {member.path: member for member in self.members()}
        if not any(map(_sources, self.parts)):
            return list(members.values())
        order = _order(members.values())
        members |= {path: replace(members[path], mtime=time) for path, time in order.times.items()}
        if not self.with_ours:
            return _sorted(members)
        self._add(members, Member(path=ORDER, kind="file", data=f"{order.key}\n".encode()))
        return _sorted(members)

    def _add(self, members: dict[str, Member], member: Member) -> None:
        for parent in reversed(PurePosixPath(member.path).parents[:-1]):
            above = members.setdefault(str(parent), Member(path=str(parent), kind="dir"))
            if above.kind != "dir":
                raise ValueError(f"{member.path} lies below {above.path}, which is not a directory")
        known = members.get(member.path)
        if known is not None and (known.kind == "dir") != (member.kind == "dir"):
            raise ValueError(f"{member.path} is both a directory and a file of the context")
        members[member.path] = member

    def _of(self, part: Part) -> Iterator[Member]:
        if isinstance(part, Content):
            yield Member(path=part.path, kind="file", executable=part.executable, data=part.data)
        elif isinstance(part, HostFile):
            executable = bool(status_of(part.source).st_mode & 0o111) if part.executable is None else part.executable
            yield Member(path=part.path, kind="file", executable=executable, source=part.source)
        else:
            listed = list_tree(part) if isinstance(part, HostTree) else part
            for text in listed.said:
                self._say(text)
            yield from listed.members
            self.caches |= set(listed.caches)

    def _say(self, text: str) -> None:
        """Once, however often the host is read."""
        if text not in self._said:
            self._said.add(text)
            self.emit(Notice(text=text))


class ContextListing:
    """A context's members in the order of the tar, listed once. `size`: about how many bytes the tar has (names that
    need a header of their own are not counted). For engines that take the members and not the tar: see
    `engine.base.ContextFiles`.
    """

    def __init__(self, context: BuildContext) -> None:
        self._context = context
        self._members = context.in_order()
        self._contents: dict[str, tuple[int, str]] | None = None
        self.size = sum(_BLOCK + -(-member.size // _BLOCK) * _BLOCK for member in self._members) + len(TAR_END)

    def stream(self) -> Iterator[bytes]:
        """The chunks of the tar."""
        return self._context.stream_members(self._members)

    def members(self) -> Sequence[Member]:
        """All of them, parents first, sorted by the parts of their paths."""
        return self._members

    def contents(self) -> Mapping[str, tuple[int, str]]:
        """Size in bytes and SHA-256 (hex) of each file, by path; reads them all the first time."""
        if self._contents is None:
            self._contents = {member.path: _sized_hash(member) for member in self._members if member.kind == "file"}
            self._context.keep_hashes({path: digest for path, (_size, digest) in self._contents.items()})
        return self._contents

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file as it is now."""
        return content_of(self._by_path[path])[1]

    @cached_property
    def _by_path(self) -> Mapping[str, Member]:
        return {member.path: member for member in self._members}


def _sized_hash(member: Member) -> tuple[int, str]:
    size, chunks = content_of(member)
    content = hashlib.sha256()
    for chunk in chunks:
        content.update(chunk)
    return size, content.hexdigest()


def _sources(part: Part) -> HostTree | None:
    """A part that is the user's own sources."""
    tree = part.tree if isinstance(part, ListedTree) else part
    return tree if isinstance(tree, HostTree) and tree.sources else None


def _line(member: Member, digest: str) -> ContextLine:
    """`digest` is of a file's content."""
    if member.kind == "link":
        return member.path, f"l {member.target}"
    return member.path, f"{'x' if member.executable else 'f'} {digest}" if member.kind == "file" else "d"


def _sorted(members: dict[str, Member]) -> list[Member]:
    return [members[path] for path in sorted(members, key=lambda path: path.split("/"))]


def _order(members: Iterable[Member]) -> TimeOrder:
    try:
        return order_of((member.path, member.source) for member in members if member.aged and member.source is not None)
    except OSError as error:
        raise unreadable(Path(error.filename), error) from error


def _tar(members: Iterable[Member]) -> bytes:
    return b"".join(chunk for member in members for chunk in _tar_member(member, hashlib.sha256())) + TAR_END


def _tar_member(member: Member, content: hashlib._Hash) -> Iterator[bytes]:
    """One member of the tar; `content` gets the bytes of a file."""
    info = tarfile.TarInfo(member.path)
    info.mtime = member.mtime
    if member.kind == "file":
        info.size, chunks = content_of(member)
        info.mode = 0o755 if member.executable else 0o644
    else:
        info.type = tarfile.DIRTYPE if member.kind == "dir" else tarfile.SYMTYPE
        info.linkname = member.target
        info.mode = 0o755 if member.kind == "dir" else 0o777
        chunks = iter(())
    yield from member_chunks(info, _hashed(chunks, content))


def _hashed(chunks: Iterator[bytes], content: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        content.update(chunk)
        yield chunk
