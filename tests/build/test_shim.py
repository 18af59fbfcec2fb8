"""The finished shim: built once on a machine, the same bytes in every image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.engine.base import Engine
from tests.build.projects import LINK, RUST, cache_with_base, write_project
from tests.support.cli import ROOT, orchestrator

# What rustc 1.90 and newer pass by themselves. There is no lld in the base: this links only where cargo's linker makes
# GNU ld of it (build.rust-linker).
RUST_PROGRAM = """
mkdir -p /tmp/crate/src && cd /tmp/crate
printf '[package]\nname = "once"\nversion = "0.1.0"\nedition = "2021"\n' >Cargo.toml
echo 'fn main() {}' >src/main.rs
RUSTFLAGS="-Clink-arg=-B/sysroot/gcc-ld -Clink-arg=-fuse-ld=lld" cargo build
"""


def project(folder: Path, sources: Path, **changes: Any) -> Path:
    defaults: dict[str, Any] = {
        "base": RUST,
        "gevulot": {"path": str(sources), "base": RUST},
        "build": {"run": LINK, "program": "program"},
    }
    return write_project(folder, **(defaults | changes))


def build(path: Path, out: Path, engine: Engine, cache: Path, *more: str) -> tuple[bytes, dict[str, Any]]:
    env = {"ORCHESTRATOR_CACHE_DIR": str(cache)}
    done = orchestrator("build", path, "-o", out, "--engine", engine.info.endpoint, *more, env=env)
    assert done.code == 0, done.stderr[-4000:]
    return (out / "program.img").read_bytes(), json.loads((out / "program.receipt.json").read_text())


def steps_of(receipt: dict[str, Any], stage: str) -> list[dict[str, Any]]:
    return [row for row in receipt["stages"] if row["stage"] == stage]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with the user's bases (they take minutes to make) and no shim."""
    return cache_with_base(tmp_path / "cache", RUST)


@pytest.mark.slow
def test_the_second_project_takes_the_finished_shim(engine: Engine, tmp_path: Path, cache: Path) -> None:
    sources = tmp_path / "gevulot"
    shutil.copytree(ROOT / "examples/standin-gevulot", sources, ignore=shutil.ignore_patterns("target"))
    (sources / "of-this-run").write_text(uuid4().hex)  # no layer of an earlier run
    first, receipt = build(project(tmp_path / "one", sources), tmp_path / "out1", engine, cache)
    assert any("cargo build" in row["step"] and not row["cached"] for row in steps_of(receipt, "gevulot"))
    assert receipt["shim"]["reused"] is False
    # Another project, program and packages; the same shim.
    changed = LINK + RUST_PROGRAM
    second, again = build(
        project(tmp_path / "two", sources, build={"run": changed, "program": "program"}),
        tmp_path / "out2",
        engine,
        cache,
    )
    assert steps_of(again, "gevulot") == []
    (taken,) = steps_of(again, "shim")
    assert taken["seconds"] < 0.1
    assert again["shim"] == {**receipt["shim"], "reused": True}
    assert second == first
    # Left to itself, rustc's choice stays: another shim, and here no program, for want of an lld.
    alone = project(tmp_path / "alone", sources, build={"run": changed, "program": "program", "rust-linker": "default"})
    env = {"ORCHESTRATOR_CACHE_DIR": str(cache)}
    refused = orchestrator("build", alone, "-o", tmp_path / "out-alone", "--engine", engine.info.endpoint, env=env)
    assert refused.code == 5 and "error: linking with `cc` failed" in refused.stderr, refused.stderr[-2000:]
    # --no-cache builds it again; changed sources are another shim.
    third, rebuilt = build(tmp_path / "one/project.yaml", tmp_path / "out3", engine, cache, "--no-cache")
    assert any("cargo build" in row["step"] for row in steps_of(rebuilt, "gevulot"))
    assert third == first
    (sources / "of-this-run").write_text("changed")
    _, other = build(tmp_path / "one/project.yaml", tmp_path / "out4", engine, cache)
    assert other["shim"]["reused"] is False
    assert other["shim"]["sha256"] != receipt["shim"]["sha256"]  # its tree holds the sources
