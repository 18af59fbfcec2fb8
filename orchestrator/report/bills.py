"""What is in the images, from the bills of materials beside their receipts: each list as its difference to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orchestrator.errors import UsageError
from orchestrator.provenance.billed import BilledPart, billed_parts
from orchestrator.provenance.limits import LARGEST
from orchestrator.report.receipts import ReadReceipt
from orchestrator.report.texts import Texts

MOST_BYTES: Final = 4 * LARGEST
"""Of all bills that are read."""
MOST_ROWS: Final = 150_000
"""Of all lists together: a hundred bytes of the page each, at most."""


class Bills:
    """The lists of parts of a page's builds. A list equal to an earlier one of its project is that one."""

    def __init__(self, texts: Texts) -> None:
        self.parts: list[list[int | None]] = []
        """Each file or package: 0 or 1, the numbers of its name and of its digest or version, a file's size."""
        self.lists: list[dict[str, int | list[int] | None]] = []
        """Each list: `base`, the number of another or null; which parts are in it and not there; and the reverse."""
        self._texts = texts
        self._numbers: dict[BilledPart, int] = {}
        self._by_digest: dict[tuple[str, str], int] = {}
        self._last: dict[str, tuple[int, frozenset[int]]] = {}
        self._left = MOST_ROWS
        self._bytes = MOST_BYTES

    def number(self, build: ReadReceipt) -> int | None:
        """The number of a build's list; None where there is none, or no room for it."""
        receipt = build.receipt
        digest = next((row.sha256 for row in receipt.attachments if row.kind == "sbom"), None)
        if digest is None:
            return None
        key = (receipt.name, digest)
        if key not in self._by_digest:
            parts = self._read(build)
            if parts is None or (number := self._add(receipt.name, parts)) is None:
                return None
            self._by_digest[key] = number
        return self._by_digest[key]

    def _read(self, build: ReadReceipt) -> list[BilledPart] | None:
        try:
            row = next(row for row in build.receipt.attachments if row.kind == "sbom")
            self._bytes -= build.path.with_name(row.file.rpartition("/")[2]).stat().st_size
            return None if self._bytes < 0 else billed_parts(build.receipt, build.path.parent)
        except (OSError, UsageError, ValueError):  # none there, or another build's
            return None

    def _add(self, name: str, parts: Sequence[BilledPart]) -> int | None:
        base, before = self._last.get(name, (None, frozenset()))
        if len(parts) > self._left + len(before):
            return None
        now = frozenset(map(self._part, parts))
        add, drop = sorted(now - before), sorted(before - now)
        self._left -= len(add) + len(drop)
        if self._left < 0:
            return None
        number = len(self.lists)
        self.lists.append({"base": base, "add": add, "drop": drop})
        self._last[name] = (number, now)
        return number

    def _part(self, part: BilledPart) -> int:
        if part not in self._numbers:
            self._numbers[part] = len(self.parts)
            says = part.says if part.kind == "package" else part.says[:16]
            self.parts.append(
                [int(part.kind == "package"), self._texts.number(part.name), self._texts.number(says), part.size]
            )
        return self._numbers[part]
