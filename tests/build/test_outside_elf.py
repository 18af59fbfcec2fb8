"""An ELF file of this machine that goes straight into the image: staging cannot follow it, so verify must."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestrator.cli.main import main
from orchestrator.engine import select
from tests.support.fake_engine import FakeEngine, Scripted

PROJECT = """\
name: plugged
runtime: local
base: debian:bookworm
build: {run: make, program: program}
stage: {files: [{from: plug.so, to: plugins/plug.so}]}
nanos: {kernel: stub}
"""
SYSTEM = ("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2")


def compile_c(text: str, *options: str) -> None:
    subprocess.run(["gcc", "-x", "c", "-", "-o", *options], input=text, text=True, check=True)


@pytest.mark.parametrize("packed", [False, True], ids=["missing", "packed"])
def test_its_libraries_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], packed: bool
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("project.yaml").write_text(PROJECT)
    compile_c("int main(void) { return 0; }", "program")
    compile_c("void deep(void) {}", "libdeep.so", "-shared", "-fPIC", "-Wl,-soname,libdeep.so")
    compile_c("void deep(void); void f(void) { deep(); }", "plug.so", "-shared", "-fPIC", "-L.", "-ldeep")
    staged = {"/stage/program": Path("program").read_bytes(), "/stage/plugins/plug.so": b"", "/sbom/large": b""}
    staged |= {f"/stage{path}": Path(path).read_bytes() for path in SYSTEM}
    if packed:
        staged["/stage/lib/x86_64-linux-gnu/libdeep.so"] = Path("libdeep.so").read_bytes()
    engine = FakeEngine(
        registry={"debian:bookworm": f"sha256:{'1' * 64}"}, builds=[Scripted(files={**staged, "/sbom/warnings": b""})]
    )
    monkeypatch.setattr(select, "connect", lambda *_, **__: engine)
    with pytest.raises(SystemExit) as ended:
        main(["build", "project.yaml", "-o", "out", "--progress", "plain"])
    said = capfd.readouterr().err
    assert ended.value.code == (0 if packed else 6), said
    missing = "libdeep.so, needed by /plugins/plug.so, is not where the guest's loader looks"
    assert (missing in said, "and its name to stage.extra" in said) == (not packed, not packed)
