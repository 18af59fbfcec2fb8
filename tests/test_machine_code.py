"""Machine code in hex is what its assembly says; `make check` compares the same pieces where the assemblers are."""

from __future__ import annotations

import shutil

import pytest

from tests.support.machine_code import PACKAGES, Piece, assemble, pieces


@pytest.mark.parametrize("piece", list(pieces()), ids=lambda piece: piece.name)
def test_the_bytes_are_what_the_assembly_says(piece: Piece) -> None:
    package = PACKAGES[piece.assembler]
    assert shutil.which(piece.assembler), f"{piece.assembler} is missing; `make test` installs it (apt: {package})"
    assert assemble(piece) == piece.code
