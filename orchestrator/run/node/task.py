"""What a node gives a program, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from orchestrator.documents import Document, Many

WORKSPACE: Final = "/workspace"
"""Where the guest sees the files of its task."""


class Task(Document):
    """What the program is asked: its id, arguments, and files by their guest paths. Also the form of task.json."""

    id: str = "rehearsal"
    args: Many[str] = ()
    files: Many[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the file shim reads it."""
        return {"id": self.id, "args": list(self.args), "files": list(self.files)}


@dataclass(frozen=True, kw_only=True)
class ProgramResult:
    """What the program answered: its data and files (guest paths), or its error."""

    data: bytes = b""
    files: tuple[str, ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"data": self.data.decode(errors="replace"), "files": list(self.files), "error": self.error}
