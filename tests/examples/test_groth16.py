"""Prover and verifier against the stand-in shim: a real proof, from task to verdict."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.examples.conftest import cargo
from tests.examples.guest import Ended, Guest

pytestmark = pytest.mark.slow  # compiles arkworks

MODULUS = 21888242871839275222246405745257275088548364400416034343698204186575808495617
HASH_OF_12345 = "0x0d8ee0b892d8fbbfc4a4f5b921e874606332c3e7435cc1ce3518427cd6595de3"
PROOF_AND_HASH = ("proof.bin", "public.txt")


@dataclass(frozen=True, kw_only=True)
class Built:
    """Where the programs and the demo keys are."""

    programs: Path
    params: Path


@pytest.fixture(scope="module")
def built(examples: Path, shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    target = cargo(examples / "groth16", "build", "--release", GEVULOT_LIB_DIR=str(shim.parent))
    params = tmp_path_factory.mktemp("params")
    subprocess.run([target / "release/demo-setup", params], check=True, capture_output=True)
    return Built(programs=target / "release", params=params)


@dataclass(frozen=True)
class Pair:
    """One guest with both programs; tasks are run as `shim-executor` would."""

    guest: Guest

    def prove(self, *args: str, files: tuple[str, ...] = ()) -> Ended:
        self.guest.give_task(*args, files=files)
        return self.guest.run("target/release/my-prover", RUST_BACKTRACE="1")

    def verify(self, *args: str, files: tuple[str, ...] = PROOF_AND_HASH) -> Ended:
        self.guest.give_task(*args, files=files)
        return self.guest.run("target/release/my-verifier", RUST_BACKTRACE="1")

    def file(self, name: str) -> Path:
        return self.guest.workspace / name


@pytest.fixture
def pair(guest_with_shim: Guest, built: Built) -> Pair:
    for name in ("my-prover", "my-verifier"):
        guest_with_shim.put(built.programs / name, f"target/release/{name}")
    for name in ("proving.key", "verifying.key"):
        guest_with_shim.put(built.params / name, f"params/{name}")
    return Pair(guest_with_shim)


def test_a_proof_is_made_and_accepted(pair: Pair) -> None:
    assert pair.prove("--preimage", "12345").status == 0
    files = ["/workspace/proof.bin", "/workspace/public.txt"]
    assert pair.guest.result()["Ok"] == {"id": "task-1", "data": list(HASH_OF_12345.encode()), "files": files}
    assert pair.file("proof.bin").stat().st_size == 128
    assert pair.file("public.txt").read_text() == HASH_OF_12345 + "\n"
    assert pair.verify().status == 0
    assert pair.guest.data() == "true"
    assert pair.verify(f"--hash={HASH_OF_12345}", files=("/workspace/proof.bin",)).status == 0
    assert pair.guest.data() == "true"


def test_one_flipped_byte_is_rejected(pair: Pair) -> None:
    pair.prove("--preimage=0x3039")
    proof = pair.file("proof.bin").read_bytes()
    for at in (0, 31, 40, 64, 127):
        pair.file("proof.bin").write_bytes(proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :])
        ended = pair.verify()
        assert (ended.status, pair.guest.data()) == (0, "false"), at
        assert "NOT valid" in ended.stdout
    pair.file("proof.bin").write_bytes(proof)
    pair.verify()
    assert pair.guest.data() == "true"
    pair.file("public.txt").write_text(HASH_OF_12345[:-1] + "4")
    pair.verify()
    assert pair.guest.data() == "false"
    pair.file("proof.bin").write_bytes(b"")
    pair.verify()
    assert pair.guest.data() == "false"


def test_the_preimage_may_come_in_a_file(pair: Pair) -> None:
    pair.file("preimage.txt").write_text("12345\n")
    pair.prove(files=("preimage.txt",))
    assert pair.guest.data() == HASH_OF_12345


@pytest.mark.parametrize(
    ("args", "files", "says"),
    [
        ((), (), "no preimage; give"),
        (("--preimage",), (), "no preimage; give"),
        (("--preimage", "twelve"), (), '"twelve" is no number'),
        (("--preimage", str(MODULUS)), (), "is not below the modulus"),
        ((), ("preimage.txt",), "/workspace/preimage.txt: No such file"),
    ],
)
def test_a_task_that_cannot_be_done_says_so(
    pair: Pair, args: tuple[str, ...], files: tuple[str, ...], says: str
) -> None:
    ended = pair.prove(*args, files=files)
    assert ended.status == 1
    assert pair.guest.data().startswith("error: ")
    assert says in pair.guest.data()
    assert pair.guest.result()["Ok"]["files"] == []
    assert not pair.file("proof.bin").exists()


def test_a_verifier_without_its_files_says_so(pair: Pair) -> None:
    assert pair.verify(files=()).status == 1
    assert pair.guest.data() == "error: the task has no file public.txt"
    assert pair.verify("--hash", "1", files=()).status == 1
    assert pair.guest.data() == "error: the task has no file proof.bin"
    pair.prove("--preimage", "1")
    (pair.guest.root / "params/verifying.key").unlink()
    assert pair.verify().status == 1
    assert "/params/verifying.key: No such file" in pair.guest.data()


def test_the_sample_tasks_fit_each_other(pair: Pair, examples: Path) -> None:
    for name, expected in (("my-prover", HASH_OF_12345), ("my-verifier", "true")):
        task = json.loads((examples / name / "task.json").read_text())
        pair.guest.give_task(*task["args"], files=tuple(task["files"]))
        assert pair.guest.run(f"target/release/{name}").status == 0
        assert pair.guest.data() == expected


def test_the_circuits_own_tests_pass(examples: Path) -> None:
    cargo(examples / "groth16", "test", "--release", "-p", "preimage-circuit")
