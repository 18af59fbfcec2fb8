"""The examples, built by the host's own compilers. Cargo's files stay below target/, so a second run is quick."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.examples.guest import Guest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def cargo(workspace: Path, *arguments: str, **environment: str) -> Path:
    """Run cargo on an example's workspace as committed (--locked); its target directory."""
    target = ROOT / "target" / "tests" / workspace.name
    done = subprocess.run(
        ["cargo", *arguments, "--locked", "--quiet"],
        cwd=workspace,
        env={**os.environ, "CARGO_TARGET_DIR": str(target), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder examples/."""
    return EXAMPLES


@pytest.fixture(scope="session")
def shim(examples: Path) -> Path:
    """The stand-in's shared library, built as stage 1 of every build does."""
    target = cargo(examples / "standin-gevulot", "build", "--release", "-p", "gevulot-shim-ffi")
    return target / "release" / "libgevulot_shim_ffi.so"


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    """An empty guest."""
    root = tmp_path / "guest"
    root.mkdir()
    return Guest(root)


@pytest.fixture
def guest_with_shim(guest: Guest, shim: Path) -> Guest:
    """A guest that has the shim and a workspace."""
    guest.put(shim, f"lib-own/{shim.name}")
    guest.workspace.mkdir()
    return guest
