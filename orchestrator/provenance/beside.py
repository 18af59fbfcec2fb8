"""What lies beside an image against the image, and against each other: receipt, provenance, bill of materials.

Whoever changes one of them can change them all; but files that were mixed up, or of which one was changed, are found.
What a key signed is the one that the others are held to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.digest import file_blake3
from orchestrator.errors import Finding, VerificationError, error, warning
from orchestrator.files import open_read_only
from orchestrator.provenance.attach import ENVELOPE, PROVENANCE, SBOM
from orchestrator.provenance.check import check_signature
from orchestrator.provenance.dsse import LARGEST, PublicKey, open_envelope
from orchestrator.provenance.statement import pin_digests
from orchestrator.suggest import shown
from orchestrator.text import parse_json
from orchestrator.verify.model import Check

RECEIPT = "receipt.json"
AGAIN = "get the image and what lies beside it again from whoever built them, or build again"
# Of the receipt, and of the statement's internal parameters.
_SAME = {
    "containerfile_sha256": "containerfileSha256",
    "manifest_sha256": "manifestSha256",
    "context_sha256": "contextSha256",
    "nanos_version": "nanosVersion",
    "ops_version": "opsVersion",
    "bootable": "bootable",
}


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
    told = _at(_document(path), "image")
    title = "Receipt"
    if not isinstance(told, dict) or not isinstance(told.get("blake3"), str):
        finding = warning("receipt", f"{path} is not a receipt, so the image isn't compared with it", "remove it")
        return Check(id="receipt", title=title, ok=True, findings=(finding,))
    problem = difference(image, told["blake3"], told.get("size"))
    if problem:
        finding = error("receipt", f"{path} is of another image: {problem}", AGAIN)
        return Check(id="receipt", title=title, ok=False, findings=(finding,))
    return Check(id="receipt", title=title, ok=True, detail="of this image")


def difference(image: Path, blake3: str, size: object = None) -> str:
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
        for suffix, differences in (
            (PROVENANCE, _provenance(image, payload)),
            (SBOM, _bill(image, parse_json(payload))),
            (RECEIPT, _receipt(image, parse_json(payload))),
        ):
            path = _beside(image, suffix)
            if path.is_file():
                compared.append(suffix)
                findings += (error("documents", f"{path}: {words}", AGAIN) for words in differences)
    except (VerificationError, ValueError, OSError) as problem:
        findings.append(error("documents", f"can't be compared: {problem}", AGAIN))
    title = "Provenance, bill of materials and receipt"
    if findings:
        return Check(id="documents", title=title, ok=False, findings=tuple(findings))
    detail = f"{', '.join(compared)} as signed" if compared else "none of them is there"
    return Check(id="documents", title=title, ok=True, detail=detail)


def _provenance(image: Path, payload: bytes) -> Iterator[str]:
    if _bytes(_beside(image, PROVENANCE)) != payload:
        yield "differs from the statement that was signed"


def _bill(image: Path, statement: Any) -> Iterator[str]:
    actual = hashlib.sha256(_bytes(_beside(image, SBOM))).hexdigest()
    rows = _at(statement, "predicate", "runDetails", "byproducts")
    told = [_at(row, "digest", "sha256") for row in rows] if isinstance(rows, list) else []
    if actual not in told:
        yield f"its SHA-256 is {actual[:16]}…, which the signed provenance doesn't name"


def _receipt(image: Path, statement: Any) -> Iterator[str]:
    """Where the receipt says something else than what was signed, or than the files that it names hold."""
    receipt = _document(_beside(image, RECEIPT))
    definition = _at(statement, "predicate", "buildDefinition")
    for name, signed in _SAME.items():
        yield from _unless_same(name, _at(receipt, name), _at(definition, "internalParameters", signed))
    external = _at(definition, "externalParameters")
    for names in (("name",), ("runtime",), *(("resources", key) for key in ("cpus", "memory", "gpus"))):
        yield from _unless_same(".".join(names), _at(receipt, *names), _at(external, *names))
    yield from _inputs(receipt, definition)
    for row in _rows(receipt, "attachments"):
        # By its ending: an image may be renamed with all that lies beside it.
        suffix = next(
            (ending for ending in (SBOM, ENVELOPE, PROVENANCE) if str(_at(row, "file")).endswith(ending)), None
        )
        path = _beside(image, suffix) if suffix is not None else None
        if path is not None and path.is_file():
            actual = hashlib.sha256(_bytes(path)).hexdigest()
            yield from _unless_same(f"the SHA-256 of {path.name}", _at(row, "sha256"), actual)


def _inputs(receipt: Any, definition: Any) -> Iterator[str]:
    told = {str(_at(row, "name")): pin_digests(_texts(_at(row, "pin"))) for row in _rows(receipt, "inputs")}
    rows = _rows(definition, "resolvedDependencies")
    signed = {str(_at(row, "name")): _texts(_at(row, "digest")) for row in rows}
    for name in sorted({*told, *signed}):
        if name not in told or name not in signed:
            yield f"input {name} is in {'what was signed' if name in signed else 'it'} alone"
            continue
        for kind in sorted({*told[name], *signed[name]}):
            yield from _unless_same(f"{kind} of input {name}", told[name].get(kind), signed[name].get(kind))


def _unless_same(what: str, told: object, signed: object) -> Iterator[str]:
    if told != signed:
        yield f"{what} is {shown(told)} in it, not {shown(signed)}"


def _beside(image: Path, suffix: str) -> Path:
    return image.with_name(f"{image.name.removesuffix('.img')}.{suffix}")


def _bytes(path: Path) -> bytes:
    with open_read_only(path) as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise VerificationError(f"{path} is too large to be what it is called")
    return data


def _document(path: Path) -> Any:
    """A file's JSON; None where it is none."""
    try:
        return parse_json(_bytes(path))
    except (OSError, ValueError, VerificationError):
        return None


def _at(value: Any, *names: str) -> Any:
    """What is found by `names`, one in the other; None where it isn't there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _rows(value: Any, name: str) -> list[Any]:
    rows = _at(value, name)
    return rows if isinstance(rows, list) else []


def _texts(value: Any) -> Mapping[str, str]:
    rows = value.items() if isinstance(value, dict) else ()
    return {key: text for key, text in rows if isinstance(text, str)}
