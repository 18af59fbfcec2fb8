"""cargo with crates that no registry has: from files, on every engine; then with another source line and no network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.engine.base import Engine
from tests.build.projects import RUST, write_project
from tests.inputs.conftest import no_proxy, server
from tests.inputs.test_git import git
from tests.support.cli import orchestrator
from tests.support.packages import GIT_CRATES, cargo_lock, crate, git_rows, sha256
from tests.support.servers import FileServer, git_server

__all__ = ["no_proxy", "server"]
NAME = "orchestrator-test-greeting"
MANIFEST = f"""\
[package]
name = "program"
version = "0.1.0"
edition = "2021"

[dependencies]
{NAME} = "1"
deep = {{git = "GIT", branch = "main"}}
"""
GREETING = f"{NAME.replace('-', '_')}::greeting()"
MAIN = f'fn main() {{ println!("{{}} {{}} {{}} first", {GREETING}, deep::words(), deep::BESIDE); }}\n'


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of a repository with crates, and its commit; it answers until the first build has ended."""
    root = tmp_path / "repositories/source"
    for name, text in GIT_CRATES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "crates")
    with git_server(root.parent) as served:
        yield f"{served.url}/source", git(root, "rev-parse", "main")


def test_cargo_builds_without_a_registry(
    engine: Engine, tmp_path: Path, server: FileServer, repository: tuple[str, str]
) -> None:
    url, commit = repository
    data = crate(NAME, "1.0.0", 'pub fn greeting() -> &\'static str { "hello from a crate" }\n')
    server.add(f"/{NAME}/1.0.0/download", data)
    rows = git_rows(f"git+{url}?branch=main#{commit}")
    files = {
        "Cargo.toml": MANIFEST.replace("GIT", url),
        "Cargo.lock": cargo_lock("program", {(NAME, "1.0.0"): sha256(data)}, needs=("deep",), more=rows),
        "src/main.rs": MAIN,
    }
    step = {"run": "cargo build --locked\n", "program": "target/debug/program", "dependencies": "always"}
    project = write_project(tmp_path / "p", files=files, base=RUST, build=step, mirrors={"cargo:": server.url})
    arguments: list[str | Path] = ["build", project, "-o", tmp_path / "out", "--engine", engine.info.endpoint]
    done = orchestrator(*arguments)
    assert done.code == 0, done.stderr
    image = (tmp_path / "out/program.img").read_bytes()
    assert b"hello from a crate" in image
    assert b"from a repository" in image
    assert b"beside it" in image
    assert b" first\n" in image

    server.files.clear()
    shutil.rmtree(tmp_path / "repositories")
    (tmp_path / "p/src/main.rs").write_text(MAIN.replace("first", "second"))
    done = orchestrator(*arguments, "--offline", "--locked")
    assert done.code == 0, done.stderr
    assert b" second\n" in (tmp_path / "out/program.img").read_bytes()
    assert "takes 3 crates of Cargo.lock" in done.stderr
