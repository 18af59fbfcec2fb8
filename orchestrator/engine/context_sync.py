"""Bringing a build's context to a daemon that keeps it, before the build: only what differs travels.

A build of one COPY comes first, which leaves everything in the daemon. Then nothing is missing any more when the build
itself asks for its context; the times of directories, which the first one left at its own, are put right. And a daemon
that turns out to have something else than was known is found out before any step of the user's has begun: it asks for
other files, be it only for the last transfer's mark (`sync_records`).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from orchestrator.engine.base import BuildRequest, ContextFiles, ContextMember
from orchestrator.engine.build import CONTEXT_STEP
from orchestrator.engine.file_sync import ContextTransfer, can_sync, read_unchanged, tokens
from orchestrator.engine.session import Attachables, SessionRefusedError
from orchestrator.engine.sync_records import KeptContext, kept_context
from orchestrator.errors import OrchestratorError
from orchestrator.events import Emit, StepFinished, StepProgress, StepStarted

FROM_SESSION = {"remote": "client-session"}
"""The parameter of a build whose context comes through its session."""
# Not "cacheonly", which makes no image either, but fails from Docker 23 on (measured on 26.1).
_NO_IMAGE = {"outputs": json.dumps([{"Type": "tar", "Attrs": {}}])}
_PLAIN = re.compile(r"[\w./-]+", re.ASCII)
SMALLEST, SMALLEST_MEMBER = 16 << 20, 8 << 10
"""Bytes of a context, and on average of each member of it, below which a tar is faster: measured, see docs/engines.md.
Not where they travel far (`SMALLEST_MEMBER_FAR`)."""
SMALLEST_MEMBER_FAR = 1 << 10

MARK = ".orchestrator-transfer-"
"""How the names of marks begin, beside all that a step copies."""

Run = Callable[[Attachables, dict[str, str]], object]


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A BuildKit daemon. `identity` tells it from others; `run` runs a build with these attachables and parameters."""

    identity: str
    remote: bool
    run: Run


@contextmanager
def synced(request: BuildRequest, daemon: Daemon, emit: Emit) -> Iterator[Attachables | None]:
    """The daemon has the request's context: attachables for its build, with nothing else in them. None: the tar is to
    be sent. Errors: those of the context, and of the build that brings it.

    The first build of a place sends the tar, which takes half the time: it may be the only one, as in CI.
    """
    files = request.files
    if files is None or not request.place or not _is_worth_it(request, files, remote=daemon.remote):
        yield None
        return
    with kept_context(daemon.identity, request.place) as kept:
        if kept is None or kept.first or not _bring(request, tokens(files), kept, daemon.run, emit):
            yield None
            return
        text = b"".join(read_unchanged(files, request.containerfile))
        marked = MarkedFiles(files, (kept.mark,))
        transfer = ContextTransfer(marked, (), (request.containerfile, text), settle=not kept.settled)
        try:
            yield Attachables(context=transfer, key=kept.key)
        finally:
            if transfer.differed:
                with suppress(OSError):
                    kept.forget()
            elif transfer.complete and not kept.settled:
                kept.keep(kept.held, kept.mark, settled=True)


def _is_worth_it(request: BuildRequest, files: ContextFiles, *, remote: bool) -> bool:
    average = SMALLEST_MEMBER_FAR if remote else SMALLEST_MEMBER
    if request.context_size < max(SMALLEST, average * len(files.members())):
        return False
    return _PLAIN.fullmatch(request.containerfile) is not None and can_sync(files)


def _bring(request: BuildRequest, now: Mapping[str, str], kept: KeptContext, run: Run, emit: Emit) -> bool:
    """Whether the daemon has it all now, under `kept.key`. Tried twice: with a new key where it had something else."""
    began, progress = time.monotonic(), SentBytes(emit)
    emit(StepStarted(id=CONTEXT_STEP, stage="context", title="send the build context"))
    error = "not sent whole"
    try:
        brought = any(_bring_once(request, now, kept, run, progress) for _ in range(2))
        emit(StepProgress(id=CONTEXT_STEP, done=progress.sent, total=progress.sent))
        error = "" if brought else "the engine does not keep it"
    finally:
        emit(StepFinished(id=CONTEXT_STEP, seconds=time.monotonic() - began, error=error))
    return brought


def _bring_once(
    request: BuildRequest, now: Mapping[str, str], kept: KeptContext, run: Run, progress: SentBytes
) -> bool:
    assert request.files is not None
    contents = request.files.contents()
    missing = {path for path in contents if kept.held.get(path) != now[path]}
    progress.total = sum(contents[path][0] for path in missing)
    mark = secrets.token_hex(16)
    marked = MarkedFiles(request.files, (kept.mark, mark) if kept.mark else (mark,))
    definition = request.containerfile, f'FROM scratch\nCOPY ["{request.containerfile}", "/"]\n'.encode()
    transfer = ContextTransfer(marked, missing | {MARK + mark}, definition, progress=progress)
    changed = kept.held != now
    try:
        if changed:
            kept.forget()
    except OSError:  # then it could not be known either what the daemon has
        return False
    try:
        run(Attachables(context=transfer, key=kept.key), FROM_SESSION | _NO_IMAGE)
    except SessionRefusedError:
        return False
    except OrchestratorError as error:
        if transfer.error is not None:
            raise transfer.error from error
        if not transfer.differed:
            raise
    if transfer.complete:
        kept.keep(now, mark, settled=kept.settled and not changed)
    else:
        kept.renew()
    return transfer.complete


@dataclass(frozen=True)
class _Mark:
    path: str
    kind: str = "file"
    executable: bool = False
    target: str = ""
    mtime: int = 0


class MarkedFiles:
    """A build context with an empty file for each of `marks` in its uppermost directory."""

    def __init__(self, files: ContextFiles, marks: Sequence[str]) -> None:
        self._files = files
        self._marks = {MARK + mark: (0, hashlib.sha256().hexdigest()) for mark in marks}
        self._members = sorted([*files.members(), *map(_Mark, self._marks)], key=lambda member: member.path.split("/"))
        self._contents = {**files.contents(), **self._marks}

    def members(self) -> Sequence[ContextMember]:
        """All of them, sorted by the parts of their paths."""
        return self._members

    def contents(self) -> Mapping[str, tuple[int, str]]:
        """Size and SHA-256 of each file."""
        return self._contents

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file."""
        return iter(()) if path in self._marks else self._files.chunks(path)


class SentBytes:
    """Tells of bytes sent, five times a second at most: a terminal can't show more, and a log should not."""

    def __init__(self, emit: Emit) -> None:
        self.sent = self.total = 0
        self._emit, self._told = emit, 0.0

    def __call__(self, size: int) -> None:
        self.sent += size
        now = time.monotonic()
        if now - self._told > 0.2:
            self._told = now
            self._emit(StepProgress(id=CONTEXT_STEP, done=self.sent, total=max(self.total, self.sent)))
