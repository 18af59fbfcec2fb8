"""What goes wrong, in the words a user reads: message, remedy, exit code. Only the CLI exits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """Exit codes of every command (what Makefiles and runners rely on; README)."""

    OK = 0
    USAGE = 2
    ENGINE = 3
    INPUT = 4
    BUILD_STEP = 5
    VERIFICATION = 6
    PROGRAM = 7
    INTERRUPTED = 130


class Severity(StrEnum):
    """How much a finding matters: an error stops, a warning is shown, a note explains."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing found wrong (or worth saying) about a file, an image or a machine.

    `code` is a stable kebab-case name for scripts; `file`, `line` (1-based) and `field` (dotted path, as
    `build.secrets[0].id`) say where, as far as that is known.
    """

    severity: Severity
    code: str
    message: str
    remedy: str = ""
    file: str | None = None
    line: int | None = None
    field: str | None = None

    def __str__(self) -> str:
        """`project.yaml:LINE: field: what is wrong; what to do`."""
        where = ""
        if self.file:
            where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        field = f"{self.field}: " if self.field else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{where}{field}{self.message}{remedy}"


OUTSIDE = "outside"
"""Code of notes about what a project takes from this machine: no command that takes it keeps them to itself."""


def error(code: str, message: str, remedy: str = "") -> Finding:
    """A finding that fails its check."""
    return Finding(severity=Severity.ERROR, code=code, message=message, remedy=remedy)


def warning(code: str, message: str, remedy: str = "") -> Finding:
    """A finding that is shown, and fails nothing."""
    return Finding(severity=Severity.WARNING, code=code, message=message, remedy=remedy)


def note(code: str, message: str) -> Finding:
    """A finding that explains."""
    return Finding(severity=Severity.NOTE, code=code, message=message)


class OrchestratorError(Exception):
    """A failure the user can act on. `remedy` says what to do; `exit_code` is what the command exits with.

    `findings` replace the message where there are several or their place in a file is known; `detail` is text to
    show before either (the last lines of a failed step). `said` is what another program said, word for word, for
    whoever must look for a reason in it: nobody reads our own words for that.
    """

    exit_code = ExitCode.BUILD_STEP

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        findings: Sequence[Finding] = (),
        detail: str = "",
        said: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.findings = tuple(findings)
        self.detail = detail
        self.said = said


class UsageError(OrchestratorError):
    """project.yaml, the manifest or the command line is wrong (2). Nothing has been changed."""

    exit_code = ExitCode.USAGE


class EngineError(OrchestratorError):
    """No container engine answers, or the one that does can't be used (3)."""

    exit_code = ExitCode.ENGINE


class InputError(OrchestratorError):
    """An outside input could not be had, or did not match its pin (4)."""

    exit_code = ExitCode.INPUT


class PullError(InputError):
    """An image can't be pulled; `reason` is why, without the image's name."""

    def __init__(self, reference: str, reason: str, *, remedy: str, detail: str = "") -> None:
        super().__init__(f"failed to pull {reference}: {reason}", remedy=remedy, detail=detail)
        self.reason = reason


class BuildStepError(OrchestratorError):
    """A step of the build failed (5)."""

    exit_code = ExitCode.BUILD_STEP


class VerificationError(OrchestratorError):
    """The image does not hold what was promised (6)."""

    exit_code = ExitCode.VERIFICATION


class ProgramError(OrchestratorError):
    """A program that was rehearsed or booted failed (7)."""

    exit_code = ExitCode.PROGRAM
