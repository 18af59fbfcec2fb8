"""Machine code in hex is what its assembly says; `make check` compares the same pieces where nasm is."""

from __future__ import annotations

import shutil

import pytest

from tests.support.machine_code import assemble, table


@pytest.mark.parametrize(
    ("name", "text", "code"), list(table()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_bytes_are_what_the_assembly_says(name: str, text: str, code: bytes) -> None:
    assert shutil.which("nasm"), "nasm is missing; `make test` installs it (apt: nasm)"
    assert assemble(text) == code, name
