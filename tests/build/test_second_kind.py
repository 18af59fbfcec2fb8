"""A second kind of image goes all the way, from check to boot: nothing on it knows more of a kind than its Protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator import kinds
from orchestrator.cli.main import main
from orchestrator.engine import select
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.stub_kernel import stub_boot_image, stub_kernel
from tests.support.cli import Run
from tests.support.fake_engine import FakeEngine, Scripted
from tests.support.tar_kind import TARS

PROJECT = """\
name: tar-program
runtime: local
base: debian:bookworm
build: {run: make, program: out/program}
packer: native
"""
Command = Callable[..., Run]
Build = Callable[[Mapping[str, bytes]], Run]
STAGED = {
    "/stage/program": b"#!/bin/sh\n", "/stage/lib/libc.so.6": b"the C library", "/sbom/warnings": b"",
    "/stage/table": b"", "/sbom/large": b"table\t/build/made/table\t5\n", "/build/made/table": b"large",
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that wants such an image, where its kind is known and nothing is in the cache."""
    monkeypatch.setattr(kinds, "KINDS", [TARS, *kinds.KINDS])
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "project.yaml"
    path.write_text(PROJECT)
    return path


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """A command in this process, which alone knows the kind."""

    def command(*arguments: str | Path) -> Run:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capfdbinary.readouterr()
        return Run(code=int(ended.value.code or 0), stdout=said.out.decode(), stderr=said.err.decode())

    return command


@pytest.fixture
def build(project: Path, run: Command, monkeypatch: pytest.MonkeyPatch) -> Build:
    """`build` of the project with an engine whose result holds what is given."""

    def built(staged: Mapping[str, bytes]) -> Run:
        engine = FakeEngine(registry={"debian:bookworm": f"sha256:{'1' * 64}"}, builds=[Scripted(files=staged)])
        monkeypatch.setattr(select, "connect", lambda *_, **__: engine)
        return run("build", project, "-o", project.parent / "out", "--progress", "plain")

    return built


def document(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_second_kind_is_built_verified_described_and_booted(project: Path, run: Command, build: Build) -> None:
    assert run("check", project).code == 0
    rendered = run("render", project).stdout
    assert "--as program" in rendered
    assert "--runtime-dir workspace" in rendered
    assert "ops" not in rendered

    built = build(STAGED)
    assert built.code == 0, built.stderr
    image = project.parent / "out" / "tar-program.img"
    assert built.stdout == f"{image}\n"

    receipt = document(image.with_suffix(".receipt.json"))
    assert receipt["kernel"] == {"name": "linux", "version": "6.1"}
    assert "nanos_version" not in receipt
    assert [used["name"] for used in receipt["inputs"]] == ["base"]
    assert [check["id"] for check in receipt["verification"]["checks"]] == ["program"]
    assert list(document(project.with_suffix(".lock"))["inputs"]) == ["base"]
    statement = document(image.with_suffix(".provenance.json"))
    made = statement["predicate"]["buildDefinition"]["internalParameters"]
    assert made["kernel"] == receipt["kernel"]
    assert "nanosVersion" not in made
    bill = document(image.with_suffix(".sbom.cdx.json"))
    systems = [component["name"] for component in bill["components"] if component["type"] == "operating-system"]
    assert systems == ["linux"]

    verified = run("verify", image)
    assert verified.code == 0
    assert "all 2 checks hold" in verified.stdout
    assert json.loads(run("inspect", image, "--json").stdout)["format"] == "tar"
    assert run("inspect", image, "tree").stdout == "/lib/libc.so.6\n/program\n/table\n"
    assert run("inspect", image, "cat", "/table").stdout == "large"
    assert run("inspect", image, "cat", "/program").stdout == "#!/bin/sh\n"
    assert run("inspect", image, "diff", image).code == 0

    booted = run("boot", image, "--smoke")
    assert booted.code == 0, booted.stderr
    assert "ran /program" in booted.stdout
    assert document(image.with_suffix(".receipt.json"))["smoke"]["passed"] is True
    rehearsed = run("rehearse", image)
    assert rehearsed.code == 2
    assert "cannot be rehearsed" in rehearsed.stderr


def test_a_second_kinds_own_check_keeps_an_image_from_its_name(project: Path, build: Build) -> None:
    built = build({name: data for name, data in STAGED.items() if name != "/stage/program"})
    assert built.code == 6
    assert "/program is not in the tar" in built.stderr
    assert [path.name for path in (project.parent / "out").glob("*.img*")] == ["tar-program.img.rejected"]


@pytest.mark.parametrize(
    "line", [b"table\n", b"table\tbuild\t5\n", b"table\t/x\t-5\n", b"\xff\t\t\n", b"other\t/x\t5\n"]
)
def test_a_list_of_large_files_that_makes_no_sense(build: Build, line: bytes) -> None:
    """It comes from inside the user's container."""
    built = build({**STAGED, "/sbom/large": line})
    assert built.code in (3, 5)
    assert "error: " in built.stderr


def test_nanos_is_still_known_beside_it(project: Path, run: Command, build: Build) -> None:
    """And two images of different kinds are not compared."""
    assert build(STAGED).code == 0
    tar, nanos = project.parent / "out" / "tar-program.img", project.parent / "nanos.img"
    with ImageWriter(nanos, BootFiles(boot_img=stub_boot_image(), kernel=stub_kernel())) as writer:
        writer.add_file("prog", 4, [b"\x7fELF"])
        writer.finish({"program": "/prog"})
    assert json.loads(run("inspect", nanos, "--json").stdout)["kernel"] == "stub"
    for one, other in ((nanos, tar), (tar, nanos)):
        compared = run("inspect", one, "diff", other)
        assert compared.code == 2
        assert one.name in compared.stderr
