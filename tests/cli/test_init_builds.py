"""A new user's first project, from `init` to a verified image, with stand-ins for what has to be downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from orchestrator.resources import MANIFESTS
from tests.support import engines
from tests.support.cli import ROOT, orchestrator

pytestmark = [pytest.mark.engine, pytest.mark.slow]
SHIM = ROOT / "examples" / "standin-gevulot"


def with_stand_ins(project: Path) -> None:
    """The generated file as a user without the vendors' downloads would edit it."""
    text = project.read_text()
    for real, stand_in in (
        ("  git: https://github.com/gevulotnetwork/gevulot\n", f"  path: {SHIM}\n"),
        ("runtime: devnet ", "runtime: local "),
        ("nanos: {version: 0.1.51}", "nanos: {kernel: stub}"),
    ):
        assert text.count(real) == 1
        text = text.replace(real, stand_in)
    project.write_text(text)


@pytest.mark.parametrize("language", ["rust", "c", "cpp"])
def test_init_then_build(tmp_path: Path, language: str) -> None:
    assert orchestrator("init", "first", "--language", language, cwd=tmp_path).code == 0
    with_stand_ins(tmp_path / "first/project.yaml")
    with engines.podman_engine() as podman:
        done = orchestrator("build", "first", "--engine", podman.info.endpoint, cwd=tmp_path, timeout=1800)
        assert done.code == 0, done.stderr[-4000:]
        again = orchestrator("build", "first", "--json", "--engine", podman.info.endpoint, cwd=tmp_path)
        verified = orchestrator(
            "build", "first", "--json", "--verify-cached", "--engine", podman.info.endpoint, cwd=tmp_path
        )
    assert again.code == 0, again.stderr[-4000:]
    assert verified.code == 0, verified.stderr[-4000:]
    assert verified.json()["unchanged"] == []
    assert verified.json()["built"][0]["image"] == again.json()["built"][0]["image"]
    assert done.stdout == "target/first.img\n"
    summary = done.stderr[done.stderr.index("first: built and verified in ") :]
    document = again.json()
    (receipt,) = document["built"]
    assert document["ok"] is True
    assert document["unchanged"] == ["first"]
    assert f"BLAKE3    {receipt['image']['blake3']}\n" in summary
    assert "receipt   target/first.receipt.json\n" in summary
    assert "NOT BOOTABLE" in summary
    assert "stand-in  boot:/kernel: " in summary
    assert "stand-in  /lib/x86_64-linux-gnu/libgevulot_shim_ffi.so: " in summary
    assert verified.json()["built"][0] == json.loads((tmp_path / "target/first.receipt.json").read_text())
    jsonschema.validate(receipt, json.loads((MANIFESTS / "receipt.schema.json").read_text()))
    # One registry is out of reach for both stages' bases: said once a base, not once a stage.
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == len(set(warnings))
    assert not [path for path in (tmp_path / "first").iterdir() if path.name == "target"]


def test_a_second_project_that_fails_leaves_the_first(tmp_path: Path) -> None:
    base = "base: {image: docker.io/library/debian:bookworm, bootstrap: {debian: bookworm}}\n"
    rest = "packer: native\nnanos: {kernel: stub}\nruntime: local\n"
    # Other bytes each time that its step runs.
    random = "cp /bin/true prog && head -c 8 /dev/urandom >>prog"
    for name, run in (("good", random), ("bad", "no-such-program")):
        text = f"name: {name}\n{base}{rest}build:\n  run: |\n    {run}\n  program: prog\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    with engines.podman_engine() as podman:
        done = orchestrator(
            "build", "good.yaml", "bad.yaml", "-o", "out", "--engine", podman.info.endpoint, cwd=tmp_path
        )
        images = [(tmp_path / "out/good.img").read_bytes()]
        for option in ("--verify-cached", "--no-cache"):
            again = orchestrator(
                "build", "good.yaml", "-o", "out", "--engine", podman.info.endpoint, option, cwd=tmp_path
            )
            assert again.code == 0, again.stderr[-4000:]
            images.append((tmp_path / "out/good.img").read_bytes())
    assert images[0] == images[1] != images[2]
    assert done.code == 5
    assert done.stdout == "out/good.img\n"
    assert "good: built and verified" in done.stderr
    said = done.stderr.splitlines()
    assert any(line.startswith("bad.yaml:8: build.run: the build step failed with status 127") for line in said)
    assert said[-1].startswith("bad ")  # the table's last row
    assert orchestrator("verify", tmp_path / "out/good.img").code == 0
    assert not list((tmp_path / "out").glob("bad*"))
