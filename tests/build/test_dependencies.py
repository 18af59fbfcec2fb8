"""cargo with crates that no registry has: from files, on every engine; then with another source line and no network."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.engine.base import Engine
from tests.build.projects import RUST, write_project
from tests.inputs.conftest import no_proxy, server
from tests.inputs.test_git import commit_files
from tests.support.cli import orchestrator
from tests.support.packages import GIT_CRATES, cargo_lock, crate, git_rows, go_module, sha256
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
    commit = commit_files(root, GIT_CRATES)
    with git_server(root.parent) as served:
        yield f"{served.url}/source", commit


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
    # By itself, too: this base's cargo is Debian's, which fetches nothing from git.
    setting = "always" if engine.info.kind == "docker" else "auto"
    step = {"run": "cargo build --locked\n", "program": "target/debug/program", "dependencies": setting}
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


def test_bundles_and_offline_builds_have_them_by_default(
    engine: Engine, base_image: str, tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))
    data, mod, lines = go_module("example.org/mod", "v1.0.0", "package mod\n")
    server.add("/example.org/mod/@v/v1.0.0.zip", data)
    server.add("/example.org/mod/@v/v1.0.0.mod", mod)
    files = {"go.sum": lines, "rust/Cargo.lock": cargo_lock("program", {(NAME, "1.0.0"): "0" * 64})}
    step = {"run": 'cp /bin/busybox program; echo "modules: ${GOPROXY:-as ever}"\n', "program": "program"}
    mirrors = {"go:": server.url, "cargo:": server.url}
    project = write_project(tmp_path / "p", files=files, base=base_image, build=step, mirrors=mirrors)
    bundle = tmp_path / "air-gap.tar"
    done = orchestrator("bundle", "export", project, "-o", bundle, "--engine", engine.info.endpoint)
    assert done.code == 0, done.stderr
    # A step with a network is left alone, and what isn't there is no reason for no bundle.
    assert "modules: as ever" in done.stderr
    assert "2 Go module files of go.sum" in done.stderr
    assert "warning: the bundle does not contain the packages of rust/Cargo.lock: " in done.stderr
    with tarfile.open(bundle) as tar:
        assert {f"entries/sha256-{sha256(content)}/data" for content in (data, mod)} <= set(tar.getnames())

    server.files.clear()
    (tmp_path / "p/program.c").write_text("int main(void) { return 1; }\n")
    # It ends after the step: this base has nothing to stage with.
    done = orchestrator("build", project, "-o", tmp_path / "out", "--engine", engine.info.endpoint, "--offline")
    assert "modules: file:///orchestrator/dependencies/go" in done.stderr
    assert "the build step takes 2 Go module files of go.sum from the cache" in done.stderr
    lacks = f"the input cache lacks 1 of 1 crates of rust/Cargo.lock ({NAME} 1.0.0)"
    assert f"the build step is not given crates: {lacks}" in done.stderr
