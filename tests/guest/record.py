"""What was recorded of the last conformance run: answers, counts, and the section of docs/guest.md."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

from orchestrator.digest import file_digests
from orchestrator.files import write_text
from orchestrator.run.qemu.accelerator import choose
from tests.guest.page import write_section

HERE = Path(__file__).parent
UNEXPLAINED = "not explained yet"
_FILE = HERE / "recorded.json"


@dataclass(frozen=True, kw_only=True)
class Where:
    """The kernel (its file's sha256, and the commit it tells), QEMU, and the day."""

    kernel: str
    qemu: str
    date: str

    @property
    def lines(self) -> list[str]:
        """For the head of a file."""
        return [self.kernel, self.qemu, self.date]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The rows of a probe, or of the programs. `differ` names those that don't agree."""

    rows: int
    agree: int
    differ: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The last recorded run."""

    where: Where | None = None
    groups: Mapping[str, Group] = field(default_factory=dict)

    def write(self) -> None:
        """Into recorded.json and docs/guest.md."""
        where_ = asdict(self.where) if self.where else None
        document = {"where": where_, "groups": {name: asdict(group) for name, group in self.groups.items()}}
        write_text(_FILE, json.dumps(document, indent=2) + "\n")
        write_section("conformance", self.markdown())

    def markdown(self) -> str:
        """The section of docs/guest.md between its markers."""
        assert self.where is not None
        lines = [f"{self.where.kernel}; {self.where.qemu}; {self.where.date}.", ""]
        lines += ["| asked | rows | agree | differ |", "|---|---|---|---|"]
        for name, group in self.groups.items():
            lines.append(f"| {name} | {group.rows} | {group.agree} | {len(group.differ)} |")
        for name, group in self.groups.items():
            if group.note:
                lines += ["", f"{name}: {group.note}."]
            if group.differ:
                lines += ["", f"Rows of {name} that differ, and why:", "", "| row | why |", "|---|---|"]
                lines += [f"| {row} | {why} |" for row, why in _explained(name, group.differ)]
        return "\n".join(lines) + "\n"


def _explained(name: str, rows: tuple[str, ...]) -> list[tuple[str, str]]:
    """Rows with one reason in one line."""
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        by_reason.setdefault(reason(name, row), []).append(row)
    return [(", ".join(f"`{row}`" for row in pair), why) for why, pair in by_reason.items()]


def where(nanos: Path, accel: str) -> Where:
    """The kernel in `nanos`, this machine's QEMU, today."""
    qemu = "qemu-system-x86_64"
    version = subprocess.run([qemu, "--version"], capture_output=True, text=True).stdout.split("(")[0].split()[-1]
    return Where(
        kernel=f"Nanos 0.1.51, kernel.img sha256 {file_digests(nanos / 'kernel.img').sha256}",
        qemu=f"QEMU {version} ({choose(qemu, accel).name})",
        date=datetime.now(UTC).date().isoformat(),
    )


def answers_file(probe: str) -> Path:
    """The real kernel's answers to a probe."""
    return HERE / f"nanos-0.1.51.{probe}.txt"


def read_record() -> Record:
    """The last recorded run; nothing, where there is none."""
    if not _FILE.exists():
        return Record()
    document = json.loads(_FILE.read_text())
    groups = {name: Group(**{**pair, "differ": tuple(pair["differ"])}) for name, pair in document["groups"].items()}
    return Record(where=Where(**document["where"]) if document["where"] else None, groups=groups)


def reason(group: str, row: str) -> str:
    """Why a row differs: the first line of reasons.txt that names it."""
    for line in (HERE / "reasons.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            where_, pattern, why = line.split(None, 2)
            if where_ in (group, "*") and fnmatch(row.replace(" ", "_"), pattern):
                return why
    return UNEXPLAINED
