"""The receipts of what a fleet built, kept on its scheduler for who looks on: each with its bill of materials."""

from __future__ import annotations

import re
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from orchestrator.documents import DocumentError, parse_document, read_bounded
from orchestrator.events import Emit, Notice
from orchestrator.files import copy, make_directory, write_text
from orchestrator.fleet.messages import JobEnded, JobFile
from orchestrator.fleet.store import FleetStore
from orchestrator.receipt.read import SUFFIX
from orchestrator.receipt.receipt import FleetBuild, Receipt, receipt_text

KEPT: Final = 1000
"""Builds, the newest."""
_LARGEST_BILL: Final = 512 << 10
"""Bytes. A larger one stays in the store alone: the page lists no files then."""
_OURS: Final = re.compile(r"\d{15}-[0-9a-f]{12}")


class KeptReceipts:
    """A directory of theirs in `folder` for each build. What else is in `folder` is left alone."""

    def __init__(self, folder: Path, store: FleetStore, emit: Emit) -> None:
        self._folder, self._store, self._emit = folder, store, emit
        make_directory(folder, 0o700)
        self._builds = sorted(path.name for path in folder.iterdir() if _OURS.fullmatch(path.name))

    def keep(self, key: str, ended: JobEnded, scheduler: str) -> None:
        """Keep what a job gave. No failure of this is the job's. Takes a while; one at a time."""
        try:
            self._keep(key, ended, scheduler)
        except (OSError, DocumentError) as error:
            self._emit(Notice(text=f"a receipt of {ended.worker}'s is not kept: {error}", level="warning"))

    def _keep(self, key: str, ended: JobEnded, scheduler: str) -> None:
        file = next((file for file in ended.files if file.name.endswith(SUFFIX)), None)
        if file is None:
            return
        receipt = parse_document(Receipt, read_bounded(self._store.path(file.sha256)), newer=True)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        changes = {
            "fleet": FleetBuild(scheduler=scheduler, worker=ended.worker, key=key, at=at),
            "image": receipt.image.model_copy(update={"path": f"{receipt.name}.img"}),  # not the worker's directory
        }
        build = f"{int(time.time() * 1000):015}-{key[:12]}"
        make_directory(self._folder / build, 0o700)
        self._builds.append(build)
        if (bill := _bill(receipt, ended)) is not None:
            copy(self._store.path(bill.sha256), self._folder / build / bill.name)
        write_text(self._folder / build / file.name, receipt_text(receipt.model_copy(update=changes)))
        while len(self._builds) > KEPT:
            with suppress(OSError):
                shutil.rmtree(self._folder / self._builds.pop(0))


def _bill(receipt: Receipt, ended: JobEnded) -> JobFile | None:
    names = {row.file for row in receipt.attachments if row.kind == "sbom"}
    return next((file for file in ended.files if file.name in names and file.size <= _LARGEST_BILL), None)
