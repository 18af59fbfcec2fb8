"""From a finished build to its receipt: times and warnings as they come, then all of it at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator import __version__
from orchestrator.digest import Digests
from orchestrator.errors import Finding, Severity
from orchestrator.events import Event, Notice, StepFinished, StepStarted
from orchestrator.image_kind import ImageKind, KernelRelease
from orchestrator.plan.plan import Plan
from orchestrator.project.project import Project
from orchestrator.receipt.receipt import (
    SCHEMA_VERSION,
    Attachment,
    BuildWarning,
    EngineUsed,
    ImageFile,
    InputUsed,
    KernelUsed,
    ProgramHash,
    RebuildMade,
    Receipt,
    ResourcesAsked,
    ShimUsed,
    StageTime,
    StandInFile,
    TakenStage,
    VerificationMade,
    WarningSource,
)
from orchestrator.resolved import Input, InputKind, Inputs
from orchestrator.verification import StandIn, Verification

NANOS = "nanos"
_SAID_ELSEWHERE = ("kernel-is-stub", "stand-in")  # as `bootable` and `stand_ins`


class StageTimes:
    """Collects the times of a build's steps as they are emitted, for the receipt's `stages`."""

    def __init__(self) -> None:
        self._started: dict[str, StepStarted] = {}
        self.rows: list[StageTime] = []

    def record(self, event: Event) -> None:
        """Take note of one event."""
        if isinstance(event, StepStarted):
            self._started[event.id] = event
        elif isinstance(event, StepFinished) and (started := self._started.get(event.id)):
            self.rows.append(
                StageTime(stage=started.stage, step=started.title, seconds=round(event.seconds, 3), cached=event.cached)
            )


class Warnings:
    """Collects what a build warns of, wherever it is said, each text once; for the receipt and the last lines."""

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        """`findings` are those of the project's own files."""
        self._found: dict[str, BuildWarning] = {}
        self.add_findings("project", findings)

    def record(self, event: Event) -> None:
        """Take note of one event."""
        if isinstance(event, Notice) and event.level == "warning":
            self.add("build", [event.text])

    def add(self, source: WarningSource, texts: Iterable[str]) -> None:
        """Take note of warnings from elsewhere."""
        for text in texts:
            self._found.setdefault(text, BuildWarning(source=source, text=text))

    def add_findings(self, source: WarningSource, findings: Iterable[Finding]) -> None:
        """Take note of those findings that are warnings; what the receipt says in a place of its own is left out."""
        worth = (
            finding
            for finding in findings
            if finding.severity is Severity.WARNING and finding.code not in _SAID_ELSEWHERE
        )
        self.add(source, map(str, worth))

    @property
    def rows(self) -> tuple[BuildWarning, ...]:
        """All, in the order in which they came."""
        return tuple(self._found.values())


@dataclass(frozen=True, kw_only=True)
class FinishedBuild:
    """What a finished build knows about itself. `ops_version` is None with the native packer."""

    kind: ImageKind
    project: Project
    plan: Plan
    inputs: Inputs
    engine: EngineUsed
    image_path: str
    digests: Digests
    ops_version: str | None
    containerfile: str
    manifest: str
    context_sha256: str
    stages: Sequence[StageTime]
    verification: Verification
    warnings: Sequence[BuildWarning] = ()
    shim: ShimUsed | None = None
    taken_stages: Sequence[TakenStage] = ()
    rebuild: RebuildMade | None = None


def make_receipt(built: FinishedBuild, attachments: Sequence[Attachment] = ()) -> Receipt:
    """The receipt of a build that has just ended."""
    optional: dict[str, Any] = {"shim": built.shim} if built.shim is not None else {}
    optional |= {"rebuild": built.rebuild} if built.rebuild is not None else {}
    optional |= {"taken_stages": tuple(built.taken_stages)} if built.taken_stages else {}
    kernel = built.plan.image.kernel
    optional |= {"nanos_version": kernel.version} if kernel.name == NANOS else {"kernel": kernel_used(kernel)}
    return Receipt(
        schema=SCHEMA_VERSION,
        orchestrator=__version__,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        name=built.project.name,
        runtime=built.project.runtime,
        image=ImageFile(
            path=built.image_path,
            size=built.digests.size,
            blake3=built.digests.blake3,
            sha256=built.digests.sha256,
        ),
        program_hash=ProgramHash(
            algorithm="SHA3-256(name + image_file_name + image_url + checksum)",
            name=built.project.name,
            image_file_name=built.image_path.rsplit("/", 1)[-1],
            image_url=None,
            checksum=built.digests.blake3,
        ),
        packer=built.project.packer,
        ops_version=built.ops_version,
        bootable=built.verification.bootable,
        stand_ins=tuple(map(_stand_in, built.verification.stand_ins)),
        inputs=tuple(map(input_used, built.inputs)),
        containerfile_sha256=sha256_text(built.containerfile),
        manifest_sha256=sha256_text(built.manifest),
        context_sha256=built.context_sha256,
        engine=built.engine,
        stages=tuple(built.stages),
        warnings=tuple(built.warnings),
        verification=verification_made(built.verification),
        resources=_resources(built.project),
        attachments=tuple(attachments),
        **optional,
    )


def sha256_text(text: str) -> str:
    """SHA-256 of a text's UTF-8, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _stand_in(stand_in: StandIn) -> StandInFile:
    return StandInFile(path=stand_in.path, text=stand_in.text)


def kernel_used(kernel: KernelRelease) -> KernelUsed:
    """As documents say it of any kernel but Nanos, whose version has a key of its own there."""
    return KernelUsed(name=kernel.name, version=kernel.version)


def input_used(resolved: Input) -> InputUsed:
    """An input, as the receipt tells of it."""
    optional: dict[str, Any] = {"note": resolved.note} if resolved.note else {}
    pin = pin_used(resolved.kind, resolved.pin, resolved.packages)
    return InputUsed(name=resolved.name, kind=resolved.kind, source=resolved.source, pin=pin, **optional)


def pin_used(kind: InputKind, pin: Mapping[str, str], packages: Iterable[str]) -> dict[str, str]:
    """An input's pin, as the receipt tells of it."""
    if kind != "debs":
        return dict(pin)
    # Each one's name, version and sha256: without where a mirror has it.
    return {**pin, "packages-sha256": sha256_text("\n".join(package.rsplit(" ", 2)[0] for package in packages))}


def verification_made(made: Verification) -> VerificationMade:
    """What `verify` said, as the receipt tells of it."""
    # Of its own document, so that the receipt says what `verify --json` says. Strict: a list is no tuple but in JSON.
    return VerificationMade.model_validate(made.to_dict(), strict=False)


def _resources(project: Project) -> ResourcesAsked:
    optional: dict[str, Any] = {"gpu_families": project.gpu_families} if project.gpu_families else {}
    return ResourcesAsked(**project.resources.model_dump(), **optional)
