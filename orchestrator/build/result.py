"""What a build gives, whether it has just run or is known to have nothing to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.receipt.receipt import Receipt

if TYPE_CHECKING:
    from orchestrator.containerfile.context import ContextLine
    from orchestrator.resolved import Inputs
    from orchestrator.staged import PackedEntry


@dataclass(frozen=True, kw_only=True)
class BuiltTree:
    """The staged tree that an image was packed from, and what the documents beside it tell of how it was made.

    `records` and `left_out` are what staging wrote down, as `provenance.records` has them.
    """

    inputs: Inputs
    containerfile: str
    context: Sequence[ContextLine]
    records: Mapping[str, bytes]
    left_out: tuple[str, ...]
    entries: Sequence[PackedEntry]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished build: where the image and its receipt are, and what the receipt says.

    `tree` is for who remembers it; None where another image can't be made of it.
    """

    image: Path
    receipt: Path
    document: Receipt
    tree: BuiltTree | None = field(default=None, repr=False, compare=False)
