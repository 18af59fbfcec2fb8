"""The bill of materials of a small image."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from orchestrator.image_kind import KernelRelease
from orchestrator.nanos.packed import packed_files
from orchestrator.provenance.sbom import PREFIX, PackedImage, sbom_text
from orchestrator.stub_kernel import stub_kernel
from orchestrator.verification import PackedFile
from tests.provenance.conftest import FILES, sha256

LIBC = "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=bookworm"


def components(packed: PackedImage) -> dict[str, dict[str, Any]]:
    return {component["bom-ref"]: component for component in json.loads(sbom_text(packed))["components"]}


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {row["name"].removeprefix(f"{PREFIX}:"): row["value"] for row in component.get("properties", [])}


def test_it_follows_the_schema(packed: PackedImage) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom_text(packed)) is None


def test_every_packed_file_is_there_by_its_hash(packed: PackedImage) -> None:
    hashes = {
        component["name"]: component["hashes"][0]["content"]
        for component in components(packed).values()
        if component["type"] == "file"
    }
    wanted = {f"/{name}": sha256(data) for name, data in FILES.items()}
    wanted |= {"boot:/kernel": sha256(stub_kernel()), "boot:/klib/tls": sha256(b"a klib")}
    assert hashes == wanted


def test_packages_own_their_files(packed: PackedImage) -> None:
    document = json.loads(sbom_text(packed))
    package = components(packed)[LIBC]
    assert (package["name"], package["version"], package["purl"]) == ("libc6", "2.36-9+deb12u10", LIBC)
    assert properties(package) == {"source-package": "glibc@2.36-9+deb12u10"}
    needs = {row["ref"]: row.get("dependsOn", []) for row in document["dependencies"]}
    assert needs[LIBC] == ["file:/lib/libc.so.6", "file:/lib/libm.so.6"]
    assert not any(row["name"] == "other" for row in document["components"])  # installed, and not packed


def test_everything_hangs_on_the_image(packed: PackedImage) -> None:
    document = json.loads(sbom_text(packed))
    needs = {row["ref"]: row.get("dependsOn", []) for row in document["dependencies"]}
    reached, waiting = set(), [document["metadata"]["component"]["bom-ref"]]
    while waiting:
        reached.add(ref := waiting.pop())
        waiting += [row for row in needs[ref] if row not in reached]
    assert reached - {"image"} == {row["bom-ref"] for row in document["components"]}


def test_crates_have_their_checksum(packed: PackedImage) -> None:
    crate = components(packed)["pkg:cargo/blake2@0.10.6"]
    assert crate["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert properties(crate)["lock-file"] == "Cargo.lock"


def test_what_only_stands_in_says_so(packed: PackedImage) -> None:
    by_name = components(packed)
    assert properties(by_name["file:/shim.so"])["stand-in"] == "not the real shim"
    assert "stub" in properties(by_name["file:boot:/kernel"])["stand-in"]
    assert "stub" in properties(by_name["nanos"])["stand-in"]
    assert "stand-in" not in properties(by_name["file:/prog"])
    root = json.loads(sbom_text(packed))["metadata"]["component"]
    assert properties(root)["stand-in"] == "input:ops: not ops"


def test_roles(packed: PackedImage) -> None:
    roles = {name: properties(component).get("role") for name, component in components(packed).items()}
    assert roles["file:/prog"] == "program"
    assert roles["file:boot:/klib/tls"] == "klib"
    assert roles["file:/lib/libc.so.6"] is None


def test_same_content_same_bytes_and_other_content_another_number(packed: PackedImage) -> None:
    text = sbom_text(packed)
    assert text == sbom_text(packed)
    assert "timestamp" not in text
    other = replace(packed, kernel=KernelRelease(name="nanos", version="0.1.51"))
    assert json.loads(text)["serialNumber"] != json.loads(sbom_text(other))["serialNumber"]


def test_what_is_missing_from_it_is_said(packed: PackedImage) -> None:
    records = replace(packed.records, locks={"Cargo.lock": b"[[package"})
    noted = json.loads(sbom_text(replace(packed, records=records)))["metadata"]["properties"]
    assert {line["value"].split(":")[0] for line in noted} == {"Cargo.lock", "gevulot/go.sum"}


def test_names_that_are_no_text_and_many_files(packed: PackedImage) -> None:
    """Bytes that are no UTF-8, control characters, and more files than the library takes in one document."""
    odd = [PackedFile(path=f"/{name}", size=1, sha256="0" * 64) for name in ("a\udcff", "b\u0001", 'c"\\', "d\u2028")]
    many = [PackedFile(path=f"/many/{number}", size=1, sha256="1" * 64) for number in range(500)]
    text = sbom_text(replace(packed, files=(*packed.files, *odd, *many)))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    names = {component["name"] for component in json.loads(text)["components"]}
    assert {"/a\\xff", "/b\u0001", "/many/499"} <= names


def test_files_are_written_as_the_library_writes_them(packed: PackedImage) -> None:
    """It isn't asked for them: with thousands it takes longer than all the rest of a build."""
    odd = [PackedFile(path=f"/{name}", size=1, sha256="0" * 64) for name in ("a\udcff", "b\u0001\t", 'c"\\', " d")]
    owned = [PackedFile(path="/usr/libm", size=2, sha256=sha256(FILES["lib/libm.so.6"]), stand_in="x", role="klib")]
    document = json.loads(sbom_text(replace(packed, files=(*packed.files, *odd, *owned), sources={"/prog": "here"})))
    bill = Bom.from_json(document)  # type: ignore[attr-defined]  # it comes with a decorator
    again = json.loads(make_outputter(bill, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    rows = sorted(again["components"], key=lambda row: str(row["bom-ref"]))
    assert json.dumps(document["components"]) == json.dumps(rows)


@pytest.mark.parametrize("name", ["/", "a//b", "@x/", "a b?#%", "\u00e9", "."])
def test_any_name_in_a_lock_file_makes_a_valid_bill(packed: PackedImage, name: str) -> None:
    lock = json.dumps({"packages": {"node_modules/x": {"name": name, "version": name}}}).encode()
    records = replace(packed.records, locks={"package-lock.json": lock, "requirements.txt": b"a==1\n"})
    text = sbom_text(replace(packed, records=records))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert name in {component["name"] for component in json.loads(text)["components"]}


def test_two_lock_files_that_name_the_same_crate_give_one_component(packed: PackedImage) -> None:
    lock = packed.records.locks["Cargo.lock"]
    records = replace(packed.records, locks={"Cargo.lock": lock, "gevulot/Cargo.lock": lock})
    crate = components(replace(packed, records=records))["pkg:cargo/blake2@0.10.6"]
    values = [row["value"] for row in crate["properties"] if row["name"].endswith(":lock-file")]
    assert values == ["Cargo.lock", "gevulot/Cargo.lock"]


def test_files_that_were_just_written_need_not_be_read(image: Path, packed: PackedImage) -> None:
    """What the writer knows is taken for a file of the same path and size; all else is read."""
    known = {f"/{name}": (len(data), hashlib.sha256(data).hexdigest()) for name, data in FILES.items()}
    assert packed_files(image, packed.stand_ins, known) == packed.files
    (path, (size, _)), *_ = known.items()
    assert packed_files(image, packed.stand_ins, {path: (size + 1, "0" * 64)}) == packed.files
    files = packed_files(image, packed.stand_ins, {path: (size, "0" * 64)})
    assert [file.path for file in files if file.sha256 == "0" * 64] == [path]
