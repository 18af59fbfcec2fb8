"""What lies beside an image speaks of that image, or `verify` says which of it doesn't, and ends with 6."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.provenance.attach import open_attachments
from orchestrator.provenance.beside import check_beside
from orchestrator.provenance.dsse import load_public_key, load_signing_key
from orchestrator.provenance.records import Records
from orchestrator.receipt.receipt import receipt_text
from orchestrator.receipt.record import FinishedBuild, make_receipt
from tests.support.cli import orchestrator

SUFFIXES = ("img", "receipt.json", "provenance.json", "sbom.cdx.json", "provenance.dsse.json")


@pytest.fixture
def signed(built: FinishedBuild, image: Path, keys: tuple[Path, Path]) -> Path:
    """`prog.img`, signed, with all that a build leaves beside it."""
    with open_attachments(image.parent, "prog", load_signing_key(keys[0])) as attachments:
        attached = attachments.write(built, Records(), datetime.now(UTC))
    image.with_suffix(".receipt.json").write_text(receipt_text(make_receipt(built, attached)))
    return image


def failed(image: Path, public: Path | None = None) -> list[str]:
    """What doesn't hold of what lies beside an image."""
    checks = check_beside(image, load_public_key(public) if public is not None else None)
    assert all(check.findings for check in checks if not check.ok)
    return [str(finding) for check in checks if not check.ok for finding in check.findings]


def edit(path: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_what_a_build_wrote_agrees(signed: Path, keys: tuple[Path, Path]) -> None:
    checks = check_beside(signed, load_public_key(keys[1]))
    assert [(check.id, check.ok, check.findings) for check in checks] == [
        ("receipt", True, ()), ("signature", True, ()), ("documents", True, ()),
    ]  # fmt: skip
    assert checks[-1].detail == "provenance.json, sbom.cdx.json, receipt.json as signed"


def test_renamed_together_it_agrees_still(signed: Path, keys: tuple[Path, Path]) -> None:
    for suffix in SUFFIXES:
        signed.with_name(f"prog.{suffix}").rename(signed.with_name(f"other.{suffix}"))
    assert failed(signed.with_name("other.img"), keys[1]) == []


def test_nothing_beside_an_image_is_no_check(image: Path) -> None:
    assert check_beside(image, None) == ()


@pytest.mark.parametrize("change", ["byte", "size"])
def test_a_receipt_of_another_image(signed: Path, change: str) -> None:
    data = signed.read_bytes()
    signed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if change == "byte" else data + bytes(512))
    (said,) = failed(signed)
    assert "prog.receipt.json is of another image: it says " in said
    assert ("BLAKE3" if change == "byte" else "bytes") in said
    ended = orchestrator("verify", signed, "--json")
    assert ended.code == 6
    assert [check["ok"] for check in ended.json()["checks"] if check["id"] == "receipt"] == [False]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"image": {"blake3": 3}}', "[" * 100_000, " " * (5 << 20)])
def test_what_is_no_receipt_is_a_warning(image: Path, text: str) -> None:
    image.with_suffix(".receipt.json").write_text(text)
    (check,) = check_beside(image, None)
    assert check.ok
    assert "is not a receipt" in str(check.findings[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda receipt: receipt["resources"].update(memory=64), "resources.memory is 64 here, and 640 in the signed"),
        (lambda receipt: receipt.update(runtime="devnet"), "runtime is devnet here, and local in the signed"),
        (lambda receipt: receipt.update(context_sha256="6" * 64), "context_sha256 is "),
        (lambda receipt: receipt.update(bootable=not receipt["bootable"]), "bootable is "),
        (lambda receipt: receipt["inputs"].pop(), " is only in the signed provenance"),
        (
            lambda receipt: receipt["inputs"][0]["pin"].update({"tree-sha256": "7" * 64}),
            "gevulotTreeSha256 of input gevulot is 7777",
        ),
        (
            lambda receipt: receipt["inputs"].append({**receipt["inputs"][0], "name": "ops"}),
            "input ops is only in the receipt",
        ),
        (lambda receipt: receipt["attachments"][0].update(sha256="9" * 64), "the SHA-256 of prog."),
        (lambda receipt: receipt["inputs"][0].pop("kind"), "receipt: inputs[0].kind: is missing"),
        (lambda receipt: receipt.update(attachments={}), "receipt: attachments: must be a list"),
    ],
)
def test_a_receipt_that_says_something_else_than_was_signed(
    signed: Path, keys: tuple[Path, Path], change: Callable[[Any], object], words: str
) -> None:
    edit(signed.with_suffix(".receipt.json"), change)
    assert failed(signed) == []
    (said,) = failed(signed, keys[1])
    assert "prog.receipt.json: " in said
    assert words in said


@pytest.mark.parametrize("suffix", ["provenance.json", "sbom.cdx.json"])
def test_a_document_that_was_not_signed(signed: Path, keys: tuple[Path, Path], suffix: str) -> None:
    path = signed.with_name(f"prog.{suffix}")
    path.write_text(path.read_text().replace("prog", "porg", 1))
    said = failed(signed, keys[1])
    # The receipt names its hash too.
    assert [f"prog.{name}: " in pair for name, pair in zip((suffix, "receipt.json"), said, strict=True)] == [True, True]
    path.unlink()
    assert failed(signed, keys[1]) == []


@pytest.mark.parametrize("suffix", ["provenance.json", "sbom.cdx.json", "receipt.json"])
@pytest.mark.parametrize("data", [b"", b"\xff", b"[1]", b'{"inputs": [3], "attachments": {}, "resources": []}'])
def test_any_bytes_are_no_document(signed: Path, keys: tuple[Path, Path], suffix: str, data: bytes) -> None:
    signed.with_name(f"prog.{suffix}").write_bytes(data)
    assert failed(signed, keys[1])
