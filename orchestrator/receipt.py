"""The receipt: what went into an image, what came out, and what was checked. Schema: manifests/receipt.schema.json."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import __version__
from orchestrator.digest import Digests
from orchestrator.engine.base import EngineInfo
from orchestrator.errors import Finding, Severity, UsageError
from orchestrator.events import Event, Notice, StepFinished, StepStarted
from orchestrator.plan.model import Plan
from orchestrator.project.model import MOST_MEMORY, Project
from orchestrator.resolved import Input, Inputs
from orchestrator.suggest import shown
from orchestrator.text import parse_json
from orchestrator.verify.model import Verification

SCHEMA_VERSION = 1
_SAID_ELSEWHERE = ("kernel-is-stub", "stand-in")  # as `bootable` and `stand_ins`
_GIVE_RECEIPT = "give the NAME.receipt.json that `build` wrote"


class StageTimes:
    """Collects the times of a build's steps as they are emitted, for the receipt's `stages`."""

    def __init__(self) -> None:
        self._started: dict[str, StepStarted] = {}
        self.rows: list[dict[str, Any]] = []

    def record(self, event: Event) -> None:
        """Take note of one event."""
        if isinstance(event, StepStarted):
            self._started[event.id] = event
        elif isinstance(event, StepFinished) and (started := self._started.get(event.id)):
            self.rows.append(
                {
                    "stage": started.stage,
                    "step": started.title,
                    "seconds": round(event.seconds, 3),
                    "cached": event.cached,
                }
            )


@dataclass(frozen=True, kw_only=True)
class BuildWarning:
    """One thing that a finished build warned of; `source` is project, build (while it ran), staging or verify."""

    source: str
    text: str


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

    def add(self, source: str, texts: Iterable[str]) -> None:
        """Take note of warnings from elsewhere."""
        for text in texts:
            self._found.setdefault(text, BuildWarning(source=source, text=text))

    def add_findings(self, source: str, findings: Iterable[Finding]) -> None:
        """Take note of those findings that are warnings; what the receipt says in a place of its own is left out."""
        worth = (each for each in findings if each.severity is Severity.WARNING and each.code not in _SAID_ELSEWHERE)
        self.add(source, map(str, worth))

    @property
    def rows(self) -> tuple[BuildWarning, ...]:
        """All, in the order in which they came."""
        return tuple(self._found.values())


@dataclass(frozen=True, kw_only=True)
class ShimUsed:
    """The finished shim that a build took: its key in the input cache, the SHA-256 of its tree, built before or now."""

    key: str
    sha256: str
    reused: bool


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a finished build knows about itself.

    `ops_version` is None with the native packer; `stages` rows are those of `StageTimes`, `warnings` those of
    `Warnings`.
    """

    project: Project
    plan: Plan
    inputs: Inputs
    engine: EngineInfo
    image_path: str
    digests: Digests
    ops_version: str | None
    containerfile: str
    manifest: str
    context_sha256: str
    stages: Sequence[Mapping[str, Any]]
    verification: Verification
    warnings: Sequence[BuildWarning] = ()
    shim: ShimUsed | None = None


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file beside the image: `kind` is provenance, sbom or signature; `sha256` of its bytes, hex."""

    kind: str
    file: str
    sha256: str


def receipt_document(built: Built, attachments: Sequence[Attachment] = ()) -> dict[str, Any]:
    """The receipt as a JSON-able document."""
    file_name = built.image_path.rsplit("/", 1)[-1]
    shim = {"shim": asdict(built.shim)} if built.shim is not None else {}
    return {
        "schema": SCHEMA_VERSION,
        "orchestrator": __version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "name": built.project.name,
        "runtime": built.project.runtime,
        "image": {
            "path": built.image_path,
            "size": built.digests.size,
            "blake3": built.digests.blake3,
            "sha256": built.digests.sha256,
        },
        "program_hash": {
            "algorithm": "SHA3-256(name + image_file_name + image_url + checksum)",
            "name": built.project.name,
            "image_file_name": file_name,
            "image_url": None,
            "checksum": built.digests.blake3,
        },
        "packer": built.plan.packer,
        "ops_version": built.ops_version,
        "nanos_version": built.plan.nanos_version,
        "bootable": built.verification.bootable,
        "stand_ins": [stand_in.to_dict() for stand_in in built.verification.stand_ins],
        "inputs": [_input(each) for each in built.inputs],
        **shim,
        "containerfile_sha256": sha256_text(built.containerfile),
        "manifest_sha256": sha256_text(built.manifest),
        "context_sha256": built.context_sha256,
        "engine": {
            "kind": built.engine.kind,
            "version": built.engine.version,
            "builder": built.engine.builder,
            "private": built.engine.private,
        },
        "stages": list(built.stages),
        "warnings": [asdict(each) for each in built.warnings],
        "verification": built.verification.to_dict(),
        "resources": {**built.project.resources.model_dump(), **_families(built.project)},
        "attachments": [asdict(each) for each in attachments],
    }


def _families(project: Project) -> dict[str, Any]:
    return {"gpu_families": list(project.gpu_families)} if project.gpu_families else {}


def read_receipt(image: Path) -> dict[str, Any]:
    """The receipt beside an image; {} where there is none, or it is no JSON object."""
    try:
        document = parse_json(image.with_suffix(".receipt.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


class GuestLimits(NamedTuple):
    """What a guest is given; `memory` in MiB."""

    memory: int
    cpus: int


def receipt_limits(receipt: Mapping[str, Any], *, memory: int | None = None, cpus: int | None = None) -> GuestLimits:
    """What to run an image with: what is given, else its receipt's, else 512 MiB and 2."""
    found = receipt.get("resources")
    known = found if isinstance(found, dict) else {}
    values = (memory or known.get("memory", 512), cpus or known.get("cpus", 2))
    for name, value in zip(("memory", "cpus"), values, strict=True):
        if not _is_amount(value, 1):
            raise UsageError(
                f"{name} is {shown(value)} in the image's receipt, which no guest can have",
                remedy=f"give --{name}, or the receipt that the build wrote",
            )
    return GuestLimits(memory=values[0], cpus=values[1])


