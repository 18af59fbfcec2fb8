"""Fixtures: the packed stand-in, small real programs, a seeded home."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.standins.bench import Bench
from tests.standins.make_ops import make_ops
from tests.standins.nanos_release import seed_ops_home


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`static`: no libraries. `dynamic`: needs libown.so (in shim/) and libc."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "shim").mkdir()
    (folder / "own.c").write_text("int own(void) { return 0; }\n")
    (folder / "main.c").write_text("int own(void);\nint main(void) { return own(); }\n")
    (folder / "bare.c").write_text("void _start(void) { for (;;); }\n")
    for command in (
        "gcc -shared -fPIC -o shim/libown.so own.c",
        "gcc -o dynamic main.c -Lshim -lown",
        "gcc -static -nostdlib -o static bare.c",
    ):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ops(tmp_path_factory.mktemp("standin") / "ops", interpreter=sys.executable)


@pytest.fixture
def bench(tmp_path: Path, standin: Path, programs: Path) -> Bench:
    cwd = tmp_path / "build"
    cwd.mkdir()
    (cwd / "hello").write_bytes((programs / "static").read_bytes())
    return Bench(ops=standin, cwd=cwd, home=seed_ops_home(tmp_path / "home"))
