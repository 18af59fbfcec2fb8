"""What links Rust programs in the build stages: the rendered files, used by this machine's cargo."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.containerfile.assemble import script_parts
from orchestrator.containerfile.context import Content
from orchestrator.containerfile.render import render_containerfile, render_rust_scripts, render_scripts
from orchestrator.elf.closure import GuestLoader
from orchestrator.elf.nanos import check_kernel_loading
from tests.support.linkers import newest_lld

from .test_render import EXAMPLES, ROOT, plan_of

MAIN = """
use std::sync::Once;
static ONCE: Once = Once::new();
static mut TABLE: [u32; 2000] = [7; 2000];
fn main() {
    ONCE.call_once(|| unsafe { TABLE[3] = std::process::id() });
    println!("{}", unsafe { TABLE[3] });
}
"""
GNU, LLD = (), ("elf-page-shared",)

Build = Callable[..., tuple[str, ...]]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """`build(gnu=…, config=…, flags=…)`: what is wrong with a crate's program. The stage's root is `tmp_path`."""
    lld = newest_lld()
    assert lld is not None, "the package lld-19 is missing"
    (tmp_path / "gcc-ld").mkdir()
    (tmp_path / "gcc-ld/ld.lld").symlink_to(lld)
    crate = tmp_path / "build"
    (crate / "src").mkdir(parents=True)
    (crate / "src/main.rs").write_text(MAIN)
    (crate / "Cargo.toml").write_text('[package]\nname = "once"\nversion = "0.1.0"\nedition = "2021"\n')

    def inner(*, gnu: bool = True, config: str = "", environment: Mapping[str, str] = {}) -> tuple[str, ...]:
        place_scripts(tmp_path, gnu=gnu)
        if config:
            (crate / ".cargo").mkdir()
            (crate / ".cargo/config.toml").write_text(config.replace("ROOT", str(tmp_path)))
        variables = {name: text.replace("ROOT", str(tmp_path)) for name, text in environment.items()}
        env = {**os.environ, "CARGO_NET_OFFLINE": "true", **variables}
        subprocess.run(["cargo", "build", "--quiet", "--release"], cwd=crate, env=env, check=True)
        program = crate / "target/release/once"
        loader = GuestLoader(
            lambda path: (program if path == "/once" else Path(path)).open("rb"), program="/once", environment={}
        )
        return tuple(finding.code for finding in check_kernel_loading(loader, {}))

    return inner


def place_scripts(root: Path, *, gnu: bool) -> None:
    """Where the Containerfile copies them."""
    scripts = render_rust_scripts(replace(plan_of(ROOT / EXAMPLES["my-prover"]), gnu_rust_linker=gnu))
    places = {"cargo-config.toml": root / ".cargo/config.toml", "rust-linker.sh": root / "orchestrator/rust-linker.sh"}
    for name, text in scripts.items():
        places[name].parent.mkdir(exist_ok=True)
        places[name].write_text(text.replace("/orchestrator/", f"{root}/orchestrator/"))
        places[name].chmod(0o755)


# rustc's own choice since 1.90, as it passes it to cc; Debian's rustc passes neither.
OWN = "-Clink-arg=-BROOT/gcc-ld -Clink-arg=-fuse-ld=lld"


@pytest.mark.parametrize(
    ("gnu", "flags", "codes"),
    [
        (False, OWN, LLD),
        (True, OWN, GNU),
        (True, f"{OWN} -Clink-arg=-fuse-ld=lld", LLD),
    ],
    ids=["rust-linker: default", "rust-linker: gnu", "gnu, and the project names lld after that"],
)
def test_rustc_s_own_lld_is_replaced_and_nothing_else(
    build: Build, gnu: bool, flags: str, codes: tuple[str, ...]
) -> None:
    assert build(gnu=gnu, environment={"RUSTFLAGS": flags}) == codes


def test_the_projects_own_settings_of_cargo_stay(build: Build, tmp_path: Path) -> None:
    """Flags of the project's .cargo/config.toml reach rustc, and a linker that it names links."""
    linker = tmp_path / "own-linker"
    linker.write_text('#!/bin/sh\n: >"$(dirname "$0")/was-here"\nexec cc "$@"\n')
    linker.chmod(0o755)
    flags = '"-Clink-arg=-BROOT/gcc-ld", "-Clink-arg=-fuse-ld=lld"'
    config = f'[build]\nrustflags = [{flags}]\n[target.x86_64-unknown-linux-gnu]\nlinker = "ROOT/own-linker"\n'
    assert build(config=config) == LLD
    assert (tmp_path / "was-here").is_file()


def test_both_stages_copy_the_files_unless_the_project_says_otherwise() -> None:
    plan = plan_of(ROOT / EXAMPLES["my-prover"])
    of_shim = (
        "COPY scripts/cargo-config.toml /.cargo/config.toml\nCOPY scripts/rust-linker.sh /orchestrator/rust-linker.sh\n"
    )
    in_step = {"step/.cargo/config.toml": "cargo-config.toml", "step/orchestrator/rust-linker.sh": "rust-linker.sh"}
    text, scripts = render_containerfile(plan), render_scripts(plan)
    assert (text.count(of_shim), text.count("COPY scripts/step/ /\n")) == (1, 1)
    assert {path: scripts[path] for path in in_step} == {path: scripts[name] for path, name in in_step.items()}
    executable = {part.path for part in script_parts(scripts) if isinstance(part, Content) and part.executable}
    assert executable == {"scripts/rust-linker.sh", "scripts/step/orchestrator/rust-linker.sh"}
    without = replace(plan, gnu_rust_linker=False)
    assert "cargo-config" not in render_containerfile(without)
    assert not any("linker" in name or "cargo" in name for name in render_scripts(without))
