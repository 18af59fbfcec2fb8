"""What peers of a fleet tell each other, as JSON: never code, never a pickle."""

from __future__ import annotations

import hashlib
import json
import re
import time
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field

from orchestrator.documents import Document, Many, parse_document, plain
from orchestrator.errors import ExitCode, Finding, OrchestratorError

T = TypeVar("T")
LIMIT: Final = 8 << 20
"""Bytes of the longest message that is no file's content."""
_Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
LABEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
"""What a machine has, as gpu or fast-disk."""
Label = Annotated[str, Field(pattern=f"^{LABEL.pattern}$")]
ELSEWHERE: Final = (ExitCode.ENGINE, ExitCode.INPUT)
"""Failures of a machine or its network: another one may do it. All others are the project's."""


class JobOptions(Document):
    """Options of `build` that decide what is done."""

    locked: bool = False
    offline: bool = False
    no_cache: bool = False
    begin: Annotated[str, Field(pattern=r"^[a-z-]{0,40}$")] = ""
    """The stage of `--from`, or nothing."""
    fresh: bool = False
    """Do it, even if it has been done before."""

    @property
    def takes_earlier(self) -> bool:
        """Whether what an earlier job gave is as good."""
        return not (self.no_cache or self.begin or self.fresh)


class JobOrder(Document):
    """One project to build. What decides its image is all in it, so equal orders are one job."""

    version: Literal[1] = 1
    name: _Name
    context: _Hex
    """SHA-256 of the packed project."""
    project: Annotated[str, Field(min_length=1, max_length=4096)]
    """Where its project.yaml is in it."""
    options: JobOptions = JobOptions()
    labels: Annotated[tuple[Label, ...], Field(max_length=16)] = ()
    """What a worker must have."""
    program: _Hex
    """Digest of the orchestrator that asks: another version may make another image."""

    @property
    def key(self) -> str:
        """64 hex digits, by which equal work is known. Never taken from a client: it can't name another's job."""
        return hashlib.sha256(json.dumps(plain(self), sort_keys=True).encode()).hexdigest()


class JobFile(Document):
    """A file that a build gave."""

    name: _Name
    sha256: _Hex
    size: Annotated[int, Field(ge=0)]


class JobFailure(Document):
    """How a build failed, as the command itself says it with --json."""

    error: str
    exit_code: ExitCode
    remedy: str = ""
    detail: str = ""
    findings: tuple[Finding, ...] = ()

    def as_error(self) -> OrchestratorError:
        """The same as an exception."""
        error = OrchestratorError(self.error, remedy=self.remedy, findings=self.findings, detail=self.detail)
        error.exit_code = self.exit_code
        return error

    @classmethod
    def of(cls, error: OrchestratorError) -> JobFailure:
        """What an exception says."""
        return cls(error=error.message, exit_code=error.exit_code, remedy=error.remedy, detail=error.detail,
                   findings=error.findings)  # fmt: skip


class JobEnded(Document):
    """How a job ended: with files, or with a failure."""

    worker: str
    """Its name."""
    token: int
    """Which run of the job it was, from 1. A run that is no longer the job's last one gives nothing."""
    files: Many[JobFile] = ()
    failure: JobFailure | None = None
    earlier: bool = False
    """It had been done before, and nothing ran."""


class WorkerState(Document):
    """A worker, as `fleet status` shows it."""

    name: str
    address: str
    slots: int
    labels: tuple[str, ...]
    running: int


class JobState(Document):
    """A job that waits or runs."""

    key: str
    name: str
    state: Literal["waiting", "running"]
    worker: str
    asked_by: int
    """How many clients wait for it."""
    labels: tuple[str, ...] = ()
    """What its worker must have."""
    since: float = 0.0
    """When it was asked for; of one that runs, when its run began. Seconds since 1970, UTC."""
    runs: int = 0
    """How many runs of it have begun: more than one where a worker was lost, or failed by itself."""


class LostWorker(Document):
    """A worker that went without a word, and has not come back."""

    name: str
    slots: int
    labels: tuple[str, ...]
    at: float
    """When, in seconds since 1970, UTC."""
    jobs: tuple[str, ...]
    """The names of what it did."""


class FleetState(Document):
    """What `fleet status` shows."""

    version: str
    dashboard: str
    workers: Many[WorkerState]
    jobs: Many[JobState]
    done: int
    """Jobs that were built since the scheduler began."""
    earlier: int
    """Orders that were answered by an earlier job's result."""
    failed: int
    lost: Many[LostWorker] = ()
    """The last ones, in that order."""


def to_text(message: Document) -> str:
    """As JSON."""
    return json.dumps(plain_values(message), ensure_ascii=True)


def plain_values(message: Any) -> Any:
    """All fields of a message, set or not, as JSON-able data."""
    return message.model_dump(mode="json")


def from_text(kind: type[T], text: object) -> T:
    """A message that a peer sent. DocumentError for anything else."""
    return parse_document(kind, text if isinstance(text, str) else "", newer=True, limit=LIMIT)


def notice_line(text: str) -> str:
    """A note of the scheduler's as a line of `--progress json`, among those of the build (docs/events.md)."""
    return json.dumps({"version": 1, "time": round(time.time(), 3), "event": "notice", "level": "note", "text": text})
