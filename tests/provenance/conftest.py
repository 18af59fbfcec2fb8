"""A small image, what a build would know of it, and keys."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from orchestrator.digest import file_digests
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.image_kind import KernelRelease
from orchestrator.nanos.kind import NanosKind
from orchestrator.nanos.packed import packed_files
from orchestrator.nanos.settings import read_settings
from orchestrator.plan.make import make_plan
from orchestrator.project.load import load_project
from orchestrator.provenance.records import parse_records
from orchestrator.provenance.sbom import PackedImage
from orchestrator.receipt.receipt import EngineUsed
from orchestrator.receipt.record import FinishedBuild
from orchestrator.resolved import Input, Inputs
from orchestrator.stub_kernel import stub_boot_image, stub_kernel
from orchestrator.verification import StandIn, Verification

LOCK = Path(__file__).resolve().parents[2] / "examples/groth16/Cargo.lock"
FILES = {
    "lib/libc.so.6": b"the C library",
    "lib/libm.so.6": b"the maths library",
    "prog": b"the program",
    "shim.so": b"a shim",
}
PROJECT = """\
name: prog
runtime: local
resources: {cpus: 3, memory: 640}
gevulot:
  git: https://me:hunter2@example.org/gevulot?token=hunter2
  base: debian:bookworm
base: debian:bookworm
build:
  secrets: [{id: git-token, env: HUNTER2_VARIABLE}]
  run: |
    curl -H 'Authorization: hunter2' https://example.org
  program: prog
nanos: {kernel: stub}
packer: native
manifest: {Env: {TOKEN: hunter2}}
mirrors: {"https://a.example/": "https://me:hunter2@mirror.example/"}
network: {http-proxy: "http://me:hunter2@proxy.example:3128"}
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """`prog.img`: four files, the stub kernel and a klib."""
    path = tmp_path / "prog.img"
    path.touch()
    boot = BootFiles(boot_img=stub_boot_image(), kernel=stub_kernel(), klibs={"tls": b"a klib"})
    with ImageWriter(path, boot) as writer:
        writer.add_directory("lib")
        for name, data in FILES.items():
            writer.add_file(name, len(data), [data])
        writer.finish({"program": "/prog"})
    return path


@pytest.fixture
def packed(image: Path) -> PackedImage:
    """The image with records of one package, one lock file, and a stand-in."""
    stand_ins = (StandIn(path="/shim.so", text="not the real shim"), StandIn(path="input:ops", text="not ops"))
    owners = [
        f"{sha256(FILES[name])}\tmd5\tlibc6:amd64\t/{name}\n" for name in ("lib/libc.so.6", "lib/libm.so.6")
    ]  # fmt: skip
    checksum = "ab" * 32
    source = next(line for line in LOCK.read_text().splitlines() if line.startswith("source = "))
    crate = f'[[package]]\nname = "blake2"\nversion = "0.10.6"\n{source}\nchecksum = "{checksum}"\n'
    records = parse_records(
        {
            "os-release": b'ID=debian\nVERSION_CODENAME="bookworm"\n',
            "packages": b"libc6\t2.36-9+deb12u10\tamd64\tglibc\t2.36-9+deb12u10\nother\t1\tall\tother\t1\n",
            "owners": "".join(owners).encode(),
            "locks/Cargo.lock": crate.encode(),
            "left-out": b"gevulot/go.sum\n",
        }
    )
    return PackedImage(
        name="prog.img",
        digests=file_digests(image),
        kernel=KernelRelease(name="nanos", version="stub"),
        files=packed_files(image, stand_ins),
        records=records,
        stand_ins=stand_ins,
    )


@pytest.fixture
def built(image: Path, tmp_path: Path) -> FinishedBuild:
    """What a build of it would hand on."""
    project = tmp_path / "project" / "project.yaml"
    project.parent.mkdir()
    project.write_text(PROJECT)
    loaded = load_project(project)
    inputs = Inputs(
        nanos=Input(name="nanos", kind="stub", source="kernel: stub", pin={"version": "stub", "tree-sha256": "1" * 64}),
        gevulot=Input(
            name="gevulot", kind="git", source="https://example.org/gevulot", pin={"commit": "2" * 40}, note="a day old"
        ),
        base=Input(
            name="base", kind="image", source="debian:bookworm", pin={"digest": f"sha256:{'3' * 64}"}, reference="x"
        ),
        gevulot_base=Input(
            name="gevulot-base", kind="bootstrap", source="debian:bookworm", packages=("libc6=2.36",),
            pin={"sha256": "4" * 64, "size": "12", "suite": "bookworm"},
        ),
    )  # fmt: skip
    stand_ins = (StandIn(path="/shim.so", text="no shim"),)
    return FinishedBuild(
        kind=NanosKind(),
        project=loaded.project,
        plan=make_plan(loaded, read_settings(loaded), inputs),
        inputs=inputs,
        engine=EngineUsed(kind="podman", version="4.3.1", builder="buildah", private=False),
        image_path=str(image),
        digests=file_digests(image),
        ops_version=None,
        containerfile="FROM scratch\n",
        manifest="{}\n",
        context_sha256="5" * 64,
        stages=[],
        verification=Verification(
            image=image, size=1, checks=(), stand_ins=stand_ins, files=packed_files(image, stand_ins)
        ),
    )


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """An ed25519 key pair in PEM: (private, public)."""
    return write_keys(tmp_path, "key")


def write_keys(directory: Path, name: str) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = directory / f"{name}.pem", directory / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public
