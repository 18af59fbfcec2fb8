"""The in-toto statement of a build, with SLSA's provenance predicate. Specifications: in-toto Statement v1, SLSA v1.0.

Everything in it follows from the build but the two times, and the invocation's id, which is derived from both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from orchestrator import __version__
from orchestrator.project.project import Project
from orchestrator.receipt.receipt import Attachment
from orchestrator.receipt.record import FinishedBuild, sha256_text
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
PUBLISHED_OF_BUILD: Final = frozenset({"context", "packages", "program", "run", "rust_linker", "secrets", "ssh"})
_DIGESTS: Final = {
    "commit": "gitCommit", "digest": "sha256", "sha256": "sha256", "tree-sha256": "gevulotTreeSha256",
}  # fmt: skip
WITHHELD: Final = frozenset({"mirrors", "network"})
"""A company's own hosts. They say where bytes came from, not which: every input has its pin."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """When the build ran. With a zone."""

    started: datetime
    finished: datetime


def statement_document(built: FinishedBuild, times: Times, byproducts: tuple[Attachment, ...] = ()) -> dict[str, Any]:
    """The statement about `built`; `byproducts` are files that were written beside the image."""
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": external_parameters(built.project),
        "internalParameters": _internal_parameters(built),
        "resolvedDependencies": [_dependency(resolved) for resolved in built.inputs],
    }
    subject = {
        "name": built.image_path.rsplit("/", 1)[-1],
        "digest": {"sha256": built.digests.sha256, "blake3": built.digests.blake3},
    }
    started, finished = (_shown(moment) for moment in (times.started, times.finished))
    content = json.dumps([subject, definition, started, finished], sort_keys=True)
    return {
        "_type": STATEMENT_TYPE,
        "subject": [subject],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": definition,
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": {"gevulot-orchestrator": __version__, built.engine.kind: built.engine.version},
                },
                "metadata": {
                    "invocationId": uuid5(NAMESPACE_URL, hashlib.sha256(content.encode()).hexdigest()).urn,
                    "startedOn": started,
                    "finishedOn": finished,
                },
                "byproducts": [
                    {"name": attachment.file, "digest": {"sha256": attachment.sha256}} for attachment in byproducts
                ],
            },
        },
    }


def statement_text(document: Mapping[str, Any]) -> str:
    """Two spaces, final newline: the bytes that are signed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def external_parameters(project: Project) -> dict[str, Any]:
    """What the user decides, in project.yaml's own keys, with nothing secret in it.

    `build.run` and an inline manifest are there by their SHA-256: people write tokens into both. Secrets are there by
    id, URLs without credentials and queries, `WITHHELD` keys not at all.
    """
    shown: dict[str, Any] = {**dict.fromkeys(PUBLISHED, True), "build": dict.fromkeys(PUBLISHED_OF_BUILD, True)}
    document = project.model_dump(mode="json", by_alias=True, exclude_none=True, include=shown)
    build = document["build"]
    build["run"] = {"sha256": sha256_text(project.build.run)}
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


def _internal_parameters(built: FinishedBuild) -> dict[str, Any]:
    return {
        "containerfileSha256": sha256_text(built.containerfile),
        "manifestSha256": sha256_text(built.manifest),
        "contextSha256": built.context_sha256,
        "nanosVersion": built.plan.nanos_version,
        "opsVersion": built.ops_version,
        "bootable": built.verification.bootable,
        "standIns": [stand_in.to_dict() for stand_in in built.verification.stand_ins],
        "engine": {
            "kind": built.engine.kind,
            "version": built.engine.version,
            "builder": built.engine.builder,
            "private": built.engine.private,
        },
    }


def _dependency(resolved: Input) -> dict[str, Any]:
    """A ResourceDescriptor. What is no digest of the pin (version, size, suite), and what no URI says, is annotated."""
    digest, annotations = pin_digests(resolved.pin), {"kind": resolved.kind, "source": resolved.source}
    annotations |= {key: value for key, value in resolved.pin.items() if key not in _DIGESTS}
    descriptor: dict[str, Any] = {"name": resolved.name}
    if uri := _uri(resolved):
        descriptor["uri"] = uri
    if digest:
        descriptor["digest"] = digest
    # Notes stay in the receipt: they speak of the day and of this machine.
    return {
        **descriptor,
        "annotations": {**annotations, **({"packages": list(resolved.packages)} if resolved.packages else {})},
    }


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
