"""The receipt: what a build writes, what is read of it again, and its schema, which are one model."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orchestrator.errors import UsageError
from orchestrator.receipt.read import load_receipt, read_receipt
from orchestrator.receipt.receipt import Attachment, BuildWarning, ShimUsed, StageTime, receipt_document, receipt_text
from orchestrator.receipt.record import FinishedBuild, make_receipt
from orchestrator.receipt.schema import json_schema, json_schema_text
from orchestrator.resources import MANIFESTS
from tests.support.receipts import receipt_document as a_document
from tests.support.receipts import receipt_text as a_text

VALIDATOR = jsonschema.Draft202012Validator(json_schema())
EVERYTHING = {
    "stages": (StageTime(stage="program", step="RUN make", seconds=0.1, cached=False),),
    "warnings": (BuildWarning(source="staging", text="'x' is left out: ä"),),
    "shim": ShimUsed(key="shim-1", sha256="6" * 64, reused=True),
}
TOP = ["schema", "orchestrator", "finished", "name", "runtime", "image", "program_hash", "packer", "ops_version",
       "nanos_version", "bootable", "stand_ins", "inputs", "shim", "containerfile_sha256", "manifest_sha256",
       "context_sha256", "engine", "stages", "warnings", "verification", "resources", "attachments"]  # fmt: skip


def test_the_schema_is_what_the_model_says() -> None:
    assert (MANIFESTS / "receipt.schema.json").read_text() == json_schema_text(), "run `make docs`"


def test_every_key_of_the_schema_is_explained() -> None:
    schema = json_schema()
    for table in [schema, *schema["$defs"].values()]:
        assert table["additionalProperties"] is False
        for name, key in table["properties"].items():
            assert key["description"].endswith("."), name


@pytest.mark.parametrize("more", [{}, EVERYTHING], ids=["least", "everything"])
def test_what_is_written_is_as_the_schema_says_and_reads_back_the_same(
    built: FinishedBuild, tmp_path: Path, more: dict[str, Any]
) -> None:
    attached = (Attachment(kind="sbom", file="prog.sbom.cdx.json", sha256="7" * 64),)
    receipt = make_receipt(replace(built, **more), attached)
    text = receipt_text(receipt)
    document = json.loads(text)
    VALIDATOR.validate(document)
    assert list(document) == [name for name in TOP if name != "shim" or more]
    assert document["resources"] == {"cpus": 3, "memory": 640, "gpus": 0}
    assert [list(row) for row in document["inputs"]][:2] == [
        ["name", "kind", "source", "pin", "note"], ["name", "kind", "source", "pin"],
    ]  # fmt: skip
    (tmp_path / "x.receipt.json").write_text(text)
    assert receipt_text(load_receipt(tmp_path / "x.receipt.json")) == text


def test_what_a_newer_version_adds_is_passed_over_and_kept(tmp_path: Path) -> None:
    document = a_document("x", "0" * 64, later={"deep": [1, {"a": None}]})
    document["engine"]["later"] = "x"
    (tmp_path / "x.receipt.json").write_text(json.dumps(document))
    receipt = read_receipt(tmp_path / "x.img")
    assert receipt is not None
    assert receipt_document(receipt) == document


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert read_receipt(tmp_path / "x.img") is None


def _without(name: str) -> str:
    return json.dumps({key: value for key, value in a_document("x", "0" * 64).items() if key != name})


def _resources(**changes: object) -> str:
    return a_text("x", "0" * 64, resources={"cpus": 2, "memory": 512, "gpus": 0} | changes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("[1]", "must be an object"),
        ("{}", "is missing"),
        ("[" * 200_000, "is not JSON: recursion limit"),
        ('{"image": ' * 60_000, "is not JSON: recursion limit"),
        (a_text("x", "0" * 64)[:-9], "is not JSON: EOF"),
        (a_text("x", "0" * 64, schema=2), "schema: is 2, must be 1"),
        (a_text("x", "0" * 64, later=1).replace('"later": 1', '"later": ' + "[" * 5000 + "]" * 5000), "recursion"),
        (a_text("x", "0" * 64, runtime="lokal"), "runtime: is lokal, must be devnet or local; did you mean `local`?"),
        (a_text("x", "zz"), "image.blake3: does not have the expected form"),
        (_resources(memory=-5), "resources.memory: is -5, must be at least 1"),
        (_resources(memory=10**30), "resources.memory: is 1000000000000000000000000000000, must be at most"),
        (_resources(memory=1).replace('"memory": 1', '"memory": 1' + "0" * 5000), "is not JSON: number out of range"),
        (_resources(memory=True), "resources.memory: must be a whole number"),
        (_resources(cpus="x\x1b[31m"), "resources.cpus: must be a whole number"),
        (_resources(gpu_families=["ampere", 3]), "resources.gpu_families[1]: must be text"),
        (_without("resources"), "resources: is missing"),
        ("x" * (5 << 20), "is larger than"),
        (a_text("x", "0" * 64, warnings=[1] * 500_000), "warnings[0]: must be an object"),
    ],
)  # fmt: skip
def test_a_damaged_one_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "x.receipt.json"
    path.write_text(text)
    for read, argument in ((read_receipt, tmp_path / "x.img"), (load_receipt, path)):
        with pytest.raises(UsageError) as caught:
            read(argument)
        assert caught.value.message.startswith(f"{path} is not a receipt: ")
        assert reason in caught.value.message
        assert "\n" not in caught.value.message and len(caught.value.message) < 400


def test_what_is_not_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.receipt.json")
    with pytest.raises(UsageError, match="is not a file"):
        read_receipt(tmp_path / "x.img")
