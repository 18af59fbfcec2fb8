"""What daemons keep of our build contexts, as far as this machine knows: see `file_sync`.

A daemon keeps a context under a key that the client names. Ours is random, so nobody else writes there, and it belongs
to one user, daemon and project. A record says what the daemon has under it. It is taken away before anything is sent
and written again once everything has arrived, so a transfer that was cut leaves a key that is never used again.

The record, or the daemon's storage, may be put back as it was earlier, as CI systems do with caches and snapshots with
disks. So each transfer leaves a new mark in the daemon, a file of no other use: a record whose mark is not there is of
another time.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator import files
from orchestrator.documents import Document, DocumentError, parse_document, read_bounded
from orchestrator.user_paths import synced_contexts

_MAX = 256 << 20
_KEPT_FOR = 30 * 24 * 3600
"""Seconds after which a record of a project that is not built any more goes."""


class _Record(Document):
    key: str
    mark: str
    held: dict[str, str]
    settled: bool


class KeptContext:
    """What one daemon has of one project's context, under `key`, and the `mark` of the last transfer ("" = none).
    `settled`: its directories have their times. `first`: this is the first build of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.held: Mapping[str, str]
        self.renew()
        self.first = not path.exists()
        if self.first:
            with suppress(OSError):
                self.forget()
        with suppress(OSError, DocumentError):
            record = parse_document(_Record, read_bounded(path, _MAX), limit=_MAX)
            self.key, self.mark, self.held, self.settled = record.key, record.mark, record.held, record.settled

    def renew(self) -> None:
        """Another key, under which the daemon has nothing."""
        self.key, self.mark, self.settled = secrets.token_hex(16), "", False
        self.held = {}

    def forget(self) -> None:
        """Take the record away, before something is sent: whatever becomes of that, the key is not used again. OSError
        where nothing can be written."""
        files.write_text(self._path, "")

    def keep(self, held: Mapping[str, str], mark: str, *, settled: bool) -> None:
        """The daemon has this now."""
        self.held, self.mark, self.settled = held, mark, settled
        record = {"key": self.key, "mark": mark, "held": dict(held), "settled": settled}
        text = json.dumps(record, ensure_ascii=False)
        with suppress(OSError):
            files.write_text(self._path, text)


@contextmanager
def kept_context(engine: str, place: str) -> Iterator[KeptContext | None]:
    """What a daemon has of the context of `place`, for one build at a time; None while another one has it.

    Also None where nothing can be written: then nothing is known in the next build either.
    """
    folder = synced_contexts()
    name = hashlib.sha256(f"{engine}\0{place}".encode(errors="surrogateescape")).hexdigest()[:32]
    lock = files.FileLock(folder / f"{name[:3]}.lock")  # so many locks, and not one for each project
    try:
        files.make_directory(folder)
        held = lock.acquire(timeout=0)
    except OSError:
        held = False
    if not held:
        yield None
        return
    try:
        _remove_old(folder)
        yield KeptContext(folder / f"{name}.json")
    finally:
        lock.release()


def forget_all(*, dry_run: bool) -> list[Path]:
    """Remove the records of all daemons and projects, but for those that a build uses now; which they are."""
    forgotten: list[Path] = []
    for path in sorted(synced_contexts().glob("*.lock")):
        lock = files.FileLock(path)
        with suppress(OSError):
            if not lock.acquire(timeout=0):
                continue
            try:
                records = sorted(path.parent.glob(f"{path.stem}*.json"))
                for record in () if dry_run else records:
                    record.unlink(missing_ok=True)
                forgotten += records
            finally:
                lock.release()
            files.remove_unused(path, dry_run=dry_run)
    return forgotten


def _remove_old(folder: Path) -> None:
    with suppress(OSError):
        for path in folder.glob("*.json"):
            if time.time() - path.stat().st_mtime > _KEPT_FOR:
                path.unlink(missing_ok=True)
