"""`verify IMAGE --key`: whether the envelope beside an image was signed by a key and speaks of these bytes."""

from __future__ import annotations

from pathlib import Path

from orchestrator.digest import Digests, file_digests
from orchestrator.errors import VerificationError, error
from orchestrator.provenance.attach import ENVELOPE
from orchestrator.provenance.dsse import PublicKey, open_envelope
from orchestrator.provenance.limits import LARGEST
from orchestrator.provenance.statement import parse_claim
from orchestrator.verification import Check


def check_signature(image: Path, key: PublicKey) -> Check:
    """One more check of `verify`. What is wrong with signature or statement is in it; nothing about them raises."""
    envelope = image.with_name(f"{image.name.removesuffix('.img')}.{ENVELOPE}")
    title = "Signed provenance"
    try:
        require_signed(_read(envelope), key, image.name, file_digests(image))
    except VerificationError as problem:
        finding = error("signature", f"{envelope}: {problem.message}", problem.remedy)
        return Check(id="signature", title=title, ok=False, findings=(finding,))
    return Check(id="signature", title=title, ok=True, detail=f"by key {key.id[:16]}…")


def require_signed(envelope: bytes, key: PublicKey, name: str, digests: Digests) -> None:
    """VerificationError unless `key` signed a provenance statement about a file with these digests.

    By its bytes, not by its name: an image may be renamed.
    """
    subjects = [subject.digest for subject in parse_claim(open_envelope(envelope, key)).subject]
    actual = {"sha256": digests.sha256, "blake3": digests.blake3}
    # Both, and whatever other digests there are, which only another program can have computed.
    if not any(actual.items() <= subject.items() for subject in subjects):
        said = ", ".join(digests["sha256"][:16] + "…" for digests in subjects if "sha256" in digests) or "none"
        raise VerificationError(
            f"{name} is not the image that was signed: its SHA-256 is {digests.sha256[:16]}…, the statement's {said}",
            remedy="get the image and its signature again from whoever built them",
        )


def _read(envelope: Path) -> bytes:
    try:
        with envelope.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as problem:
        raise VerificationError(
            f"no signature can be read: {problem.strerror}",
            remedy="keep it beside the image; `build --sign KEY` writes it",
        ) from problem
    if len(data) > LARGEST:
        raise VerificationError("the signature file is too large to be one")
    return data
