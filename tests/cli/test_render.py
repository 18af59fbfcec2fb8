"""`render -o`: a context that can be built by hand, again and again, and that replaces nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import certifi
import pytest

from orchestrator.inputs.store import Store
from tests.cli.conftest import cli, unchanged

PROJECT = """\
name: hello
base: {image: "docker.io/library/debian:bookworm", bootstrap: {debian: bookworm, packages: [gcc, libc6-dev]}}
build: {run: make hello, program: hello}
nanos: {kernel: stub}
packer: native
"""


@pytest.fixture
def project(here: Path) -> Path:
    (here / "hello.c").write_text("int main(void) { return 0; }\n")
    (here / "project.yaml").write_text(PROJECT)
    return here


def test_what_is_printed_is_what_is_written(project: Path) -> None:
    ended = cli("render", ".", "-o", "ctx")
    assert (ended.code, ended.text) == (0, "ctx/Containerfile\n")
    assert cli("render", ".").text == Path("ctx/Containerfile").read_text()
    assert Path("ctx/src/hello.c").is_file()
    assert not Path("ctx/src/ctx").exists()
    assert "  podman build --file ctx/Containerfile --secret id=orchestrator-ca,src=" in ended.err
    assert not Path("ctx/network/ca.crt").exists()
    by_hand = "mmdebstrap --variant=minbase --include=gcc,libc6-dev bookworm - | podman import - "
    assert by_hand + "docker.io/library/debian:bookworm" in ended.err


def test_again_without_a_file_that_has_gone(project: Path) -> None:
    Path("old.c").touch()
    assert cli("render", ".", "-o", "ctx").code == 0
    assert Path("ctx/src/old.c").exists()
    Path("old.c").unlink()
    Path("ctx/notes.txt").write_text("mine")
    assert cli("render", ".", "-o", "ctx").code == 0
    assert not Path("ctx/src/old.c").exists()
    assert Path("ctx/notes.txt").read_text() == "mine"


def test_what_says_what_to_build_is_no_source_unless_it_is_named(project: Path) -> None:
    Path("project.yaml").write_text(PROJECT + "manifest: guest/manifest.json\n")
    Path("guest").mkdir()
    Path("guest/manifest.json").write_text("{}")
    Path("guest/other.json").touch()

    def sources() -> set[str]:
        return {path.name for path in Path("ctx/src").rglob("*") if path.is_file()}

    assert cli("render", ".", "-o", "ctx").code == 0
    assert sources() == {"hello.c", "other.json"}
    Path(".dockerignore").write_text("!guest/manifest.json\n")
    assert cli("render", ".", "-o", "ctx").code == 0
    assert sources() == {".dockerignore", "hello.c", "manifest.json", "other.json"}
    # What the image is to hold is a source, whatever it is.
    Path("project.yaml").write_text(PROJECT + "stage: {files: [project.yaml]}\n")
    assert cli("render", ".", "-o", "ctx").code == 0
    assert "project.yaml" in sources()


def test_certificates_are_not_written_through_a_link_of_the_project(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    victim = tmp_path_factory.mktemp("home") / ".profile"
    victim.write_text("mine")
    Path("extra.pem").write_text(Path(certifi.where()).read_text() + "touch /tmp/evil\n")
    with Path("project.yaml").open("a") as file:
        file.write("network: {ca: extra.pem}\n")
    Path("out.ca.crt").symlink_to(victim)
    ended = cli("render", ".", "-o", "out")
    assert ended.code == 0, ended.err
    assert victim.read_text() == "mine"
    assert not Path("out.ca.crt").is_symlink()
    assert "BEGIN CERTIFICATE" in Path("out.ca.crt").read_text()


@pytest.mark.parametrize("output", [".", "full"])
def test_other_files_are_never_touched(project: Path, output: str) -> None:
    Path("full/src").mkdir(parents=True)
    Path("full/src/main.rs").write_text("mine")
    Path("full/Containerfile").write_text("FROM scratch\n")
    with unchanged(project):
        ended = cli("render", ".", "-o", output)
    assert ended.code == 2
    assert "not empty" in ended.err


def test_packages_that_the_lock_names_for_an_image(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their files are among what is written, and the Containerfile installs those; for another base, the mirror's."""
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(project / ".cache"))
    (project / "project.yaml").write_text(PROJECT.replace("{run:", "{packages: [make], run:"))
    assert "apt-get update" in cli("render", ".").text
    data, digest = b"a package", f"sha256:{'1' * 64}"
    sha256 = hashlib.sha256(data).hexdigest()
    Store().put(f"sha256-{sha256}", lambda path: {"source": str(path.write_bytes(data))})
    base = {"image": "docker.io/library/debian:bookworm", "debian": "bookworm", "packages": ["gcc", "libc6-dev"]}
    line = f"make=4.3 sha256:{sha256} {len(data)} http://deb.invalid/debian/pool/main/m/make_4.3_amd64.deb"
    entries = {
        "base": {"kind": "image", "requested": base, "resolved": {"digest": digest}},
        "packages": {
            "kind": "debs",
            "requested": {"packages": ["make"]},
            "resolved": {"base": digest},
            "packages": [line],
        },
    }
    Path("project.lock").write_text(json.dumps({"version": 1, "inputs": entries}))
    ended = cli("render", ".", "-o", "ctx")
    assert ended.code == 0, ended.err
    text = Path("ctx/Containerfile").read_text()
    assert text == cli("render", ".").text
    assert "apt-get" not in text
    folder = Path("ctx/packages/program")
    assert (folder / "packages.sha256").read_text() == f"{sha256}  make_{sha256[:16]}.deb\n"
    assert (folder / f"make_{sha256[:16]}.deb").read_bytes() == data
    entries["base"] |= {"kind": "bootstrap", "resolved": {"sha256": "1" * 64, "size": "1", "suite": "bookworm"}}
    Path("project.lock").write_text(json.dumps({"version": 1, "inputs": entries}))
    assert "apt-get update" in cli("render", ".").text
