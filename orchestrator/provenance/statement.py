"""The in-toto statement of a build, with SLSA's provenance predicate. Specifications: in-toto Statement v1, SLSA v1.0.

Everything in it follows from the build but the two times, and the invocation's id, which is derived from both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar
from uuid import NAMESPACE_URL, uuid5

from pydantic import ConfigDict, Field

from orchestrator import __version__
from orchestrator.documents import Document, DocumentError, Many, parse_document, plain
from orchestrator.errors import VerificationError
from orchestrator.project.project import Project
from orchestrator.provenance.limits import LARGEST
from orchestrator.receipt.receipt import Attachment, EngineUsed, KernelUsed, StandInFile
from orchestrator.receipt.record import NANOS, FinishedBuild, kernel_used, sha256_text
from orchestrator.resolved import Input, redact, redact_url

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:gevulot-orchestrator:build:v1"
"""external parameters: project.yaml's own keys, scripts and inline manifests by SHA-256; internal: what was made of
them; dependencies: the inputs of the receipt, by name."""
BUILDER: Final = "urn:gevulot-orchestrator:builder:v1"
"""The machine of whoever holds the key: how far to trust it is the reader's decision."""

PUBLISHED: Final = frozenset(
    {"name", "runtime", "resources", "gevulot", "base", "cuda", "build", "stage", "nanos", "ops", "packer",
     "gpu_assets", "gpu_families", "manifest", "reproducible"}
)  # fmt: skip
PUBLISHED_OF_BUILD: Final = frozenset(
    {
        "args",
        "caches",
        "containerfile",
        "context",
        "dependencies",
        "image",
        "language",
        "packages",
        "program",
        "run",
        "rust_linker",
        "secrets",
        "ssh",
        "target",
    }
)
_DIGESTS: Final = {
    "commit": "gitCommit", "digest": "sha256", "sha256": "sha256", "tree-sha256": "gevulotTreeSha256",
}  # fmt: skip
WITHHELD: Final = frozenset({"mirrors", "network"})
"""A company's own hosts. They say where bytes came from, not which: every input has its pin."""


class StatementSubject(Document):
    """A file that a statement is about."""

    name: str = ""
    digest: dict[str, str]
    """Hexadecimal, by algorithm."""


class Claim(Document):
    """Whom a statement is about, and of which kind it is: all that ties it to an image, whatever it says besides."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Many[StatementSubject]
    predicate_type: Literal["https://slsa.dev/provenance/v1"] = Field(alias="predicateType")


class AskedResources(Document):
    """`resources` of project.yaml."""

    cpus: int
    memory: int
    gpus: int


class ExternalParameters(Document):
    """project.yaml's own keys; those that nobody reads again are kept as they are."""

    model_config = ConfigDict(extra="allow")

    name: str
    runtime: str
    resources: AskedResources


class Made(Document):
    """What became of them."""

    containerfile_sha256: str = Field(alias="containerfileSha256")
    manifest_sha256: str = Field(alias="manifestSha256")
    context_sha256: str = Field(alias="contextSha256")
    nanos_version: str | None = Field(default=None, alias="nanosVersion")
    kernel: KernelUsed | None = None
    ops_version: str | None = Field(alias="opsVersion")
    bootable: bool
    stand_ins: Many[StandInFile] = Field(alias="standIns")
    engine: EngineUsed


class Dependency(Document):
    """A ResourceDescriptor: an input. What is no digest of its pin, and what no URI says, is annotated."""

    name: str
    uri: str = ""
    digest: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, Any]


class Definition(Document):
    """What was built, of what."""

    build_type: str = Field(alias="buildType")
    external: ExternalParameters = Field(alias="externalParameters")
    internal: Made = Field(alias="internalParameters")
    dependencies: Many[Dependency] = Field(alias="resolvedDependencies")


class Builder(Document):
    """What built it."""

    id: str
    version: dict[str, str]


class Metadata(Document):
    """Which run it was, and when (UTC, ISO 8601)."""

    invocation_id: str = Field(alias="invocationId")
    started_on: str = Field(alias="startedOn")
    finished_on: str = Field(alias="finishedOn")


class RunDetails(Document):
    """The run that built it, and the files it left beside the image."""

    builder: Builder
    metadata: Metadata
    byproducts: Many[StatementSubject]


class Provenance(Document):
    """SLSA's predicate."""

    definition: Definition = Field(alias="buildDefinition")
    run: RunDetails = Field(alias="runDetails")


class Statement(Claim):
    """The whole statement, as it is written and read again."""

    predicate: Provenance


@dataclass(frozen=True, kw_only=True)
class Times:
    """When the build ran. With a zone."""

    started: datetime
    finished: datetime


