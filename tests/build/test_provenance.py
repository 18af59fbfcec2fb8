"""What a build writes beside its image, on real engines and with both packers."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema import Draft202012Validator

from orchestrator.engine.base import Engine
from orchestrator.resources import MANIFESTS
from tests.build.projects import COMPILE, write_project
from tests.provenance.conftest import write_keys
from tests.standins.make_ops import make_ops
from tests.standins.nanos_release import make_release
from tests.support import engines
from tests.support.cli import ROOT, orchestrator

# What dpkg in the base says, told by the image itself.
ASK = f"{COMPILE}\ndpkg-query -W -f '${{Version}}' libc6 > libc6-version\n"
LOCK = (ROOT / "examples/groth16/Cargo.lock").read_text()


def built(project: Path, out: Path, engine: Engine, *more: str | Path) -> Path:
    done = orchestrator("build", project, "-o", out, "--engine", engine.info.endpoint, *more)
    assert done.code == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def beside(image: Path, suffix: str) -> Any:
    return json.loads(image.with_name(f"{image.stem}.{suffix}").read_text())


def asking(folder: Path, **changes: Any) -> Path:
    return write_project(
        folder,
        files={"Cargo.lock": LOCK},
        build={"run": ASK, "program": "program"},
        stage={"files": ["libc6-version"]},
        **changes,
    )


def test_it_says_what_is_in_the_image(engine: Engine, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "key")
    image = built(asking(tmp_path / "p"), tmp_path / "out", engine, "--sign", private)
    text = image.with_name("program.sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {component["bom-ref"]: component for component in json.loads(text)["components"]}
    (libc,) = [component for component in components.values() if component["name"] == "libc6"]
    assert libc["version"] == orchestrator("inspect", image, "cat", "/libc6-version").stdout
    assert libc["purl"].startswith("pkg:deb/debian/libc6@")
    assert "distro=bookworm" in libc["purl"]
    assert any(ref.startswith("pkg:cargo/ark-groth16@") for ref in components)
    hashes = {
        component["name"]: component["hashes"][0]["content"]
        for component in components.values()
        if component["type"] == "file"
    }
    packed = orchestrator("inspect", image, "extract", tmp_path / "tree")
    assert packed.code == 0
    files = [path for path in (tmp_path / "tree").rglob("*") if path.is_file() and not path.is_symlink()]
    assert hashes.pop("boot:/kernel")
    assert hashes == {
        f"/{path.relative_to(tmp_path / 'tree')}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }

    statement = beside(image, "provenance.json")
    assert statement["subject"][0]["digest"]["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    names = {dependency["name"] for dependency in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert names == {"base", "nanos"}

    receipt = beside(image, "receipt.json")
    Draft202012Validator(json.loads((MANIFESTS / "receipt.schema.json").read_text())).validate(receipt)
    assert [attachment["kind"] for attachment in receipt["attachments"]] == ["provenance", "sbom", "signature"]
    for attachment in receipt["attachments"]:
        assert hashlib.sha256((image.parent / attachment["file"]).read_bytes()).hexdigest() == attachment["sha256"]

    assert orchestrator("verify", image, "--key", public).code == 0
    with image.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"!")
    done = orchestrator("verify", image, "--key", public)
    assert done.code == 6
    assert "not the image that was signed" in done.stderr


@pytest.mark.engine
def test_the_bill_is_the_same_from_both_engines(tmp_path: Path) -> None:
    project = asking(tmp_path / "p")
    with engines.docker_engine() as docker, engines.podman_engine() as podman:
        images = [built(project, tmp_path / engine.info.kind, engine) for engine in (docker, podman)]
    bills = {image.with_name("program.sbom.cdx.json").read_bytes() for image in images}
    assert len(bills) == 1
    definitions = [beside(image, "provenance.json")["predicate"]["buildDefinition"] for image in images]
    for definition in definitions:
        del definition["internalParameters"]["engine"]
    assert definitions[0] == definitions[1]


def test_both_packers_are_told_of_alike(engine: Engine, tmp_path: Path) -> None:
    release = make_release(tmp_path / "release")
    ops = make_ops(tmp_path / "stand-in", behaviour="good", interpreter="/usr/bin/python3")
    bills = {}
    for packer in ("ops", "native"):
        changes = {"packer": packer, "nanos": {"path": str(release)}, "manifest": {"Klibs": ["tls"]}}
        if packer == "ops":
            changes["ops"] = {"path": str(ops)}
        image = built(asking(tmp_path / packer, **changes), tmp_path / packer / "out", engine)
        bills[packer] = beside(image, "sbom.cdx.json")
    assert bills["ops"]["components"] == bills["native"]["components"]
    assert bills["ops"]["dependencies"] == bills["native"]["dependencies"]
    roles = {
        component["name"]: row["value"]
        for component in bills["ops"]["components"]
        for row in component.get("properties", [])
        if row["name"].endswith(":role")
    }
    assert roles == {"/program": "program", "boot:/kernel": "kernel", "boot:/klib/tls": "klib"}


@pytest.mark.engine
def test_no_secret_and_no_record_gets_into_what_is_shared(tmp_path: Path) -> None:
    """The records of the staging container aren't packed, and neither they nor a URL's password are published."""
    project = write_project(
        tmp_path / "p",
        build={"run": f"{COMPILE}\n: hunter2\n", "program": "program"},
        manifest={"Env": {"A": "hunter2"}},
        mirrors={"https://example.org/": "https://me:hunter2@mirror.example/"},
    )
    with engines.podman_engine() as podman:
        image = built(project, tmp_path / "out", podman)
    for suffix in ("provenance.json", "sbom.cdx.json"):
        assert b"hunter2" not in image.with_name(f"program.{suffix}").read_bytes()
    assert "sbom" not in orchestrator("inspect", image, "tree").stdout
    listed = subprocess.run(["grep", "-c", "os-release", str(image)], capture_output=True, text=True)
    assert listed.stdout.strip() == "0"
