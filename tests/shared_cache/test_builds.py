"""Whole builds of two machines: the second takes what the first put into the shared cache, and runs only its own step.

The engine's results are scripted, so that no machine needs one; all else is as `build` does it.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import kinds
from orchestrator.engine import select
from orchestrator.inputs.trees import file_digest
from tests.cli.conftest import Ended, cli
from tests.shared_cache.test_entries import repository
from tests.shared_cache.test_results import machine_of
from tests.support.fake_engine import FakeEngine, Scripted
from tests.support.keys import write_keys
from tests.support.servers import FileServer
from tests.support.tar_kind import TARS

DIGEST = f"sha256:{'1' * 64}"
IMAGES = {"debian:bookworm": DIGEST, f"debian@{DIGEST}": DIGEST}
DATA = b"the parameters" * 10_000
LISTING = Scripted(files={"/orchestrator/listed/uris": b""})  # of packages that are all there
SHIM = Scripted(files={"/build/gevulot/Cargo.toml": b"", "/build/gevulot/target/release/libshim.a": b"the shim"})
STAGED = Scripted(
    files={"/stage/program": b"#!/bin/sh\n", "/stage/data": b"", "/sbom/warnings": b"", "/sbom/large": b""}
)
Build = Callable[..., tuple[Ended, FakeEngine]]


@pytest.fixture
def build(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Build:
    """`build` on a machine that is named, with an engine that has these results; what was asked of the engine."""
    monkeypatch.setattr(kinds, "KINDS", [TARS, *kinds.KINDS])
    write_keys(tmp_path, "fleet")
    url = server.add("/data", DATA)
    (tmp_path / "data").write_bytes(DATA)
    repository(tmp_path / "shim", "sources of the shim")
    (tmp_path / "first").mkdir()
    (tmp_path / "first/project.yaml").write_text(f"""\
name: tar-program
runtime: local
gevulot: {{git: {tmp_path}/shim, ref: HEAD, base: {{image: "debian:bookworm"}}}}
base: debian:bookworm
build: {{run: make, program: program}}
stage: {{files: [{{url: "{url}", sha256: {file_digest(tmp_path / "data")[0]}, to: data}}]}}
packer: native
""")

    def built(machine: str, *results: Scripted) -> tuple[Ended, FakeEngine]:
        folder = tmp_path / machine
        if not folder.exists():
            folder.mkdir()
            for name in ("project.yaml", "project.lock"):
                shutil.copyfile(tmp_path / "first" / name, folder / name)
        machine_of(monkeypatch, tmp_path / f"{machine}-machine")
        engine = FakeEngine(registry=dict(IMAGES), builds=list(results))
        monkeypatch.setattr(select, "connect", lambda *_, **__: engine)
        options = ("--cache", tmp_path / "shared", "--cache-role", "read-write", "--cache-sign", tmp_path / "fleet.pem")
        return cli("build", folder / "project.yaml", "-o", folder / "out", *options), engine

    return built


def test_with_one_changed_source_only_the_users_step_runs(tmp_path: Path, server: FileServer, build: Build) -> None:
    done, engine = build("first", LISTING, SHIM, STAGED)
    assert done.code == 0, done.err
    assert [request.target for request in engine.requests] == ["", "gevulot", "staging", "program"]
    names = sorted(path.name.partition("-")[0] for path in (tmp_path / "shared").glob("*/*/*"))
    # The download, the list of packages, the shim, the image and the three documents beside it, the stage's two.
    assert names == ["file"] * 9 + ["git"] + ["result"] * 3

    shutil.rmtree(tmp_path / "shim")
    same, engine = build("second")
    assert same.code == 0, same.err
    assert engine.requests == []

    (tmp_path / "third").mkdir()
    for name in ("project.yaml", "project.lock"):
        shutil.copyfile(tmp_path / "first" / name, tmp_path / "third" / name)
    (tmp_path / "third/changed.c").write_text("int changed;\n")
    changed, engine = build("third", STAGED)
    assert changed.code == 0, changed.err
    assert [request.target for request in engine.requests] == ["staging", "program"]  # the latter to be put there
    receipts = [
        json.loads((tmp_path / name / "out/tar-program.receipt.json").read_text()) for name in ("first", "third")
    ]
    assert [receipt["shim"]["reused"] for receipt in receipts] == [False, True]
    assert receipts[0]["shim"]["sha256"] == receipts[1]["shim"]["sha256"]
    assert server.count("/data") == 1


def test_where_only_what_follows_has_changed_no_step_of_the_users_runs(tmp_path: Path, build: Build) -> None:
    done, _ = build("first", LISTING, SHIM, STAGED)
    assert done.code == 0, done.err
    other = tmp_path / "second/project.yaml"
    shutil.copytree(tmp_path / "first", other.parent, ignore=shutil.ignore_patterns("out"))
    other.write_text(other.read_text() + "resources: {memory: 600}\n")
    done, engine = build("second", STAGED)
    assert done.code == 0, done.err
    (request,) = engine.requests
    text = tar_file(engine.contexts[0], request.containerfile)
    assert f"FROM {engine.loaded[0]} AS program" in text
    assert "build.sh" not in text
    receipt = json.loads((other.parent / "out/tar-program.receipt.json").read_text())
    assert [row["stage"] for row in receipt["taken_stages"]] == ["gevulot", "program"]
    assert "taken     stage program from" in done.err


def tar_file(data: bytes, name: str) -> str:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        content = tar.extractfile(name)
        assert content is not None
        return content.read().decode()


@pytest.mark.parametrize("fault", ["gone", "changed"])
def test_a_result_that_lost_a_file_is_replaced_by_the_next(tmp_path: Path, build: Build, fault: str) -> None:
    """Whose receipt is another one: a statement that stayed would speak of the lost one for ever."""
    done, _ = build("first", LISTING, SHIM, STAGED)
    assert done.code == 0, done.err
    (receipt,) = (path for path in (tmp_path / "shared/file").glob("*/*") if b'"program_hash"' in path.read_bytes())
    receipt.unlink() if fault == "gone" else receipt.write_bytes(b"{}")
    done, engine = build("second", STAGED)
    assert (done.code, len(engine.requests)) == (0, 1), done.err
    done, engine = build("third")
    assert (done.code, len(engine.requests)) == (0, 0), done.err