def make_statement(built: FinishedBuild, times: Times, byproducts: tuple[Attachment, ...] = ()) -> Statement:
    """The statement about `built`; `byproducts` are files that were written beside the image."""
    definition = Definition(
        buildType=BUILD_TYPE,
        externalParameters=ExternalParameters.model_validate(external_parameters(built.project)),
        internalParameters=_internal_parameters(built),
        resolvedDependencies=tuple(_dependency(resolved) for resolved in built.inputs),
    )
    subject = StatementSubject(
        name=built.image_path.rsplit("/", 1)[-1],
        digest={"sha256": built.digests.sha256, "blake3": built.digests.blake3},
    )
    started, finished = (_shown(moment) for moment in (times.started, times.finished))
    content = json.dumps([plain(subject), plain(definition), started, finished], sort_keys=True)
    run = RunDetails(
        builder=Builder(
            id=BUILDER, version={"gevulot-orchestrator": __version__, built.engine.kind: built.engine.version}
        ),
        metadata=Metadata(
            invocationId=uuid5(NAMESPACE_URL, hashlib.sha256(content.encode()).hexdigest()).urn,
            startedOn=started,
            finishedOn=finished,
        ),
        byproducts=tuple(
            StatementSubject(name=attachment.file, digest={"sha256": attachment.sha256}) for attachment in byproducts
        ),
    )
    return Statement(
        _type=STATEMENT_TYPE,
        subject=(subject,),
        predicateType=PREDICATE_TYPE,
        predicate=Provenance(buildDefinition=definition, runDetails=run),
    )


def statement_text(statement: Statement) -> str:
    """Two spaces, final newline: the bytes that are signed."""
    return json.dumps(plain(statement), indent=2, ensure_ascii=False) + "\n"


def parse_claim(payload: bytes) -> Claim:
    """The head of a statement that somebody signed; a newer version may say more. VerificationError otherwise."""
    return _parse(payload, Claim)


def parse_statement(payload: bytes) -> Statement:
    """A statement of ours that somebody signed. VerificationError otherwise."""
    return _parse(payload, Statement)


_T = TypeVar("_T", bound=Claim)


def _parse(payload: bytes, kind: type[_T]) -> _T:
    try:
        return parse_document(kind, payload, newer=True, limit=LARGEST)
    except DocumentError as problem:
        raise VerificationError(f"what was signed is not a provenance statement: {problem}") from problem


def external_parameters(project: Project) -> dict[str, Any]:
    """What the user decides, in project.yaml's own keys, with nothing secret in it.

    `build.run`, `build.args` and an inline manifest are there by their SHA-256: people write tokens into them. Secrets
    are there by id, URLs without credentials and queries, `WITHHELD` keys not at all.
    """
    shown: dict[str, Any] = {**dict.fromkeys(PUBLISHED, True), "build": dict.fromkeys(PUBLISHED_OF_BUILD, True)}
    document = project.model_dump(mode="json", by_alias=True, exclude_none=True, include=shown)
    build = document["build"]
    arguments = json.dumps(project.build.args, sort_keys=True) if project.build.args else ""
    for key, text in (("run", project.build.run), ("args", arguments)):
        build.pop(key)
        if text:
            build[key] = {"sha256": sha256_text(text)}
    build["secrets"] = [secret.id for secret in project.build.secrets]
    if isinstance(project.manifest, dict):
        inline = json.dumps(project.manifest, sort_keys=True, ensure_ascii=False)
        document["manifest"] = {"sha256": sha256_text(inline)}
    parameters: dict[str, Any] = _without_credentials(document)
    return parameters


def _without_credentials(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_credentials(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_credentials(item) for item in value]
    if isinstance(value, str):
        return redact_url(value) if "://" in value else redact(value)
    return value


def _internal_parameters(built: FinishedBuild) -> Made:
    kernel = built.plan.image.kernel
    named: dict[str, Any] = {"kernel": kernel_used(kernel)}
    if kernel.name == NANOS:
        named = {"nanosVersion": kernel.version}
    return Made(
        containerfileSha256=sha256_text(built.containerfile),
        manifestSha256=sha256_text(built.manifest),
        contextSha256=built.context_sha256,
        opsVersion=built.ops_version,
        bootable=built.verification.bootable,
        standIns=tuple(
            StandInFile(path=stand_in.path, text=stand_in.text) for stand_in in built.verification.stand_ins
        ),
        engine=built.engine,
        **named,
    )


def _dependency(resolved: Input) -> Dependency:
    digest, annotations = pin_digests(resolved.pin), {"kind": resolved.kind, "source": resolved.source}
    annotations |= {key: value for key, value in resolved.pin.items() if key not in _DIGESTS}
    descriptor: dict[str, Any] = {"name": resolved.name}
    if uri := _uri(resolved):
        descriptor["uri"] = uri
    if digest:
        descriptor["digest"] = digest
    # Notes stay in the receipt: they speak of the day and of this machine.
    descriptor["annotations"] = {**annotations, **({"packages": list(resolved.packages)} if resolved.packages else {})}
    return Dependency.model_validate(descriptor)


def pin_digests(pin: Mapping[str, str]) -> dict[str, str]:
    """What of an input's pin is a digest, by in-toto's names; a tree's (inputs/trees.py) has a name of its own."""
    return {_DIGESTS[key]: value.removeprefix("sha256:") for key, value in pin.items() if key in _DIGESTS}


def _uri(resolved: Input) -> str:
    """ "" for what lies on the build machine only."""
    source = redact_url(resolved.source)
    if resolved.kind == "git" and "://" in source:
        return source if source.startswith("git+") else f"git+{source}"
    if resolved.kind == "image":
        return f"docker://{source}"
    return source if "://" in source else ""


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
