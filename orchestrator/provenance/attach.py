"""What lies beside an image: NAME.provenance.json, NAME.sbom.cdx.json, and NAME.provenance.dsse.json when signed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.files import fill, replacing
from orchestrator.receipt.receipt import Attachment, AttachmentKind
from orchestrator.receipt.record import FinishedBuild

if TYPE_CHECKING:
    from orchestrator.provenance.dsse import SigningKey
    from orchestrator.provenance.records import Records

PROVENANCE: Final = "provenance.json"
SBOM: Final = "sbom.cdx.json"
ENVELOPE: Final = "provenance.dsse.json"
SUFFIXES: Final = (SBOM, PROVENANCE, ENVELOPE)


@dataclass(frozen=True, kw_only=True)
class Attachments:
    """Temporary files, by suffix, of what will lie beside image `name`."""

    name: str
    parts: dict[str, Path]
    key: SigningKey | None

    def write(self, built: FinishedBuild, records: Records, started: datetime) -> tuple[Attachment, ...]:
        """Fill them. Gives what the receipt says of them."""
        from orchestrator.provenance.records import with_shim_lock
        from orchestrator.provenance.sbom import PackedImage, sbom_text
        from orchestrator.provenance.statement import Times, make_statement, statement_text

        times = Times(started=started, finished=datetime.now(UTC))
        shim = built.inputs.gevulot.path if built.inputs.gevulot is not None else None
        packed = PackedImage(
            name=f"{self.name}.img",
            digests=built.digests,
            kernel=built.plan.image.kernel,
            files=built.verification.files,
            records=with_shim_lock(records, shim),
            stand_ins=built.verification.stand_ins,
            sources={f"/{resolved.guest_path}": resolved.source for resolved in built.inputs.staged_files},
        )
        sbom = self._put(SBOM, "sbom", sbom_text(packed))
        statement = statement_text(make_statement(built, times, (sbom,)))
        written = (self._put(PROVENANCE, "provenance", statement), sbom)
        if self.key is None:
            return written
        from orchestrator.provenance.dsse import envelope_text

        return (*written, self._put(ENVELOPE, "signature", envelope_text(statement.encode(), self.key)))

    def _put(self, suffix: str, kind: AttachmentKind, text: str) -> Attachment:
        data = text.encode()
        fill(self.parts[suffix], data)
        return Attachment(kind=kind, file=f"{self.name}.{suffix}", sha256=hashlib.sha256(data).hexdigest())


@contextmanager
def open_attachments(directory: Path, name: str, key: SigningKey | None = None) -> Iterator[Attachments]:
    """Temporary files that get their final names together, on a clean exit; on an error nothing is changed.

    Without a key, the envelope of an earlier build goes: it speaks of another image.
    """
    with ExitStack() as stack:
        wanted = [suffix for suffix in SUFFIXES if suffix != ENVELOPE or key is not None]
        parts = {suffix: stack.enter_context(replacing(directory / f"{name}.{suffix}")) for suffix in wanted}
        yield Attachments(name=name, parts=parts, key=key)
        if key is None:
            (directory / f"{name}.{ENVELOPE}").unlink(missing_ok=True)
