"""The receipt's model. manifests/receipt.schema.json is generated from it (`make docs`), docstrings and all.

A key with a default is left out where there is nothing to say; all others are always there.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from orchestrator.documents import Document, Many, plain
from orchestrator.project.project import MOST_MEMORY
from orchestrator.resolved import FileInputName, InputKind, OneInputName

SCHEMA_VERSION: Final = 1
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Amount = Annotated[int, Field(ge=1, le=MOST_MEMORY)]
WarningSource = Literal["project", "build", "staging", "verify"]
AttachmentKind = Literal["provenance", "sbom", "signature"]


class ImageFile(Document):
    """The image that the receipt is about."""

    path: str
    """As written by build; the image lies beside its receipt."""
    size: Annotated[int, Field(ge=0)]
    """Bytes."""
    blake3: Digest
    """The node's checksum."""
    sha256: Digest
    """SHA-256 of the same bytes."""


class ProgramHash(Document):
    """What the node's program hash is made of."""

    algorithm: str
    """How the parts become the hash."""
    name: str
    """Name of the program, as deployed."""
    image_file_name: str
    """File name of the image, without directories."""
    image_url: str | None
    """Known at deployment."""
    checksum: Digest
    """BLAKE3 of the image."""


class StandInFile(Document):
    """A packed file that only stands in for the real one."""

    path: str
    """In the image, or `boot:` and a path in the boot file system, or `input:` and an input's name."""
    text: str
    """What it says of itself."""


class InputUsed(Document):
    """One outside input, as it was resolved."""

    name: OneInputName | Annotated[FileInputName, Field(pattern="^file:.")]
    """Which input it is; `file:` and its guest path for a file of `stage.files` that no build step makes."""
    kind: InputKind
    """What kind of input it was resolved as."""
    source: str
    """As written, without credentials."""
    pin: dict[str, str]
    """What identifies its content, by name: commit, sha256, size, version and so on."""
    note: str | None = None
    """What the user should know about it."""


class KernelUsed(Document):
    """The kernel of an image that Nanos does not boot."""

    name: str
    """What it is called."""
    version: str
    """As its project or its file says it."""


class ShimUsed(Document):
    """The finished Gevulot shim that a build took."""

    key: str
    """In the input cache."""
    sha256: Digest
    """Of its tree."""
    reused: bool
    """Built earlier, for this project or another."""


class EngineUsed(Document):
    """The container engine that ran the steps; `none` for a tree that was staged by hand."""

    kind: Literal["docker", "podman", "none"]
    """Which engine."""
    version: str
    """As the engine says it."""
    builder: Literal["buildkit", "classic", "buildah", "none"]
    """What in it built."""
    private: bool
    """A Podman service that the program started itself."""


class RebuildMade(Document):
    """The second build of `reproducible: strict`, which gave the same bytes."""

    engine: EngineUsed
    """The container engine that ran it."""
    varied: dict[str, str]
    """What was otherwise than in the first build (cores, locale, path …), and how."""
    seconds: Annotated[float, Field(ge=0)]
    """How long it took."""


class StageTime(Document):
    """One step of the build."""

    stage: str
    """The stage that it belongs to."""
    step: str
    """Its title."""
    seconds: Annotated[float, Field(ge=0)]
    """How long it took."""
    cached: bool
    """Whether its result came from the engine's cache."""


class BuildWarning(Document):
    """One thing that a finished build warned of."""

    source: WarningSource
    """Who said it: project (its own files), build (while it ran), staging or verify."""
    text: str
    """What was said."""


class CheckFinding(Document):
    """What a check found."""

    severity: Literal["error", "warning", "note"]
    """How much it matters."""
    code: str
    """A stable name for scripts."""
    message: str
    """What was found."""
    remedy: str
    """What to do about it; may be empty."""


class CheckMade(Document):
    """One check of the finished image."""

    id: str
    """A stable name for scripts."""
    title: str
    """What it proves, for people."""
    ok: bool
    """Whether it holds."""
    detail: str
    """What was looked at; may be empty."""
    findings: Many[CheckFinding]
    """All that it found."""


class VerificationMade(Document):
    """What `verify` said of the image before it got its name."""

    image: str
    """The file that was looked at, under its temporary name."""
    size: int
    """Bytes."""
    ok: Literal[True]
    """An image that fails has no receipt."""
    bootable: bool
    """Whether a machine would start it as a program."""
    checks: Many[CheckMade]
    """All checks, in their order."""
    stand_ins: Many[StandInFile]
    """Stand-ins in the image itself."""


class ResourcesAsked(Document):
    """What the node gives the program."""

    cpus: Amount
    """Virtual CPUs."""
    memory: Amount
    """MiB."""
    gpus: Annotated[int, Field(ge=0, le=MOST_MEMORY)]
    """GPUs passed through."""
    gpu_families: Many[str] = ()
    """GPU families that the program must run on; absent when project.yaml names none."""


