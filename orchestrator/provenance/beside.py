"""What lies beside an image against the image, and against each other: receipt, provenance, bill of materials.

Whoever changes one of them can change them all; but files that were mixed up, or of which one was changed, are found.
What a key signed is the one that the others are held to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from orchestrator.digest import file_blake3
from orchestrator.errors import Finding, UsageError, VerificationError, error, warning
from orchestrator.files import open_read_only
from orchestrator.provenance.attach import ENVELOPE, PROVENANCE, SBOM
from orchestrator.provenance.check import check_signature
from orchestrator.provenance.dsse import PublicKey, open_envelope
from orchestrator.provenance.limits import LARGEST
from orchestrator.provenance.statement import Definition, Statement, parse_statement, pin_digests
from orchestrator.receipt.read import load_receipt
from orchestrator.receipt.receipt import Receipt
from orchestrator.suggest import shown
from orchestrator.verification import Check

RECEIPT = "receipt.json"
AGAIN = "get the image and what lies beside it again from whoever built them, or build again"
# Of the receipt, and of the statement's internal and external parameters.
_MADE = (
    "containerfile_sha256", "manifest_sha256", "context_sha256", "nanos_version", "kernel", "ops_version", "bootable",
)  # fmt: skip
_ASKED = ("name", "runtime", "resources.cpus", "resources.memory", "resources.gpus")


def check_beside(image: Path, key: PublicKey | None) -> tuple[Check, ...]:
    """Checks of what lies beside `image`: its receipt, if there is one; with `key`, signature and all the others."""
    receipt = check_receipt(image)
    checks = () if receipt is None else (receipt,)
    if key is None:
        return checks
    signature = check_signature(image, key)
    return (*checks, signature, *((check_documents(image, key),) if signature.ok else ()))


def check_receipt(image: Path) -> Check | None:
    """Whether the receipt beside an image is of these bytes; None where there is no receipt."""
    path = _beside(image, RECEIPT)
    if not path.is_file():
        return None
    title = "Receipt"
    try:
        told = load_receipt(path).image
    except UsageError as unusable:
        finding = warning("receipt", f"{unusable.message}; the image was not compared with it", "remove it")
        return Check(id="receipt", title=title, ok=True, findings=(finding,))
    problem = difference(image, told.blake3, told.size)
    if problem:
        finding = error("receipt", f"{path} is of another image: {problem}", AGAIN)
        return Check(id="receipt", title=title, ok=False, findings=(finding,))
    return Check(id="receipt", title=title, ok=True, detail="of this image")


def difference(image: Path, blake3: str, size: int | None = None) -> str:
    """How an image differs from what a receipt says of it, in words; "" when it doesn't. `size` None: not compared."""
    actual = image.stat().st_size
    if size is not None and size != actual:
        return f"it says {size} bytes, the image has {actual}"
    blake3_now = file_blake3(image)
    return "" if blake3_now == blake3 else f"it says BLAKE3 {blake3[:16]}…, the image has {blake3_now[:16]}…"


def check_documents(image: Path, key: PublicKey) -> Check:
    """Whether provenance, bill of materials and receipt beside a signed image say what was signed."""
    compared: list[str] = []
    findings: list[Finding] = []
    try:
        payload = open_envelope(_bytes(_beside(image, ENVELOPE)), key)
        statement = parse_statement(payload)
        for suffix, differences in (
            (PROVENANCE, _provenance(image, payload)),
            (SBOM, _bill(image, statement)),
            (RECEIPT, _receipt(image, statement)),
        ):
            path = _beside(image, suffix)
            if path.is_file():
                compared.append(suffix)
                findings += (error("documents", f"{path}: {words}", AGAIN) for words in differences)
    except (VerificationError, OSError) as problem:
        findings.append(error("documents", f"cannot be compared: {problem}", AGAIN))
    title = "Provenance, bill of materials and receipt"
    if findings:
        return Check(id="documents", title=title, ok=False, findings=tuple(findings))
    detail = f"{', '.join(compared)} as signed" if compared else "none of them is there"
    return Check(id="documents", title=title, ok=True, detail=detail)


def _provenance(image: Path, payload: bytes) -> Iterator[str]:
    if _bytes(_beside(image, PROVENANCE)) != payload:
        yield "differs from the statement that was signed"


def _bill(image: Path, statement: Statement) -> Iterator[str]:
    actual = hashlib.sha256(_bytes(_beside(image, SBOM))).hexdigest()
    if actual not in [row.digest.get("sha256") for row in statement.predicate.run.byproducts]:
        yield f"its SHA-256 is {actual[:16]}…, which the signed provenance does not name"


def _receipt(image: Path, statement: Statement) -> Iterator[str]:
    """Where the receipt says something else than what was signed, or than the files that it names hold."""
    try:
        receipt = load_receipt(_beside(image, RECEIPT))
    except UsageError as problem:
        yield f"cannot be compared: {problem.message}"
        return
    definition = statement.predicate.definition
    for names, signed in ((_MADE, definition.internal), (_ASKED, definition.external)):
        for name in names:
            value = attrgetter(name)
            yield from _unless_same(name, value(receipt), value(signed))
    yield from _inputs(receipt, definition)
    for row in receipt.attachments:
        # By its ending: an image may be renamed with all that lies beside it.
        suffix = next((ending for ending in (SBOM, ENVELOPE, PROVENANCE) if row.file.endswith(ending)), None)
        path = _beside(image, suffix) if suffix is not None else None
        if path is not None and path.is_file():
            actual = hashlib.sha256(_bytes(path)).hexdigest()
            if row.sha256 != actual:
                yield f"the SHA-256 of {path.name} is {row.sha256[:16]}… here, and {actual[:16]}… on disk"


def _inputs(receipt: Receipt, definition: Definition) -> Iterator[str]:
    told = {str(row.name): pin_digests(row.pin) for row in receipt.inputs}
    signed = {row.name: row.digest for row in definition.dependencies}
    for name in sorted({*told, *signed}):
        if name not in told or name not in signed:
            yield f"input {name} is only in {'the signed provenance' if name in signed else 'the receipt'}"
            continue
        for kind in sorted({*told[name], *signed[name]}):
            yield from _unless_same(f"{kind} of input {name}", told[name].get(kind), signed[name].get(kind))


def _unless_same(what: str, told: object, signed: object) -> Iterator[str]:
    if told != signed:
        yield f"{what} is {shown(told)} here, and {shown(signed)} in the signed provenance"


def _beside(image: Path, suffix: str) -> Path:
    return image.with_name(f"{image.name.removesuffix('.img')}.{suffix}")


def _bytes(path: Path) -> bytes:
    with open_read_only(path) as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise VerificationError(f"{path} is too large to be what it is called")
    return data
