"""What is remembered of the staged trees that images were packed from: the next image of the same tree needs no engine.

A record says where in a finished image each file's bytes lie. The image has to prove itself before they are taken: it
and what lies beside it have the stamps of when they were written, and its receipt says what it said then.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from orchestrator.build.proof import Proof
from orchestrator.build.result import BuiltTree
from orchestrator.build.stamps import stamp
from orchestrator.documents import Document, DocumentError, Many, read_document
from orchestrator.errors import UsageError
from orchestrator.files import make_directory, open_read_only, write_text
from orchestrator.receipt.receipt import Receipt
from orchestrator.resolved import Inputs
from orchestrator.staged import PackedEntry
from orchestrator.user_paths import cache_root

FOLDER: Final = "trees"
"""Of the cache: one file for each image, named by a hash of what decided its tree and one of the image's path."""
LARGEST: Final = 64 << 20
"""Bytes of a record: of some 200,000 files."""
MOST: Final = 64
"""Records: those that were written last stay."""


class Decided(Document):
    """How what decided a tree looked when the build began: see `last_build.Record`, which has the same fields."""

    taken_ns: int
    recent: str
    salt: str
    secrets: str
    written_ns: int


class TreeRecord(Document):
    """What is remembered of one tree, in one image."""

    version: Literal[1]
    proof: Proof
    decided: Decided
    containerfile: str
    context: Many[tuple[str, str]]
    """The lines of the build context's digest."""
    records: dict[str, str]
    """The files below /sbom, base64, by path."""
    left_out: Many[str]
    inputs: Inputs
    entries: Many[tuple[str, str, int, str, str, int]]
    """`PackedEntry` each, field by field."""


@dataclass(frozen=True, kw_only=True)
class KeptTree:
    """A tree in an image that has proved itself. `document` is the image's receipt."""

    record: TreeRecord
    document: Receipt

    @property
    def entries(self) -> list[PackedEntry]:
        """As they were packed."""
        return [
            PackedEntry(path=path, kind=kind, size=size, target=target, sha256=sha256, offset=offset)
            for path, kind, size, target, sha256, offset in self.record.entries
        ]

    @property
    def records(self) -> dict[str, bytes]:
        """The files below /sbom, by path."""
        return {path: b64decode(data) for path, data in self.record.records.items()}

    @property
    def unmarked(self) -> frozenset[str]:
        """`PackedTree.unmarked`: the image was verified, and its receipt names every file that it found marked."""
        files = {f"/{path}" for path, kind, *_ in self.record.entries if kind == "file"}
        return frozenset(files - {stand_in.path for stand_in in self.document.stand_ins})

    def open_image(self) -> int:
        """A descriptor of the image. OSError where it is another one by now."""
        path = Path(self.record.proof.image)
        with open_read_only(path) as image:
            descriptor = os.dup(image.fileno())
        if not self.is_same(descriptor):
            os.close(descriptor)
            raise FileNotFoundError(path)
        return descriptor

    def is_same(self, descriptor: int) -> bool:
        """Whether the open image is as it was when it was written."""
        name = Path(self.record.proof.image).name
        return stamp(os.fstat(descriptor)) == self.record.proof.results.get(name)


def kept_trees(key: str) -> Iterator[KeptTree]:
    """The trees that `key` decided and an image still holds, unchanged; the newest first."""
    paths = list((cache_root() / FOLDER).glob(f"{key}-*.json"))
    for path in sorted(paths, key=_age):
        with suppress(OSError, DocumentError, UsageError):
            record = read_document(path, TreeRecord, limit=LARGEST, links=False)
            document = record.proof.check()
            if document is not None:
                yield KeptTree(record=record, document=document)


def keep_tree(key: str, built: BuiltTree, proof: Proof, decided: Decided) -> None:
    """Remember the tree of a finished build. Nothing is kept of one whose names are no UTF-8, or that is huge."""
    rows = tuple((e.path, e.kind, e.size, e.target, e.sha256, e.offset) for e in built.entries)
    record = TreeRecord(
        version=1, proof=proof, decided=decided, containerfile=built.containerfile, context=tuple(built.context),
        records={path: b64encode(data).decode() for path, data in built.records.items()},
        left_out=built.left_out, inputs=built.inputs, entries=rows,
    )  # fmt: skip
    folder = cache_root() / FOLDER
    place = hashlib.sha256(os.fsencode(proof.image)).hexdigest()[:24]
    try:
        text = record.model_dump_json()
    except ValueError:  # a name that is no UTF-8
        text = ""
    make_directory(folder.parent)
    make_directory(folder, 0o700)
    wanted = folder / f"{key}-{place}.json"
    for path in folder.glob(f"*-{place}.json"):  # of the image that was there before
        if path != wanted or not text:
            path.unlink(missing_ok=True)
    if text and len(text) <= LARGEST:
        write_text(wanted, text)
        for path in sorted(folder.glob("*.json"), key=_age)[MOST:]:
            path.unlink(missing_ok=True)


def _age(path: Path) -> int:
    try:
        return -path.stat().st_mtime_ns
    except OSError:
        return 0
