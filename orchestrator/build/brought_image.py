"""A finished image that another machine built: compared with what was said of it, verified here, written like one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from orchestrator.build.finish import check, only_build_of
from orchestrator.build.last_build import Asked
from orchestrator.build.result import Result
from orchestrator.build.state import PackOrder, phase
from orchestrator.digest import file_digests
from orchestrator.documents import DocumentError, parse_document
from orchestrator.errors import VerificationError
from orchestrator.events import Emit
from orchestrator.files import fill, replacing
from orchestrator.provenance.attach import ENVELOPE, PROVENANCE, SBOM, Attachments, open_attachments
from orchestrator.provenance.check import require_signed
from orchestrator.provenance.dsse import PublicKey, SigningKey
from orchestrator.receipt.read import receipt_path
from orchestrator.receipt.receipt import Receipt, receipt_text
from orchestrator.receipt.record import Warnings, verification_made
from orchestrator.verification import Verification

_RECEIPT = "receipt.json"
_IMAGE = "img"


class NotBroughtError(Exception):
    """What is there is not to be had, or of no use; `refuse` has been told why."""


class ImageSource(Protocol):
    """Where the files of an image are. Nothing of it is believed but who vouches for the digests."""

    @property
    def shown(self) -> str:
        """In words."""

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each file, by name, as somebody vouches for."""

    def fetch(self, name: str, target: Path) -> bool:
        """Write a file; False where it is not to be had with its digest."""

    def refuse(self, why: str) -> None:
        """These files are of no use."""

    def marked(self, receipt: Receipt, at: str) -> Receipt:
        """The receipt, with where the image is from and when it came."""


def image_files(name: str, sign: SigningKey | None) -> list[str]:
    """The names of an image and what lies beside it."""
    suffixes = [_IMAGE, _RECEIPT, SBOM, PROVENANCE, *([ENVELOPE] if sign is not None else [])]
    return [f"{name}.{suffix}" for suffix in suffixes]


def write_brought(asked: Asked, source: ImageSource, emit: Emit, sign: SigningKey | None = None) -> Result:
    """Write them all, or none. NotBroughtError where they are of no use."""
    checked, image, name = asked.checked, asked.image, asked.checked.loaded.project.name
    if set(source.digests) != set(image_files(name, sign)):
        source.refuse("its files are not those of such an image")
        raise NotBroughtError
    receipt = receipt_path(image)
    order = PackOrder(loaded=checked.loaded, kind=checked.kind, settings=checked.settings, emit=emit)
    with (
        only_build_of(asked.output, name, emit),
        replacing(receipt) as receipt_part,
        open_attachments(asked.output, name, sign) as attachments,
        replacing(image) as image_part,
    ):
        with phase(emit, "shared", f"take {image.name} from {source.shown}"):
            _fetch(source, name, receipt_part, attachments, image_part)
        document = _receipt(receipt_part)
        if problem := _problem(source, document, attachments, image_part, sign):
            source.refuse(problem)
            raise NotBroughtError
        verification = check(image_part, order, image)
        if document is None or not verification.ok:
            source.refuse("the image fails verification here")
            raise NotBroughtError
        document = _as_here(asked, document, source, verification)
        fill(receipt_part, receipt_text(document).encode())
    return Result(image=image, receipt=receipt, document=document)


def _fetch(source: ImageSource, name: str, receipt: Path, attachments: Attachments, image: Path) -> None:
    """Every file into its temporary. NotBroughtError where one of them is not to be had."""
    parts = {_RECEIPT: receipt, _IMAGE: image, **attachments.parts}
    for suffix, path in parts.items():
        if not source.fetch(f"{name}.{suffix}", path):
            raise NotBroughtError("not there as it should be")


def _receipt(path: Path) -> Receipt | None:
    try:
        return parse_document(Receipt, path.read_bytes(), newer=True)
    except DocumentError:
        return None


def _problem(
    source: ImageSource, document: Receipt | None, attachments: Attachments, image: Path, sign: SigningKey | None
) -> str:
    """How the files contradict each other, in words; "" when they don't."""
    if document is None:
        return "its receipt is none"
    digests, name = file_digests(image), attachments.name
    if (document.name, document.image.sha256, document.image.blake3) != (name, digests.sha256, digests.blake3):
        return "its receipt is of another image"
    if any(source.digests.get(attachment.file) != attachment.sha256 for attachment in document.attachments):
        return "its receipt names other documents"
    if sign is not None:
        public = PublicKey(key=sign.key.public_key(), id=sign.id)
        try:
            require_signed(attachments.parts[ENVELOPE].read_bytes(), public, image.name, digests)
        except VerificationError as error:
            return error.message
    return ""


def _as_here(asked: Asked, document: Receipt, source: ImageSource, verification: Verification) -> Receipt:
    """The receipt as it is on this machine: what it says of the build is from where that ran, what it says of the
    project's files and of the checks is from here."""
    warned = Warnings(asked.checked.findings)
    for row in document.warnings:
        if row.source in ("build", "staging"):
            warned.add(row.source, [row.text])
    warned.add_findings("verify", verification.findings)
    changes = {
        "image": document.image.model_copy(update={"path": str(asked.image)}),
        "verification": verification_made(verification),
        "warnings": warned.rows,
    }
    return source.marked(document.model_copy(update=changes), datetime.now(UTC).isoformat(timespec="seconds"))
