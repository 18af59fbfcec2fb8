"""The build context by BuildKit's file transfer: the daemon keeps what it received, and asks only for what differs.

It compares size, time, mode, owner and a link's target with what it has, never contents; and our times say which file
is older, not when it was written, so that a change of equal size would pass for the file it has. Therefore it is not
left to the daemon what to ask for. Each file that it is not known to hold as it is now (`sync_records`) carries a mode
bit that no file on a disk has, so it differs; and a transfer counts only when exactly those files were asked for.

The protocol is fsutil's: STAT packets of all members, sorted by the parts of their paths; REQ of the daemon for each
file it wants, by the number of its STAT; DATA; FIN from both. `Packet` is in buildkit.proto.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from orchestrator.engine.base import ContextFiles, ContextMember
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    import grpc

    from orchestrator.engine import buildkit_pb2 as messages

DIFF_COPY = "/moby.filesync.v1.FileSync/DiffCopy"
RESULT = "/moby.filesync.v1.FileSend/DiffCopy"
"""Where the daemon brings what a build with output `tar` makes."""
# Go's os.FileMode. TEMPORARY is of Plan 9: Linux has no such files, and neither chmod nor BuildKit's digest of a file
# takes it along (measured on Docker 20.10, 26 and 28).
DIRECTORY, LINK, TEMPORARY = 1 << 31, 1 << 27, 1 << 28
_IGNORE = ".dockerignore"
_NOTHING_IGNORED = b"# What is left out was decided before.\n"
_PIECE = 1 << 20  # gRPC's messages have 4 MiB at most
_NANOSECONDS = 10**9


def tokens(files: ContextFiles) -> dict[str, str]:
    """What a daemon holds once it has `files`: of each path something that is the same for the same member only."""
    contents = files.contents()
    return {
        member.path: f"{member.kind} {member.mtime} {member.executable:d} {member.target} {contents.get(member.path)}"
        for member in files.members()
    }


class ContextTransfer:
    """One transfer of `files` to a daemon that is known to lack those of the paths `missing`, and no others.

    `settle`: also set the times of directories, which a transfer of what is in them leaves at the time of the transfer.
    `definition` is the path and the text of the Containerfile that the daemon reads. `progress` is told of each
    piece how many bytes it had.

    After it: `complete`, the daemon has `files` as they are; `differed`, it lacked other ones. `error`:
    what went wrong here.
    """

    def __init__(
        self,
        files: ContextFiles,
        missing: Collection[str],
        definition: tuple[str, bytes],
        *,
        settle: bool = False,
        progress: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self.complete = self.differed = False
        self.error: UsageError | None = None
        self._files = files
        self._definition = definition
        self._settle = settle
        self._progress = progress
        self._missing = missing
        self._begun = False

    def serve(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answer one call of DIFF_COPY: the definition, `.dockerignore`, or the context."""
        asked = [(str(key), value) for key, value in context.invocation_metadata()]
        paths = [value for key, value in asked if key == "followpaths"]
        if ("dir-name", "dockerfile") in asked:
            yield from _serve_texts(self._texts(), requests)
        elif paths == [_IGNORE]:
            # Alone in a copy of its own; it matters only where a step copies this very file.
            yield from _serve_texts(self._ignore_file(), requests)
        elif self._begun:
            self.differed = True  # a second copy in one build: it is not known which of them the next build finds
            yield _error("the context was asked for twice")
        else:
            self._begun = True
            yield from self._serve_context(requests)

    def _texts(self) -> Mapping[str, bytes]:
        """The definition, and an ignore file of its own, which keeps the daemon from reading the context's."""
        name, text = self._definition
        return {name: text, f"{name}.dockerignore": _NOTHING_IGNORED}

    def _ignore_file(self) -> Mapping[str, bytes]:
        if _IGNORE not in self._files.contents():
            return {}
        return {_IGNORE: b"".join(read_unchanged(self._files, _IGNORE))}

    def _serve_context(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        try:
            for member in self._files.members():
                yield self._stat(member)
            yield _end_of_stats()
            yield from self._answer(requests)
        except _DifferedError as error:
            self.differed = True
            yield _error(str(error))
        except UsageError as error:
            self.error = error
            yield _error(error.message)

    def _answer(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """The contents that are asked for, one after the other: the daemon reads on while it asks."""
        members, left = self._files.members(), set(self._missing)
        for packet in map(_parse, requests):
            if packet.type == _types().REQ:
                path = members[packet.id].path if packet.id < len(members) else ""
                if path not in left:
                    raise _DifferedError(f"{path} was asked for, which the engine had")
                left.remove(path)
                yield from self._content(packet.id, path)
            elif packet.type == _types().FIN:
                if left:
                    raise _DifferedError(f"{min(left)} was not asked for, which the engine did not have")
                self.complete = True
                yield _end()
                return
            else:
                return  # the daemon gives up, and says why in the build's reply

    def _content(self, number: int, path: str) -> Iterator[bytes]:
        for chunk in read_unchanged(self._files, path):
            for begin in range(0, len(chunk), _PIECE):
                yield _data(number, chunk[begin : begin + _PIECE])
            self._progress(len(chunk))
        yield _data(number)

    def _stat(self, member: ContextMember) -> bytes:
        mode, size = 0o755 if member.executable else 0o644, 0
        if member.kind == "dir":
            mode = DIRECTORY | 0o755 | (TEMPORARY if self._settle else 0)
        elif member.kind == "link":
            mode, size = LINK | 0o777, len(member.target.encode())
        else:
            mode |= TEMPORARY if member.path in self._missing else 0
            size = self._files.contents()[member.path][0]
        return _stat_packet(member.path, mode=mode, size=size, mtime=member.mtime, target=member.target)


class _DifferedError(Exception):
    """The daemon had other files than was known."""


def read_unchanged(files: ContextFiles, path: str) -> Iterator[bytes]:
    """The bytes of a file, which are those that `contents` is of. UsageError, at the end, where they are not."""
    whole = hashlib.sha256()
    for chunk in files.chunks(path):
        whole.update(chunk)
        yield chunk
    if whole.hexdigest() != files.contents()[path][1]:
        raise UsageError(
            f"{path} of the build context changed while it was sent",
            remedy="build again when nothing writes there, or list it in .dockerignore",
        )


def take_result(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
    """Answer one call of RESULT: nobody needs it."""
    for _ in requests:
        pass
    yield from ()


def can_sync(files: ContextFiles) -> bool:
    """Whether all names are UTF-8: newer daemons take no others in a packet."""
    try:
        for member in files.members():
            f"{member.path}{member.target}".encode()
    except UnicodeEncodeError:
        return False
    return True


def _serve_texts(texts: Mapping[str, bytes], requests: Iterator[bytes]) -> Iterator[bytes]:
    """Send some small files whatever the daemon has of them."""
    rows = _with_parents(texts)
    for path in rows:
        text = texts.get(path)
        mode = DIRECTORY | 0o755 if text is None else 0o644 | TEMPORARY
        yield _stat_packet(path, mode=mode, size=len(text or b""), mtime=0)
    yield _end_of_stats()
    for packet in map(_parse, requests):
        if packet.type == _types().REQ:
            if text := texts[rows[packet.id]]:
                yield _data(packet.id, text)
            yield _data(packet.id)
        else:
            yield _end()
            return


def _with_parents(paths: Iterable[str]) -> Sequence[str]:
    every = {str(part) for path in paths for part in (PurePosixPath(path), *PurePosixPath(path).parents)} - {"."}
    return sorted(every, key=lambda path: path.split("/"))


def _types() -> type[messages.Packet]:
    from orchestrator.engine import buildkit_pb2  # late: only BuildKit's builds need protobuf

    return buildkit_pb2.Packet


def _data(number: int, data: bytes = b"") -> bytes:
    """A piece of a file; without `data`: it has ended."""
    return _types()(type=_types().DATA, id=number, data=data).SerializeToString()


def _end_of_stats() -> bytes:
    return _types()(type=_types().STAT).SerializeToString()


def _end() -> bytes:
    return _types()(type=_types().FIN).SerializeToString()


def _parse(data: bytes) -> messages.Packet:
    return _types().FromString(data)


def _error(text: str) -> bytes:
    return _types()(type=_types().ERR, data=text.encode(errors="replace")).SerializeToString()


def _stat_packet(path: str, *, mode: int, size: int, mtime: int, target: str = "") -> bytes:
    from orchestrator.engine.buildkit_pb2 import Packet, Stat

    stat = Stat(path=path.encode(), mode=mode, size=size, mod_time=mtime * _NANOSECONDS, linkname=target.encode())
    return Packet(type=Packet.STAT, stat=stat).SerializeToString()
