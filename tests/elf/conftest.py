"""Small ELF files made by the machine's gcc, once a session."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """`compile_c(name, source, *flags, compiler="gcc")` → the path of what was made."""
    directory = tmp_path_factory.mktemp("elf")

    def inner(name: str, source: str, *flags: str, compiler: str = "gcc") -> Path:
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        file = directory / "source.c"
        file.write_text(source)
        subprocess.run([compiler, "-o", str(target), str(file), *flags], check=True, cwd=directory)
        return target

    return inner
