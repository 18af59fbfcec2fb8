"""Signatures: what was tampered with is found, by `verify --key` with exit code 6; unusable keys are usage errors."""

from __future__ import annotations

import base64
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.digest import Digests, file_digests
from orchestrator.errors import UsageError, VerificationError
from orchestrator.provenance.attach import open_attachments
from orchestrator.provenance.check import check_signature, require_signed
from orchestrator.provenance.dsse import (
    PAYLOAD_TYPE,
    PublicKey,
    envelope_text,
    load_public_key,
    load_signing_key,
    open_envelope,
)
from orchestrator.provenance.records import Records
from orchestrator.receipt.receipt import Attachment
from orchestrator.receipt.record import FinishedBuild
from tests.provenance.conftest import sha256, write_keys
from tests.support.cli import orchestrator


def attach(built: FinishedBuild, image: Path, private: Path | None) -> tuple[Attachment, ...]:
    key = load_signing_key(private) if private else None
    with open_attachments(image.parent, "prog", key) as attachments:
        return attachments.write(built, Records(), datetime.now(UTC))


@pytest.fixture
def envelope(built: FinishedBuild, image: Path, keys: tuple[Path, Path]) -> Path:
    """The image's envelope, signed by `keys`."""
    attach(built, image, keys[0])
    return image.with_name("prog.provenance.dsse.json")


def finding(image: Path, public: Path) -> str:
    check = check_signature(image, load_public_key(public))
    assert not check.ok
    return str(check.findings[0])


def test_a_signed_image_verifies(image: Path, keys: tuple[Path, Path], envelope: Path) -> None:
    assert check_signature(image, load_public_key(keys[1])).ok
    assert envelope.is_file()


def test_a_renamed_image_verifies(image: Path, keys: tuple[Path, Path], envelope: Path) -> None:
    other = image.rename(image.with_name("other.img"))
    envelope.rename(envelope.with_name("other.provenance.dsse.json"))
    assert check_signature(other, load_public_key(keys[1])).ok


@pytest.mark.parametrize("place", [0, 600, -1])
def test_a_changed_byte_of_the_image_is_found(image: Path, keys: tuple[Path, Path], envelope: Path, place: int) -> None:
    data = bytearray(image.read_bytes())
    data[place] ^= 1
    image.write_bytes(data)
    assert "not the image that was signed" in finding(image, keys[1])


def test_a_changed_statement_is_found(image: Path, keys: tuple[Path, Path], envelope: Path) -> None:
    """The statement is made to speak of another image: the signature no longer holds."""
    document = json.loads(envelope.read_text())
    statement = base64.b64decode(document["payload"])
    data = image.read_bytes() + b"more"
    image.write_bytes(data)
    digests = file_digests(image)
    changed = json.loads(statement)
    changed["subject"][0]["digest"] = {"sha256": digests.sha256, "blake3": digests.blake3}
    document["payload"] = base64.b64encode(json.dumps(changed).encode()).decode()
    envelope.write_text(json.dumps(document))
    assert "the signature is wrong" in finding(image, keys[1])


def test_another_key_is_refused(image: Path, keys: tuple[Path, Path], envelope: Path, tmp_path: Path) -> None:
    other = write_keys(tmp_path, "other")
    assert "did not sign it" in finding(image, other[1])


def test_no_signature_is_no_proof(image: Path, keys: tuple[Path, Path]) -> None:
    assert "--sign" in finding(image, keys[1])


def test_an_unsigned_build_takes_the_old_envelope_away(
    built: FinishedBuild, image: Path, keys: tuple[Path, Path], envelope: Path
) -> None:
    attach(built, image, None)
    assert not envelope.exists()


def test_openssl_agrees(image: Path, keys: tuple[Path, Path], envelope: Path, tmp_path: Path) -> None:
    """The envelope by hand, as DSSE's specification says: `DSSEv1 LEN TYPE LEN BODY`."""
    document = json.loads(envelope.read_text())
    body, kind = base64.b64decode(document["payload"]), document["payloadType"].encode()
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body))
    signature.write_bytes(base64.b64decode(document["signatures"][0]["sig"]))
    arguments = ["-pubin", "-inkey", str(keys[1]), "-rawin", "-in", str(message), "-sigfile", str(signature)]
    subprocess.run(["openssl", "pkeyutl", "-verify", *arguments], check=True, stdout=subprocess.DEVNULL)


def test_the_receipt_is_told_of_each_file(built: FinishedBuild, image: Path, keys: tuple[Path, Path]) -> None:
    attached = attach(built, image, keys[0])
    assert [attachment.kind for attachment in attached] == ["provenance", "sbom", "signature"]
    for attachment in attached:
        assert sha256((image.parent / attachment.file).read_bytes()) == attachment.sha256


def test_a_build_that_fails_changes_nothing(
    built: FinishedBuild, image: Path, keys: tuple[Path, Path], envelope: Path
) -> None:
    before = {path.name: path.read_bytes() for path in image.parent.glob("*.json")}

    def fails() -> None:
        with open_attachments(image.parent, "prog") as attachments:
            attachments.write(built, Records(left_out=("go.sum",)), datetime.now(UTC))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert {path.name: path.read_bytes() for path in image.parent.glob("*.json")} == before
    assert not list(image.parent.glob(".orchestrator-*"))