def _is_amount(value: Any, least: int) -> bool:
    """Whether a receipt's number of MiB, CPUs or GPUs is one."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_MEMORY


def takes_task_files(receipt: Mapping[str, Any], runtime: str | None = None) -> bool:
    """Whether an image's tasks are files: by `runtime`, else its receipt. One without a receipt is taken for such."""
    return (runtime or receipt.get("runtime") or "local") == "local"


def receipt_families(receipt: Mapping[str, Any]) -> tuple[str, ...]:
    """The GPU families that a receipt names."""
    resources = receipt.get("resources")
    found = resources.get("gpu_families") if isinstance(resources, dict) else None
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def _input(given: Input) -> dict[str, Any]:
    row: dict[str, Any] = {"name": given.name, "kind": given.kind, "source": given.source, "pin": dict(given.pin)}
    return {**row, "note": given.note} if given.note else row


def receipt_text(document: Mapping[str, Any]) -> str:
    """Canonical text: two spaces, final newline."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def sha256_text(text: str) -> str:
    """SHA-256 of a text's UTF-8, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class DeployPart:
    """What a deployment needs of one receipt. `memory` is MiB."""

    image: str
    blake3: str
    bootable: bool
    name: str
    cpus: int
    memory: int
    gpus: int

    @classmethod
    def read(cls, path: Path) -> DeployPart:
        """From a receipt file. UsageError when it isn't one."""
        try:
            document = parse_json(path.read_text(encoding="utf-8"))
            image, resources = document["image"], document["resources"]
            amounts = [(resources["cpus"], 1), (resources["memory"], 1), (resources["gpus"], 0)]
            texts = [image["path"], image["blake3"], document["name"]]
            if not all(_is_amount(*each) for each in amounts) or not all(isinstance(each, str) for each in texts):
                raise ValueError("not of the receipt's form")
            return cls(
                # The image lies beside its receipt, wherever both were moved to.
                image=str(path.parent / Path(image["path"]).name),
                blake3=image["blake3"],
                bootable=document["bootable"],
                name=document["name"],
                cpus=resources["cpus"],
                memory=resources["memory"],
                gpus=resources["gpus"],
            )
        except OSError as error:
            raise UsageError(f"{path}: {(error.strerror or 'unreadable').lower()}", remedy=_GIVE_RECEIPT) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is not a receipt", remedy=_GIVE_RECEIPT) from error


def deploy_command(
    name: str, prover: DeployPart, verifier: DeployPart, *, prover_url: str | None, verifier_url: str | None
) -> str:
    """The `gevulot-cli deploy` line of a pair: by hash and URL where one is given, else the files themselves."""
    words = ["gevulot-cli", "deploy", "--name", name]
    for role, part, url in (("prover", prover, prover_url), ("verifier", verifier, verifier_url)):
        words += [f"--{role}", part.blake3 if url else part.image, f"--{role}name", part.name]
        words += [f"--{role}imgurl", url] if url else []
        words += [f"--{role}cpus", str(part.cpus), f"--{role}mem", str(part.memory), f"--{role}gpus", str(part.gpus)]
    return shlex.join(words)
