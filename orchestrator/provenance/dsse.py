"""DSSE envelopes over a statement, signed by a local ed25519 key. No network, no transparency log.

Specification: DSSE 1.0 (secure-systems-lab), payload type of in-toto. Keys are PEM files, as
`openssl genpkey -algorithm ed25519` makes them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import Field

from orchestrator.documents import Document, Many, parse_document
from orchestrator.errors import UsageError, VerificationError
from orchestrator.provenance.limits import LARGEST

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_LARGEST_KEY: Final = 64 * 1024
_MOST_SIGNATURES: Final = 64
_MAKE = "make one with `openssl genpkey -algorithm ed25519 -out key.pem`"
_PUBLIC = "give the public half: `openssl pkey -in key.pem -pubout -out public.pem`"


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """A key to verify with. `id` is the SHA-256 (hex) of its DER form."""

    key: Ed25519PublicKey
    id: str


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A key to sign with. `id` is its public half's."""

    key: Ed25519PrivateKey
    id: str


def load_signing_key(path: Path) -> SigningKey:
    """An unencrypted ed25519 private key in PEM. UsageError for anything else."""
    data = _key_bytes(path, _MAKE)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError as error:
        remedy = (
            f"sign with a key without one: `openssl pkey -in {path} -out plain.pem`, kept where only you can read it"
        )
        raise UsageError(f"{path} is protected by a password", remedy=remedy) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        public = b"PUBLIC KEY" in data
        what = "is a public key" if public else "is not a private key in PEM"
        remedy = "sign with the private half" if public else _MAKE
        raise UsageError(f"{path} {what}", remedy=remedy) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is not an ed25519 key", remedy=_MAKE)
    return SigningKey(key=key, id=_id(key.public_key()))


def load_public_key(path: Path) -> PublicKey:
    """An ed25519 public key in PEM. UsageError for anything else."""
    data = _key_bytes(path, _PUBLIC)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "is a private key" if b"PRIVATE KEY" in data else "is not a public key in PEM"
        raise UsageError(f"{path} {what}", remedy=_PUBLIC) from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} is not an ed25519 key", remedy="verify with the key that `build --sign` used")
    return PublicKey(key=key, id=_id(key))


def envelope_text(payload: bytes, key: SigningKey) -> str:
    """The signed envelope of a statement's bytes; two spaces, final newline. ed25519: same bytes every time."""
    signature = key.key.sign(_encoded(PAYLOAD_TYPE, payload))
    document = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key.id, "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(document, indent=2) + "\n"


class _Signature(Document):
    signature: str = Field(alias="sig")
    key_id: str = Field(default="", alias="keyid")


class _Envelope(Document):
    """As the DSSE specification has it."""

    payload: str
    payload_type: str = Field(alias="payloadType")
    signatures: Many[_Signature]


def open_envelope(data: bytes, key: PublicKey) -> bytes:
    """The payload, when `key` signed it. VerificationError says what is wrong otherwise."""
    try:
        envelope = parse_document(_Envelope, data, newer=True, limit=LARGEST)
        kind, payload = envelope.payload_type, _decoded(envelope.payload)
        rows = envelope.signatures[:_MOST_SIGNATURES]
        signatures = [_decoded(row.signature) for row in rows]
        ids = sorted({row.key_id for row in rows})
    except ValueError as error:
        raise VerificationError("the signature file is not a DSSE envelope", remedy=_AGAIN) from error
    if kind != PAYLOAD_TYPE:
        raise VerificationError(f"the signature file holds {str(kind)[:80]!r}, not an in-toto statement", remedy=_AGAIN)
    if not any(_holds(key, signature, _encoded(kind, payload)) for signature in signatures):
        if key.id in ids:
            raise VerificationError("the signature is wrong: the statement is not what was signed", remedy=_AGAIN)
        signers = ", ".join(_short(key_id) for key_id in ids) or "nobody"
        raise VerificationError(
            f"this key ({key.id[:16]}…) did not sign it; signed by {signers}",
            remedy="verify with the public half of the key that `build --sign` used",
        )
    return payload


_AGAIN = "get the image and its signature again from whoever built them, or build again with --sign"


def _key_bytes(path: Path, remedy: str) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST_KEY + 1)
    except OSError as error:
        raise UsageError(f"key {path} cannot be read: {error.strerror}", remedy=remedy) from error
    if len(data) > _LARGEST_KEY:
        raise UsageError(f"{path} is too large for a key", remedy=remedy)
    return data


def _id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _short(name: str) -> str:
    shown = "".join(c for c in name[:16] if c.isprintable())
    return f"{shown}…" if shown else "a key without an id"


def _encoded(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: lengths first, so that nothing can be moved between type and payload."""
    return b" ".join(_fields(kind.encode(), payload))


def _fields(kind: bytes, payload: bytes) -> Iterator[bytes]:
    yield b"DSSEv1"
    for part in (kind, payload):
        yield str(len(part)).encode()
        yield part


def _decoded(text: Any) -> bytes:
    """Either alphabet of base64, as DSSE allows; ValueError for anything else."""
    if not isinstance(text, str):
        raise TypeError("base64 text is needed")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _holds(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.key.verify(signature, message)
    except InvalidSignature:
        return False
    return True
