"""lock, cache and bundle as a user types them; engines are for tests/build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.inputs.store import Store
from tests.support.cli import Run, orchestrator


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def run(root: Path, *arguments: str | Path) -> Run:
    return orchestrator(*arguments, env={"ORCHESTRATOR_CACHE_DIR": str(root)})


def fill(target: Path) -> dict[str, str]:
    target.write_bytes(b"x" * 3000)
    return {"source": "https://example.org/file"}


def test_ls_export_import_gc(root: Path, tmp_path: Path) -> None:
    entry = Store(root).keep("url-1", fill)
    listed = run(root, "cache", "ls")
    assert entry.key in listed.stdout
    assert "https://example.org/file" in listed.stdout
    assert "1 entry" in listed.stdout
    document = run(root, "cache", "ls", "--json").json()
    assert [(item["key"], item["size"]) for item in document["items"]] == [(entry.key, 3000)]
    file = tmp_path / "cache.tar.zst"
    done = run(root, "cache", "export", file, entry.key)
    assert (done.code, done.stdout.strip()) == (0, str(file))
    done = run(tmp_path / "other", "cache", "import", file)
    assert (done.code, done.stdout.strip()) == (0, "1 new entry, 0 known")
    done = run(root, "cache", "gc", "--keep", "1G", "--json")
    assert (done.json()["removed"], done.json()["kept"]) == ([], 3000)
    done = run(root, "cache", "gc", "--keep", "0")
    assert done.code == 0
    assert "removed 1 entry" in done.stdout
    assert Store(root).list() == []


def test_wrong_use(root: Path, tmp_path: Path) -> None:
    assert run(root, "cache", "gc").code == 2
    done = run(root, "cache", "gc", "--keep", "plenty")
    assert done.code == 2
    assert "20G" in done.stderr
    done = run(root, "cache", "export", tmp_path / "x.tar", "git-none")
    assert done.code == 4
    assert not (tmp_path / "x.tar").exists()
    (tmp_path / "x.tar").write_text("hello")
    done = run(root, "cache", "import", tmp_path / "x.tar")
    assert done.code == 4
    assert "damaged" in done.stderr
    assert run(root, "bundle", "export", tmp_path / "none.yaml", "-o", tmp_path / "x").code == 2


def test_lock_needs_a_project_and_a_name_that_it_has(root: Path, tmp_path: Path) -> None:
    done = run(root, "lock")
    assert done.code == 2
    assert "PROJECT.YAML" in done.stderr
    project = tmp_path / "project.yaml"
    project.write_text("name: x\nbuild: {run: make, program: x}\nnanos: {kernel: stub}\npacker: native\n")
    nowhere = ("--engine", f"unix://{tmp_path}/none.sock")
    done = run(root, "lock", project, "--upgrade", "bases", *nowhere)
    assert done.code == 2
    assert "base" in done.stderr
    done = run(root, "lock", project, "--upgrade", "base", *nowhere)
    assert done.code == 3
    done = run(root, "lock", "--upgrade", project, *nowhere)  # NAME is optional
    assert done.code == 3
    done = run(root, "lock", "--upgrade", "base", *nowhere)
    assert done.code == 2
    assert "PROJECT.YAML" in done.stderr
    done = run(root, "lock", "--upgrade", "none", *nowhere)  # no input is called so, and there need be no such file
    assert done.code == 2
    assert "none: does not exist" in done.stderr
    assert not (tmp_path / "project.lock").exists()


def test_a_lock_that_is_none_is_named(root: Path, tmp_path: Path) -> None:
    project = tmp_path / "project.yaml"
    project.write_text("name: x\nbuild: {run: make, program: x}\nnanos: {kernel: stub}\npacker: native\n")
    (tmp_path / "project.lock").write_text(json.dumps({"version": 9, "inputs": {}}))
    done = run(root, "render", project, "-o", tmp_path / "out")
    assert done.code == 2
    assert f"{tmp_path}/project.lock has version 9" in done.stderr


def test_the_users_settings_reach_every_command(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "config/gevulot-orchestrator"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("mirors: {a: b}\n")
    project = tmp_path / "project.yaml"
    project.write_text("name: x\nbuild: {run: make, program: x}\n")
    done = orchestrator("check", project, env={"XDG_CONFIG_HOME": str(tmp_path / "config")})
    assert done.code == 2
    assert f"{folder}/config.yaml:1: mirors: unknown key; did you mean `mirrors`?" in done.stderr
