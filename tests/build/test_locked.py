"""A lock beside the project: the same image, wherever its branch has moved and whatever a cache holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.build.projects import LINK, RUST, cache_with_base, write_project
from tests.inputs.test_git import git
from tests.support import engines
from tests.support.cli import ROOT, orchestrator
from tests.support.servers import git_server

IGNORED = shutil.ignore_patterns("target")


def commit(root: Path) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "change")
    return git(root, "rev-parse", "HEAD")


@pytest.mark.slow
@pytest.mark.engine
def test_the_same_image_after_the_branch_moved(tmp_path: Path) -> None:
    upstream = tmp_path / "upstream/gevulot"
    shutil.copytree(ROOT / "examples/standin-gevulot", upstream, ignore=IGNORED)
    git(upstream, "init", "-q", "-b", "main")
    old = commit(upstream)
    with git_server(upstream.parent) as server, engines.podman_engine() as podman:
        gevulot = {"git": f"{server.url}/gevulot", "ref": "main", "base": RUST}
        project = write_project(tmp_path / "p", base=RUST, gevulot=gevulot, build={"run": LINK, "program": "program"})

        def build(out: str, cache: Path, *more: str) -> bytes:
            arguments: list[str | Path] = ["build", project, "-o", tmp_path / out, "--engine", podman.info.endpoint]
            done = orchestrator(*arguments, *more, env={"ORCHESTRATOR_CACHE_DIR": str(cache)})
            assert done.code == 0, done.stderr[-4000:]
            return (tmp_path / out / "program.img").read_bytes()

        here, elsewhere = cache_with_base(tmp_path / "here", RUST), cache_with_base(tmp_path / "elsewhere", RUST)
        first = build("one", here)
        assert old in (tmp_path / "p/project.lock").read_text()
        library = upstream / "crates/shim-ffi/src/lib.rs"
        library.write_text(library.read_text() + '\n#[no_mangle]\npub extern "C" fn moved() {}\n')
        new = commit(upstream)
        moved = orchestrator(
            "lock", project, "--diff", "--upgrade", "gevulot", "--engine", podman.info.endpoint,
            env={"ORCHESTRATOR_CACHE_DIR": str(here)},
        )  # fmt: skip
        assert f"{old} -> {new}" in moved.stdout, moved.stderr
        assert "--upgrade would trust:\n  gevulot       " in moved.stderr
        # As on another machine: neither the old commit nor its shim is in the cache.
        assert build("two", elsewhere, "--locked") == first
        assert old in (tmp_path / "p/project.lock").read_text()
