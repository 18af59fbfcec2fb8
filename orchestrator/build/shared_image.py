"""A finished image that another machine built: taken from a shared cache, and put there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from orchestrator.build.finish import check, only_build_of
from orchestrator.build.image_key import image_key
from orchestrator.build.last_build import Asked, LastBuild
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
from orchestrator.receipt.receipt import Receipt, TakenImage, receipt_text
from orchestrator.receipt.record import Warnings, verification_made
from orchestrator.shared_cache.results import SharedResults, SignedResult
from orchestrator.verification import Verification

_RECEIPT = "receipt.json"
_IMAGE = "img"


class _NotTakenError(Exception):
    """What the shared cache has is not to be had, or of no use: the image is built."""


def take_image(asked: Asked, results: SharedResults, emit: Emit, sign: SigningKey | None = None) -> Result | None:
    """Write the image that a trusted key signed for, and all that lies beside it; None where it has to be built.

    It is compared with what was signed, verified as an image that was built here, and written like one.
    """
    with phase(emit, "shared", "look for the finished image in the shared cache"):
        key = image_key(asked.checked, sign.id if sign is not None else "") if results.readable else None
        result = results.find(key) if key is not None else None
    if result is None:
        return None
    try:
        return _take(asked, results, result, emit, sign)
    except _NotTakenError:
        return None


def offer_image(asked: Asked, result: Result, results: SharedResults, emit: Emit, sign: SigningKey | None) -> None:
    """Put a finished image there, if all that decides it is now as it was when its build began."""
    if not results.writable or result.document.taken is not None:
        return
    key = image_key(asked.checked, sign.id if sign is not None else "")
    # After the key: what changed while it was made, or since the build began, shows.
    same = LastBuild(asked).unchanged() if key is not None else None
    if key is None or same is None or same.document != result.document:
        return
    name, directory = result.document.name, result.image.parent
    with phase(emit, "shared", "put the finished image into the shared cache"):
        results.offer(key, {file: directory / file for file in _names(name, sign)})


def _names(name: str, sign: SigningKey | None) -> list[str]:
    suffixes = [_IMAGE, _RECEIPT, SBOM, PROVENANCE, *([ENVELOPE] if sign is not None else [])]
    return [f"{name}.{suffix}" for suffix in suffixes]


def _take(asked: Asked, results: SharedResults, result: SignedResult, emit: Emit, sign: SigningKey | None) -> Result:
    checked, image, name = asked.checked, asked.image, asked.checked.loaded.project.name
    if set(result.files) != set(_names(name, sign)):
        results.refuse(result, "its files are not those of such an image")
        raise _NotTakenError
    receipt = receipt_path(image)
    order = PackOrder(loaded=checked.loaded, kind=checked.kind, settings=checked.settings, emit=emit)
    with (
        only_build_of(asked.output, name, emit),
        replacing(receipt) as receipt_part,
        open_attachments(asked.output, name, sign) as attachments,
        replacing(image) as image_part,
    ):
        with phase(emit, "shared", f"take {image.name} from the shared cache"):
            _fetch(results, result, name, receipt_part, attachments, image_part)
        document = _receipt(receipt_part)
        if problem := _problem(result, document, attachments, image_part, sign):
            results.refuse(result, problem)
            raise _NotTakenError
        verification = check(image_part, order, image)
        if document is None or not verification.ok:
            results.refuse(result, "the image fails verification here")
            raise _NotTakenError
        document = _as_taken(asked, document, result, results.shown, verification)
        fill(receipt_part, receipt_text(document).encode())
    return Result(image=image, receipt=receipt, document=document)


def _fetch(
    results: SharedResults, result: SignedResult, name: str, receipt: Path, attachments: Attachments, image: Path
) -> None:
    """Every file into its temporary. _NotTakenError where the cache doesn't have one of them as it was signed."""
    parts = {_RECEIPT: receipt, _IMAGE: image, **attachments.parts}
    for suffix, path in parts.items():
        if not results.fetch(result, f"{name}.{suffix}", path):
            raise _NotTakenError


def _receipt(path: Path) -> Receipt | None:
    try:
        return parse_document(Receipt, path.read_bytes(), newer=True)
    except DocumentError:
        return None


def _problem(
    result: SignedResult, document: Receipt | None, attachments: Attachments, image: Path, sign: SigningKey | None
) -> str:
    """How the files contradict each other, in words; "" when they don't."""
    if document is None:
        return "its receipt is none"
    digests, name = file_digests(image), attachments.name
    if (document.name, document.image.sha256, document.image.blake3) != (name, digests.sha256, digests.blake3):
        return "its receipt is of another image"
    signed = {file: row.digest.sha256 for file, row in result.files.items()}
    if any(signed.get(attachment.file) != attachment.sha256 for attachment in document.attachments):
        return "its receipt names other documents"
    if sign is not None:
        public = PublicKey(key=sign.key.public_key(), id=sign.id)
        try:
            require_signed(attachments.parts[ENVELOPE].read_bytes(), public, image.name, digests)
        except VerificationError as error:
            return error.message
    return ""


def _as_taken(asked: Asked, document: Receipt, result: SignedResult, cache: str, verification: Verification) -> Receipt:
    """The receipt as it is on this machine: what it says of the build is from where that ran, what it says of the
    project's files and of the checks is from here."""
    warned = Warnings(asked.checked.findings)
    for row in document.warnings:
        if row.source in ("build", "staging"):
            warned.add(row.source, [row.text])
    warned.add_findings("verify", verification.findings)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    changes = {
        "image": document.image.model_copy(update={"path": str(asked.image)}),
        "verification": verification_made(verification),
        "warnings": warned.rows,
        "taken": TakenImage(cache=cache, key=result.key, signed_by=result.signed_by, at=now),
    }
    return document.model_copy(update=changes)
