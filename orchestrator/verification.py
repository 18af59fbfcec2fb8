"""What `verify` says about an image: checks, each with what it found; stand-ins; whether it would boot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import Finding


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check. `id` and the codes of its findings are stable; `detail` is a few words on what was looked at.

    A check that could not be made (something before it failed) is not ok; its detail says so.
    """

    id: str
    title: str
    ok: bool
    findings: tuple[Finding, ...] = ()
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "id": self.id,
            "title": self.title,
            "ok": self.ok,
            "detail": self.detail,
            "findings": [
                {"severity": str(f.severity), "code": f.code, "message": f.message, "remedy": f.remedy}
                for f in self.findings
            ],
        }


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A packed file that only stands in for the real one: its path, and what it says of itself.

    The path is a guest path, or `boot:` and a path in the boot file system.
    """

    path: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """JSON-able."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedFile:
    """One file of an image. `path` is a guest path, or `boot:` and a path of what starts the machine; `size` is bytes.

    `role` is program, kernel, klib or "". `stand_in` is what the file says of itself if it only stands in for
    the real one.
    """

    path: str
    size: int
    sha256: str
    role: str = ""
    stand_in: str = ""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """All checks of one image of `size` bytes.

    `bootable`: a machine would start it as a program (a real kernel, and a boot sector or a UEFI loader). `files` are
    all that it holds, sorted by path, where they were asked for and it could be read.
    """

    image: Path
    size: int
    checks: tuple[Check, ...]
    stand_ins: tuple[StandIn, ...] = ()
    bootable: bool = False
    files: tuple[PackedFile, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every check holds. Warnings don't count against it."""
        return all(check.ok for check in self.checks)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all checks, in their order."""
        return tuple(finding for check in self.checks for finding in check.findings)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "image": str(self.image),
            "size": self.size,
            "ok": self.ok,
            "bootable": self.bootable,
            "checks": [check.to_dict() for check in self.checks],
            "stand_ins": [stand_in.to_dict() for stand_in in self.stand_ins],
        }
