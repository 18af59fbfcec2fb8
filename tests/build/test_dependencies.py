"""cargo with crates that no registry has: from files, on every engine; then with another source line and no network."""

from __future__ import annotations

from pathlib import Path

from orchestrator.engine.base import Engine
from tests.build.projects import RUST, write_project
from tests.inputs.conftest import no_proxy, server
from tests.support.cli import orchestrator
from tests.support.packages import cargo_lock, crate, sha256
from tests.support.servers import FileServer

__all__ = ["no_proxy", "server"]
NAME = "orchestrator-test-greeting"
MANIFEST = f"""\
[package]
name = "program"
version = "0.1.0"
edition = "2021"

[dependencies]
{NAME} = "1"
"""
MAIN = f'fn main() {{ println!("{{}} first", {NAME.replace("-", "_")}::greeting()); }}\n'


def test_cargo_builds_without_a_registry(engine: Engine, tmp_path: Path, server: FileServer) -> None:
    data = crate(NAME, "1.0.0", 'pub fn greeting() -> &\'static str { "hello from a crate" }\n')
    server.add(f"/{NAME}/1.0.0/download", data)
    files = {
        "Cargo.toml": MANIFEST,
        "Cargo.lock": cargo_lock("program", {(NAME, "1.0.0"): sha256(data)}),
        "src/main.rs": MAIN,
    }
    step = {"run": "cargo build --locked\n", "program": "target/debug/program", "dependencies": "always"}
    project = write_project(tmp_path / "p", files=files, base=RUST, build=step, mirrors={"cargo:": server.url})
    arguments: list[str | Path] = ["build", project, "-o", tmp_path / "out", "--engine", engine.info.endpoint]
    done = orchestrator(*arguments)
    assert done.code == 0, done.stderr
    image = (tmp_path / "out/program.img").read_bytes()
    assert b"hello from a crate" in image
    assert b" first\n" in image

    server.files.clear()
    (tmp_path / "p/src/main.rs").write_text(MAIN.replace("first", "second"))
    done = orchestrator(*arguments, "--offline", "--locked")
    assert done.code == 0, done.stderr
    assert b" second\n" in (tmp_path / "out/program.img").read_bytes()
    assert "takes 1 crate of Cargo.lock" in done.stderr
