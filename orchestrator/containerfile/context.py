"""The build context: one deterministic tar of everything that the Containerfile copies."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from orchestrator.containerfile.ignore import Rules, load_rules
from orchestrator.errors import UsageError
from orchestrator.events import Emit, Notice, ignore
from orchestrator.files import PARTIAL_PREFIX, PARTIAL_SUFFIX, Tree

# Engines cache COPY by content, names and modes, so owners and times must not differ from host to host. The time
# is not 0: zip-based tools refuse dates before 1980, and some build systems take 0 for "missing".
MTIME = 1_577_836_800  # 2020-01-01T00:00:00Z
CHUNK = 256 * 1024


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


@dataclass(frozen=True, kw_only=True)
class HostTree:
    """A directory of the host, placed under `prefix` ("" = the context's root).

    `ignore_file` honours .containerignore or .dockerignore in `source`; `exclude` are host paths (files or
    directories) left out whatever the rules say: the output directory, if it lies inside.
    """

    prefix: str
    source: Path
    ignore_file: bool = False
    exclude: tuple[Path, ...] = ()


Part = Content | HostFile | HostTree


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One tar member: a directory, a link (`target`), or a file of `data` or of `source`."""

    path: str
    kind: str  # "dir" | "link" | "file"
    executable: bool = False
    target: str = ""
    data: bytes | None = None
    source: Path | None = None


@dataclass(kw_only=True)
class BuildContext:
    """A build context made of `parts`; a later part replaces an earlier one's file of the same path.

    The host is read anew by each method. Errors: UsageError for a file that can't be read, or that changes
    while it is read, and for an ignore file that can't be parsed.
    """

    parts: Sequence[Part]
    emit: Emit = ignore
    _noticed: set[str] = field(default_factory=set)

    def stream(self) -> Iterator[bytes]:
        """The tar's chunks: sorted, owner 0, modes 0644/0755, one fixed time. Never a whole file in memory."""
        for member in self.members():
            yield from _tar_member(member)
        yield b"\0" * (2 * tarfile.BLOCKSIZE)

    def digest(self) -> str:
        """SHA-256 (hex) over the sorted entries: what the receipt records. Reads every file."""
        whole = hashlib.sha256()
        for member in self.members():
            line = "d"
            if member.kind == "link":
                line = f"l {member.target}"
            elif member.kind == "file":
                content = hashlib.sha256()
                for chunk in _content(member)[1]:
                    content.update(chunk)
                line = f"{'x' if member.executable else 'f'} {content.hexdigest()}"
            whole.update(f"{member.path}\0{line}\0".encode(errors="surrogateescape"))
        return whole.hexdigest()

    def write_to(self, directory: Path) -> None:
        """Write the context as files under `directory` (made if missing; its files of the same names replaced)."""
        with Tree(directory) as tree:
            for member in self.members():
                path = PurePosixPath(member.path)
                there = tree.kind(path)
                if there == "directory" and member.kind != "dir":
                    raise UsageError(f"{directory / path} is a directory", remedy="give another output directory")
                if there not in ("", "directory"):
                    tree.remove(path)
                if member.kind == "dir":
                    tree.directory(path)
                elif member.kind == "link":
                    tree.link(path, member.target)
                else:
                    with tree.file(path, 0o755 if member.executable else 0o644) as sink:
                        for chunk in _content(member)[1]:
                            sink.write(chunk)

    def members(self) -> list[_Member]:
        """Every member, parents first, sorted by path."""
        found: dict[str, _Member] = {}
        for part in self.parts:
            for member in self._of(part):
                self._add(found, member)
        return [found[path] for path in sorted(found, key=lambda path: path.split("/"))]

    def _add(self, found: dict[str, _Member], member: _Member) -> None:
        for parent in reversed(PurePosixPath(member.path).parents[:-1]):
            above = found.setdefault(str(parent), _Member(path=str(parent), kind="dir"))
            if above.kind != "dir":
                raise ValueError(f"{member.path} lies below {above.path}, which is no directory")
        known = found.get(member.path)
        if known is not None and (known.kind == "dir") != (member.kind == "dir"):
            raise ValueError(f"{member.path} is both a directory and a file of the context")
        found[member.path] = member

    def _of(self, part: Part) -> Iterator[_Member]:
        if isinstance(part, Content):
            yield _Member(path=part.path, kind="file", executable=part.executable, data=part.data)
        elif isinstance(part, HostFile):
            status = _status(part.source)
            executable = bool(status.st_mode & 0o111) if part.executable is None else part.executable
            yield _Member(path=part.path, kind="file", executable=executable, source=part.source)
        else:
            yield from self._of_tree(part)

    def _of_tree(self, tree: HostTree) -> Iterator[_Member]:
        rules = load_rules(tree.source)[0] if tree.ignore_file else Rules()
        excluded = {path.resolve() for path in tree.exclude}
        prefix = f"{tree.prefix.strip('/')}/" if tree.prefix.strip("/") else ""
        if prefix:
            yield _Member(path=prefix[:-1], kind="dir")
        top = tree.source.resolve()

        def visit(directory: Path, above: str) -> Iterator[_Member]:
            for entry in _scan(directory):
                name = above + entry.name
                path = directory / entry.name
                if path in excluded or _is_partial(entry.name):
                    continue
                ignored = rules.ignored(name)
                if entry.is_dir(follow_symlinks=False):
                    if not ignored:
                        yield _Member(path=prefix + name, kind="dir")
                    if not ignored or rules.may_keep_below(name):
                        yield from visit(path, name + "/")
                elif not ignored:
                    yield from self._leaf(prefix + name, path, entry)

        yield from visit(top, "")

    def _leaf(self, name: str, path: Path, entry: os.DirEntry[str]) -> Iterator[_Member]:
        if entry.is_symlink():
            yield _Member(path=name, kind="link", target=os.readlink(path))  # noqa: PTH115 (Path would tidy the target)
        elif entry.is_file(follow_symlinks=False):
            executable = bool(_status(path).st_mode & 0o111)
            yield _Member(path=name, kind="file", executable=executable, source=path)
        elif name not in self._noticed:
            self._noticed.add(name)
            self.emit(Notice(text=f"{path} is a socket, pipe or device; left out of the build context"))


def _is_partial(name: str) -> bool:
    return name.startswith(PARTIAL_PREFIX) and name.endswith(PARTIAL_SUFFIX)


def _scan(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(directory, error) from error


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{path} can't be read for the build context: {error.strerror}",
        remedy="make it readable, or name it in .dockerignore",
    )


def _changed(path: Path) -> UsageError:
    return UsageError(
        f"{path} changed while it was read for the build context",
        remedy="run the build when nothing writes there, or name it in .dockerignore",
    )


def _content(member: _Member) -> tuple[int, Iterator[bytes]]:
    """A file member's size and its chunks, which add up to that size."""
    if member.source is None:
        data = member.data or b""
        return len(data), iter([data])
    try:
        # O_NONBLOCK: were the file replaced by a pipe since the walk, open would wait for ever.
        descriptor = os.open(member.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(member.source, error) from error
    before = os.fstat(descriptor)
    return before.st_size, _chunks(member.source, os.fdopen(descriptor, "rb", buffering=0), before)


def _chunks(path: Path, stream: BinaryIO, before: os.stat_result) -> Iterator[bytes]:
    with stream:
        if not stat.S_ISREG(before.st_mode):
            raise _changed(path)
        left = before.st_size
        while left:
            try:
                chunk = stream.read(min(CHUNK, left))
            except OSError as error:
                raise _unreadable(path, error) from error
            if not chunk:
                raise _changed(path)
            left -= len(chunk)
            yield chunk
        # Grown, or written to in place: the bytes we gave may be of two versions.
        after = os.fstat(stream.fileno())
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise _changed(path)


def _tar_member(member: _Member) -> Iterator[bytes]:
    info = tarfile.TarInfo(member.path)
    info.mtime = MTIME
    if member.kind == "file":
        info.size, chunks = _content(member)
        info.mode = 0o755 if member.executable else 0o644
    else:
        info.type = tarfile.DIRTYPE if member.kind == "dir" else tarfile.SYMTYPE
        info.linkname = member.target
        info.mode = 0o755 if member.kind == "dir" else 0o777
        chunks = iter(())
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    yield from chunks
    if padding := -info.size % tarfile.BLOCKSIZE:
        yield b"\0" * padding