# --- keys --------------------------------------------------------------------------------------------------------


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def test_keys_of_openssl_are_taken(tmp_path: Path) -> None:
    private, public = str(tmp_path / "k.pem"), str(tmp_path / "p.pem")
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    assert load_signing_key(Path(private)).id == load_public_key(Path(public)).id


def test_a_key_with_a_password_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:x", "-out", str(path))
    with pytest.raises(UsageError, match="password") as caught:
        load_signing_key(path)
    assert "openssl pkey" in caught.value.remedy


@pytest.mark.parametrize("algorithm", ["ed448", "x25519", "rsa"])
def test_another_kind_of_key_is_refused(tmp_path: Path, algorithm: str) -> None:
    private, public = tmp_path / "k.pem", tmp_path / "p.pem"
    openssl("genpkey", "-algorithm", algorithm, "-out", str(private))
    openssl("pkey", "-in", str(private), "-pubout", "-out", str(public))
    with pytest.raises(UsageError, match="not an ed25519 key"):
        load_signing_key(private)
    with pytest.raises(UsageError, match="not an ed25519 key"):
        load_public_key(public)


def test_halves_mixed_up_and_no_keys_at_all(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="is a public key"):
        load_signing_key(keys[1])
    with pytest.raises(UsageError, match="is a private key") as caught:
        load_public_key(keys[0])
    assert "-pubout" in caught.value.remedy
    for load in (load_signing_key, load_public_key):
        with pytest.raises(UsageError, match="cannot be read"):
            load(tmp_path / "none.pem")
        (tmp_path / "text").write_text("no key")
        with pytest.raises(UsageError, match="in PEM"):
            load(tmp_path / "text")
        (tmp_path / "large").write_bytes(bytes(100_000))
        with pytest.raises(UsageError, match="too large"):
            load(tmp_path / "large")


# --- bytes from outside ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_keys(tmp_path_factory.mktemp("keys"), "key")


KEYS = ("payload", "payloadType", "signatures", "sig", "keyid", "_type", "subject")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["e30=", PAYLOAD_TYPE]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@given(data=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_no_envelope(pair: tuple[Path, Path], data: bytes) -> None:
    with pytest.raises(VerificationError):
        open_envelope(data, load_public_key(pair[1]))


def test_deep_nesting_is_no_envelope(pair: tuple[Path, Path]) -> None:
    with pytest.raises(VerificationError):
        open_envelope(b"[" * 1_000_000, load_public_key(pair[1]))


DIGESTS = Digests(size=1, sha256="a" * 64, blake3="b" * 64)


def check(pair: tuple[Path, Path], payload: bytes) -> None:
    key: PublicKey = load_public_key(pair[1])
    require_signed(envelope_text(payload, load_signing_key(pair[0])).encode(), key, "x.img", DIGESTS)


@given(payload=st.binary(max_size=100) | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_was_signed_proves_nothing_about_an_image(pair: tuple[Path, Path], payload: bytes) -> None:
    with pytest.raises(VerificationError):
        check(pair, payload)


NOT_THE_IMAGE = "not the image that was signed"
NO_STATEMENT = "what was signed is not a provenance statement: subject"


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ([], NOT_THE_IMAGE),
        ({}, NO_STATEMENT),
        ([{"digest": {}}], NOT_THE_IMAGE),
        ([{"digest": {"sha256": "a" * 64}}], NOT_THE_IMAGE),
        ([{"digest": {"sha256": "a" * 64, "blake3": "c" * 64}}], NOT_THE_IMAGE),
        ([{"digest": {"sha256": "c" * 64, "blake3": "b" * 64}}], NOT_THE_IMAGE),
        ([{"digest": {"sha256": "a" * 64, "blake3": None}}], NO_STATEMENT),
    ],
)
def test_both_digests_must_be_the_images(pair: tuple[Path, Path], subject: Any, words: str) -> None:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "subject": subject,
    }
    with pytest.raises(VerificationError, match=words):
        check(pair, json.dumps(statement).encode())
    # What else a subject or a statement says is for others: a third digest, a predicate of a later version.
    right = [{"digest": {"sha256": DIGESTS.sha256, "blake3": DIGESTS.blake3, "sha512": "d" * 128}, "uri": "u"}]
    check(pair, json.dumps({**statement, "subject": right, "predicate": {"later": 1}}).encode())


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_ends_with_6_and_what_is_wrong(
    image: Path, keys: tuple[Path, Path], envelope: Path, tmp_path: Path
) -> None:
    """The small image fails checks of its own (there is no such program): the signature's is looked at by itself."""
    checks = {row["id"]: row for row in orchestrator("verify", image, "--key", keys[1], "--json").json()["checks"]}
    assert checks["signature"]["ok"] is True
    other = write_keys(tmp_path, "other")[1]
    done = orchestrator("verify", image, "--key", other)
    assert done.code == 6
    assert "did not sign it" in done.stderr
    assert "FAIL Signed provenance" in done.stdout
    assert orchestrator("verify", image, "--key", keys[0]).code == 2
    assert orchestrator("verify", image, "--key", tmp_path / "none").code == 2


def test_a_key_that_can_not_sign_stops_a_build_before_it_begins(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    from tests.build.projects import write_project

    project = write_project(tmp_path / "p")
    out = tmp_path / "out"
    done = orchestrator("build", project, "-o", out, "--sign", keys[1], "--engine", f"unix://{tmp_path}/none.sock")
    assert done.code == 2
    assert "is a public key" in done.stderr
    assert not out.exists()
