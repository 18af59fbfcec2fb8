"""Results that can't prove themselves: their files by hash, and a statement which of them a key has, signed.

The statement is an in-toto one in a DSSE envelope, of a predicate type of its own: a provenance that the same key
signed is none, and the other way round.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from orchestrator.documents import Document, DocumentError, Many, parse_document, plain, read_bounded
from orchestrator.errors import VerificationError
from orchestrator.files import write_new
from orchestrator.inputs.trees import file_digest
from orchestrator.provenance.dsse import PublicKey, SigningKey, envelope_text, open_envelope
from orchestrator.shared_cache.entries import file_name
from orchestrator.shared_cache.shared_cache import SharedCache
from orchestrator.temporary import OwnDirectory

TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "urn:gevulot-orchestrator:shared-result:v1"
_MOST: Final = 1024 * 1024
"""Bytes of a statement."""
_Hex = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class FileDigest(Document):
    """A digest that in-toto has."""

    sha256: _Hex


class ResultFile(Document):
    """One file of a result."""

    name: str
    digest: FileDigest
    size: Annotated[int, Field(ge=0)]
    """Bytes."""


class ResultClaim(Document):
    """What is signed besides the files."""

    key: _Hex
    """Of everything that decides the result."""
    made: str
    """When it was put there, UTC."""


class ResultStatement(Document):
    """What is signed."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Many[ResultFile]
    predicate_type: Literal["urn:gevulot-orchestrator:shared-result:v1"] = Field(alias="predicateType")
    predicate: ResultClaim


@dataclass(frozen=True, kw_only=True)
class SignedResult:
    """A result that a trusted key signed. `files` by name."""

    key: str
    signed_by: str
    files: Mapping[str, ResultFile]


class SharedResults:
    """Results in a shared cache. Those that a key of `trusted` signed are believed; `sign` signs what is put there."""

    def __init__(self, cache: SharedCache, *, trusted: Sequence[PublicKey], sign: SigningKey | None = None) -> None:
        self._cache = cache
        self._trusted = tuple(trusted)
        self._sign = sign

    @property
    def shown(self) -> str:
        """The cache's address, without credentials."""
        return self._cache.shown

    @property
    def readable(self) -> bool:
        """Whether anybody's results would be believed."""
        return bool(self._trusted)

    @property
    def writable(self) -> bool:
        """Whether results can be put there."""
        return self._sign is not None and self._cache.writable

    def lacks(self, key: str) -> bool:
        """Whether results can be put there, and it has none for `key` that was not refused."""
        return self.writable and self._cache.lacks(_name(key))

    def find(self, key: str) -> SignedResult | None:
        """What a trusted key signed for `key` (64 hex digits); None where there is nothing of the kind."""
        with OwnDirectory("shared-result") as folder:
            envelope = folder / "envelope"
            if not self.readable or not self._cache.fetch(_name(key), envelope, _MOST):
                return None
            try:
                return self._opened(key, read_bounded(envelope, _MOST))
            except (VerificationError, DocumentError) as error:
                self._cache.refuse(_name(key), getattr(error, "message", str(error)))
                return None

    def fetch(self, result: SignedResult, name: str, target: Path) -> bool:
        """Write a file of the result to `target`; False where the cache doesn't have it as it was signed.

        The next result of this key replaces this one then: its files may be others (a receipt has times).
        """
        if self._fetched(result.files[name], target):
            return True
        self._cache.renew(_name(result.key))
        return False

    def _fetched(self, file: ResultFile, target: Path) -> bool:
        blob = file_name(file.digest.sha256)
        if not self._cache.fetch(blob, target, file.size):
            return False
        actual, size = file_digest(target)
        if (actual, size) != (file.digest.sha256, file.size):
            self._cache.refuse(blob, f"its sha256 is {actual}")
            return False
        return True

    def refuse(self, result: SignedResult, why: str) -> None:
        """Say that a signed result is of no use; it is replaced by the next one."""
        self._cache.refuse(_name(result.key), why)

    def offer(self, key: str, files: Mapping[str, Path]) -> None:
        """Put a result there, and sign for it: its files first, so that no statement speaks of what isn't there."""
        if self._sign is None or not self.writable:
            return
        try:
            self._put(key, files, self._sign)
        except OSError as error:
            self.stop_writing(error)

    def stop_writing(self, error: Exception) -> None:
        """Put nothing more there; said once."""
        self._cache.stop_writing(error)

    def _put(self, key: str, files: Mapping[str, Path], sign: SigningKey) -> None:
        rows = []
        for name, path in sorted(files.items()):
            sha256, size = file_digest(path)
            rows.append(ResultFile(name=name, digest=FileDigest(sha256=sha256), size=size))
            self._cache.store(file_name(sha256), path)
        claim = ResultClaim(key=key, made=datetime.now(UTC).isoformat(timespec="seconds"))
        statement = ResultStatement(_type=TYPE, subject=tuple(rows), predicateType=PREDICATE, predicate=claim)
        payload = json.dumps(plain(statement), sort_keys=True, ensure_ascii=False).encode()
        with OwnDirectory("shared-result") as folder:
            envelope = folder / "envelope"
            write_new(envelope, envelope_text(payload, sign).encode())
            self._cache.store(_name(key), envelope)

    def _opened(self, key: str, data: bytes) -> SignedResult:
        signer, payload = self._payload(data)
        try:
            statement = parse_document(ResultStatement, payload, newer=True, limit=_MOST)
        except DocumentError as error:
            raise VerificationError(f"what was signed is no statement of a result: {error}") from error
        if statement.predicate.key != key:
            raise VerificationError(f"it was signed for another result, {statement.predicate.key}")
        files = {file.name: file for file in statement.subject}
        return SignedResult(key=key, signed_by=signer.id, files=files)

    def _payload(self, data: bytes) -> tuple[PublicKey, bytes]:
        """Who signed, and what. VerificationError when nobody did whom we trust."""
        problem = VerificationError("no key is trusted")
        for key in self._trusted:
            try:
                return key, open_envelope(data, key)
            except VerificationError as error:
                problem = error
        raise problem


def _name(key: str) -> str:
    return f"result-{key}"
