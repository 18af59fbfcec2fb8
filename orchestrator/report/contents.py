"""What the page holds, as one JSON document (docs/report.md): builds by their time, and each text once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from orchestrator.receipt.changes import list_changes
from orchestrator.receipt.receipt import InputUsed, Receipt
from orchestrator.report.bills import Bills
from orchestrator.report.receipts import ReadReceipt, ReadReceipts
from orchestrator.report.texts import Texts

VERSION: Final = 1
_DIGEST: Final = 16
"""Characters of a digest by which two are told apart here."""
_LONGEST_NAME: Final = 80
_MOST_STEPS, _MOST_ROWS = 300, 100
_LARGEST: Final = 2**53
"""Up to which JavaScript's numbers are whole."""


def report_contents(read: ReadReceipts, now: datetime | None = None) -> dict[str, Any]:
    """The document, of JSON's types alone. Every text in it is `shown`, and stands in `texts` by its number."""
    contents = _Contents()
    for build in read.builds:
        contents.add(build)
    texts = contents.texts
    unread = [[texts.number(str(row.path)), texts.number(row.reason)] for row in read.unused[:1000]]
    return {
        "version": VERSION,
        "made": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        "builds": contents.builds,
        "inputs": contents.inputs,
        "steps": contents.steps,
        "parts": contents.bills.parts,
        "lists": contents.bills.lists,
        "unread": unread,
        "unreadCount": len(read.unused),
        "texts": texts.rows,
    }


def contents_text(contents: Mapping[str, Any]) -> str:
    """As JSON that may stand in HTML, whatever its texts are: without <, > and &."""
    text = json.dumps(contents, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


class _Contents:
    def __init__(self) -> None:
        self.texts = Texts()
        self.bills = Bills(self.texts)
        self.builds: list[dict[str, Any]] = []
        self.inputs: list[list[int]] = []
        self.steps: list[list[int]] = []
        self._numbers: dict[tuple[int, ...], int] = {}
        self._before: dict[str, Receipt] = {}

    def add(self, build: ReadReceipt) -> None:
        receipt = build.receipt
        before = self._before.get(receipt.name)
        self._before[receipt.name] = receipt.model_copy(update={"stages": (), "warnings": ()})
        changes = None if before is None else self._all(list_changes(before, receipt))
        self.builds.append(
            {
                "project": self.texts.number(receipt.name, _LONGEST_NAME),
                "at": int(build.at.timestamp() * 1000),
                "file": self.texts.number(str(build.path)),
                "copies": build.copies,
                "changes": changes,
                **self._made(receipt),
                **self._seen(receipt),
                "inputs": [self._input(row) for row in receipt.inputs[:_MOST_STEPS]],
                "stages": [[self._step(row.stage, row.step), _number(row.seconds), int(row.cached)]
                           for row in receipt.stages[:_MOST_STEPS]],
                "list": self.bills.number(build),
            }
        )  # fmt: skip

    def _made(self, receipt: Receipt) -> dict[str, Any]:
        number, engine, taken = self.texts.number, receipt.engine, receipt.taken
        kernel = receipt.kernel
        nanos = receipt.nanos_version or (f"{kernel.name} {kernel.version}" if kernel is not None else "")
        return {
            "image": number(receipt.image.path),
            "size": min(receipt.image.size, _LARGEST),
            "blake3": number(receipt.image.blake3),
            "sha256": number(receipt.image.sha256),
            "bootable": receipt.bootable,
            "runtime": receipt.runtime,
            "nanos": number(nanos),
            "packer": number(f"{receipt.packer} {receipt.ops_version or ''}".strip()),
            "engine": engine.kind,
            "engineVersion": number(f"{engine.version} ({engine.builder})"),
            "orchestrator": number(receipt.orchestrator),
            "context": number(receipt.context_sha256[:_DIGEST]),
            "manifest": number(receipt.manifest_sha256[:_DIGEST]),
            "containerfile": number(receipt.containerfile_sha256[:_DIGEST]),
            "resources": [receipt.resources.cpus, receipt.resources.memory, receipt.resources.gpus],
            "taken": number(taken.cache) if taken is not None else None,
        }

    def _seen(self, receipt: Receipt) -> dict[str, Any]:
        number, rebuild, smoke, rehearsal = self.texts.number, receipt.rebuild, receipt.smoke, receipt.rehearsal
        checks = receipt.verification.checks
        rows = [(check, row) for check in checks for row in check.findings if row.severity != "note"]
        return {
            "checks": len(checks),
            "findings": [[row.severity, number(check.title), number(row.message), number(row.remedy)]
                         for check, row in rows[:_MOST_ROWS]],
            "warnings": self._all(row.text for row in receipt.warnings[:_MOST_ROWS]),
            "standIns": self._all(f"{row.path}: {row.text}" for row in receipt.stand_ins[:_MOST_ROWS]),
            "rebuilt": None if rebuild is None else self._all(
                f"{name}: {how}" for name, how in list(rebuild.varied.items())[:_MOST_ROWS]
            ),
            "smoke": None if smoke is None else {
                "passed": smoke.passed, "how": number(smoke.accel), "reason": number(smoke.reason),
                "at": number(smoke.at), "seconds": _number(smoke.seconds),
            },
            "rehearsal": None if rehearsal is None else {
                "passed": rehearsal.passed, "how": number(rehearsal.engine), "reason": number(rehearsal.reason),
                "at": number(rehearsal.at), "seconds": _number(rehearsal.seconds),
                "peak": None if rehearsal.peak_memory is None else min(rehearsal.peak_memory, _LARGEST),
            },
        }  # fmt: skip

    def _all(self, lines: Iterable[str]) -> list[int]:
        return [self.texts.number(line) for line in lines][:_MOST_ROWS]

    def _input(self, row: InputUsed) -> int:
        pin = ", ".join(f"{key} {value}" for key, value in list(row.pin.items())[:_MOST_ROWS])
        texts = [self.texts.number(text) for text in (row.name, row.kind, row.source, pin, row.note or "")]
        return self._interned(self.inputs, texts)

    def _step(self, stage: str, step: str) -> int:
        return self._interned(self.steps, [self.texts.number(stage, 60), self.texts.number(step, 160)])

    def _interned(self, table: list[list[int]], row: list[int]) -> int:
        key = tuple(row)  # rows of the two tables differ in length
        if key not in self._numbers:
            self._numbers[key] = len(table)
            table.append(row)
        return self._numbers[key]


def _number(value: float) -> float:
    """A number that JSON has: a receipt's may be none, or without an end."""
    return round(max(min(value, 1e9), 0.0), 3) if math.isfinite(value) else 0.0