class SmokeRecord(Document):
    """What `boot --smoke` saw last."""

    passed: bool
    """Whether the image started."""
    reason: str
    """How that is known."""
    accel: Literal["kvm", "tcg"]
    """What ran the machine."""
    seconds: float
    """How long it took."""
    at: str
    """UTC, ISO 8601."""


class RehearsalRecord(Document):
    """What `rehearse --record` saw last."""

    passed: bool
    """Whether the program ended well, answered its task if it had one, and did nothing that the guest cannot."""
    reason: str
    """How it ended, or why that counts as failed."""
    engine: str
    """The engine whose container it ran in; none for a sandbox of namespaces."""
    seconds: float
    """How long it took."""
    peak_memory: int | None
    """Bytes; null where it is not known."""
    at: str
    """UTC, ISO 8601."""


class Attachment(Document):
    """A file beside the image."""

    kind: AttachmentKind
    """What it is; signature is there when the build signed."""
    file: str
    """Its name, in the image's directory."""
    sha256: Digest
    """Of its bytes."""


class TakenImage(Document):
    """How an image that another machine built came from a shared cache."""

    cache: str
    """Its address, without credentials."""
    key: str
    """Of everything that decides the image."""
    signed_by: Digest
    """The key that signed for it: SHA-256 of its DER form."""
    at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When it was taken and verified here, UTC."""


class TakenStage(Document):
    """A stage of the build that another machine ran: its result came from a shared cache."""

    stage: str
    """Of the Containerfile: `packages`, `program`; `gevulot` is the finished shim."""
    cache: str
    """Its address, without credentials."""
    key: str
    """Of everything that decides the stage's result."""
    signed_by: Digest
    """The key that signed for it: SHA-256 of its DER form."""


class FleetBuild(Document):
    """How an image that a fleet built came from there."""

    scheduler: str
    """Its address."""
    worker: str
    """The name of the machine that built it."""
    key: str
    """Of the order: all that decided the image."""
    at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When it came and was verified here, UTC."""


class Receipt(Document):
    """Receipt of one image, NAME.receipt.json."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this form."""
    orchestrator: str
    """Version of the program that wrote it."""
    finished: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When the build ended, UTC."""
    name: str
    """Of the project."""
    runtime: Literal["devnet", "local"]
    """How the program gets its task: from a node over vsock, or from files."""
    image: ImageFile
    """The image file."""
    program_hash: ProgramHash
    """What the node's program hash is made of; `image_url` is known at deployment."""
    packer: Literal["ops", "native"]
    """What wrote the image."""
    ops_version: str | None
    """Null with the native packer."""
    nanos_version: str | None = None
    """A release, local, or stub; absent for an image that Nanos does not boot."""
    kernel: KernelUsed | None = None
    """The kernel of such an image; absent for Nanos."""
    bootable: bool
    """False with the stub kernel, or without a boot sector."""
    stand_ins: Many[StandInFile]
    """What only stands in for the real thing, in the image or among what made it."""
    inputs: Many[InputUsed]
    """All outside inputs."""
    shim: ShimUsed | None = None
    """The finished Gevulot shim that the build took; absent when the project has none."""
    containerfile_sha256: Digest
    """Of the Containerfile's text."""
    manifest_sha256: Digest
    """Of the effective manifest's text."""
    context_sha256: Digest
    """Of the build context's contents."""
    engine: EngineUsed
    """The container engine that ran the steps."""
    rebuild: RebuildMade | None = None
    """The second build, with the same bytes, that `reproducible: strict` asks for; absent without it."""
    stages: Many[StageTime]
    """Every step with its time."""
    warnings: Many[BuildWarning]
    """What the build warned of, each text once; also what a step said that was in the engine's cache."""
    verification: VerificationMade
    """The checks that the image passed."""
    resources: ResourcesAsked
    """What the node gives the program."""
    attachments: Many[Attachment]
    """Files beside the image."""
    taken: TakenImage | None = None
    """Where the image is from, if it was not built on this machine; absent otherwise."""
    taken_stages: Many[TakenStage] = ()
    """Stages that this build began with and another machine ran; absent where there are none."""
    fleet: FleetBuild | None = None
    """Which machine of a fleet built it; absent where none did."""
    smoke: SmokeRecord | None = None
    """What `boot --smoke` saw last; absent before."""
    rehearsal: RehearsalRecord | None = None
    """What `rehearse --record` saw last; absent before."""


SEEN_LATER: Final = frozenset({"smoke", "rehearsal"})
"""The keys that no build writes: runs of its image do, as often as they like."""


def receipt_document(receipt: Receipt) -> dict[str, Any]:
    """As a JSON-able document: the keys that were set, in the model's order, and what a newer version wrote besides."""
    document: dict[str, Any] = plain(receipt)
    return document


def receipt_text(receipt: Receipt) -> str:
    """Canonical text: two spaces, final newline."""
    return json.dumps(receipt_document(receipt), indent=2, ensure_ascii=False) + "\n"
