"""A finished image from a shared cache: whole and signed by a trusted key, or not at all.

The first build is made by hand, its change out of it and without an engine (tests/build/test_repack.py), by a machine
that puts it into the shared cache. The others have an engine that isn't there: what they can't take ends with exit 3.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from orchestrator.build.check import check_project
from orchestrator.build.last_build import Asked
from orchestrator.build.result import Result
from orchestrator.build.shared_image import offer_image
from orchestrator.events import ignore
from orchestrator.provenance.dsse import envelope_text, load_signing_key
from orchestrator.receipt.read import load_receipt
from orchestrator.shared_cache.directory import DirectoryBackend
from orchestrator.shared_cache.places import open_backend
from orchestrator.shared_cache.results import SharedResults
from orchestrator.shared_cache.shared_cache import SharedCache
from tests.build.test_repack import NO_ENGINE, PROJECT, make_built
from tests.cli.conftest import Ended, cli
from tests.support.keys import write_keys

OF_THE_PROJECT = ("project.yaml", "project.lock", "manifest.json", "data.key", "sources")
SUFFIXES = ("img", "receipt.json", "sbom.cdx.json", "provenance.json")


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A shared cache in a directory, two keys (`fleet`, `foreign`), and the first machine's project."""

    folder: Path

    @property
    def shared(self) -> Path:
        return self.folder / "shared"

    @property
    def first(self) -> Path:
        return self.folder / "first"

    def cache(self, address: str | Path = "") -> tuple[str | Path, ...]:
        """Options of a machine that takes what is there."""
        return "--cache", address or self.shared, "--cache-trust", self.folder / "fleet.public.pem"

    def maker(self, address: str | Path = "", key: str = "fleet") -> tuple[str | Path, ...]:
        """Options of a machine that puts there what it has."""
        private = self.folder / f"{key}.pem"
        return "--cache", address or self.shared, "--cache-role", "read-write", "--cache-sign", private


@dataclass(frozen=True, kw_only=True)
class Other:
    """Another machine with a copy of the project."""

    fleet: Fleet
    folder: Path

    def build(self, *more: str | Path, cache: tuple[str | Path, ...] | None = None) -> Ended:
        options = self.fleet.cache() if cache is None else cache
        out = self.folder / "out"
        return cli("build", self.folder / "project.yaml", "-o", out, "--engine", NO_ENGINE, *options, *more)

    @property
    def left(self) -> list[str]:
        """What lies in the output directory, but for locks."""
        out = self.folder / "out"
        return sorted(path.name for path in out.iterdir() if not path.name.endswith(".lock")) if out.exists() else []


def machine_of(patched: pytest.MonkeyPatch, folder: Path) -> None:
    patched.setenv("ORCHESTRATOR_CACHE_DIR", str(folder / "cache"))
    patched.setenv("XDG_CONFIG_HOME", str(folder / "config"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """What the first machine left. Nobody writes to it."""
    fleet = Fleet(folder=tmp_path_factory.mktemp("fleet"))
    write_keys(fleet.folder, "fleet")
    write_keys(fleet.folder, "foreign")
    fleet.first.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        machine_of(patched, fleet.first)
        built = make_built(fleet.first)
        built.manifest("now")
        done = built.build(*fleet.maker())
    assert done.code == 0, done.err
    assert "put the finished image into the shared cache" in done.err
    yield fleet


@pytest.fixture
def fleet(whole: Fleet, tmp_path: Path) -> Fleet:
    """The same, to be changed."""
    shutil.copytree(whole.folder, tmp_path / "fleet", symlinks=True)
    return Fleet(folder=tmp_path / "fleet")


@pytest.fixture
def other(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Other:
    folder = tmp_path / "other"
    folder.mkdir()
    machine_of(monkeypatch, folder)
    for name in OF_THE_PROJECT:
        source = fleet.first / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
    return Other(fleet=fleet, folder=folder)


def test_another_machine_takes_it_without_an_engine(other: Other) -> None:
    done = other.build()
    assert done.code == 0, done.err
    assert "program: taken from " in done.err
    assert "signed by key " in done.err
    first, here = other.fleet.first / "out", other.folder / "out"
    assert other.left == sorted(f"program.{suffix}" for suffix in SUFFIXES)
    for suffix in ("img", "sbom.cdx.json", "provenance.json"):
        assert (here / f"program.{suffix}").read_bytes() == (first / f"program.{suffix}").read_bytes()
    receipt, before = (json.loads((out / "program.receipt.json").read_text()) for out in (here, first))
    assert receipt["taken"]["cache"] == str(other.fleet.shared)
    assert receipt["image"] == {**before["image"], "path": str(here / "program.img")}
    assert receipt["warnings"] == before["warnings"]
    assert cli("verify", here / "program.img").code == 0
    assert other.build("--json").json()["unchanged"] == ["program"]


def test_the_same_from_a_registry_and_an_object_store(other: Other, address: str) -> None:
    backend_of_files = DirectoryBackend(other.fleet.shared)
    with_all = open_backend(address, writable=True)
    for name in backend_of_files.names():
        kind, _, digits = name.partition("-")
        with (other.fleet.shared / kind / digits[:2] / name).open("rb") as stream:
            with_all.store(name, stream)
    with_all.close()
    done = other.build(cache=other.fleet.cache(address))
    assert done.code == 0, done.err
    assert other.left == sorted(f"program.{suffix}" for suffix in SUFFIXES)


def edit(path: Path, text: str) -> None:
    path.write_text(text)


SAME: dict[str, Callable[[Path], object]] = {
    "touched": lambda at: os.utime(at / "sources/program.c"),
    "a comment": lambda at: edit(at / "project.yaml", f"# x\n{PROJECT}"),
    "other mirrors": lambda at: edit(at / "project.yaml", PROJECT + "mirrors: {'pypi:': https://mirror.invalid}\n"),
}
CHANGED: dict[str, Callable[[Path], object]] = {
    "source": lambda at: edit(at / "sources/program.c", "int main(void) { return 1; }\n"),
    "new source": lambda at: edit(at / "sources/new.c", ""),
    "executable source": lambda at: (at / "sources/program.c").chmod(0o755),
    "manifest": lambda at: edit(at / "manifest.json", '{"Args": ["later"]}'),
    "file of the host": lambda at: edit(at / "data.key", "yek" * 1000),
    "project": lambda at: edit(at / "project.yaml", PROJECT.replace("run: make", "run: make -j2")),
    "resources": lambda at: edit(at / "project.yaml", PROJECT + "resources: {memory: 999}\n"),
    "lock": lambda at: edit(at / "project.lock", (at / "project.lock").read_text().replace("5" * 64, "6" * 64)),
    "lock of less": lambda at: edit(at / "project.yaml", PROJECT.replace("base:1", "base:2")),
    "no lock": lambda at: (at / "project.lock").unlink(),
    "a secret": lambda at: edit(
        at / "project.yaml", PROJECT.replace("program: program}", "program: program, secrets: [{id: x, env: HOME}]}")
    ),
}


@pytest.mark.parametrize("change", [*SAME, *CHANGED])
def test_what_decides_an_image(other: Other, change: str) -> None:
    {**SAME, **CHANGED}[change](other.folder)
    done = other.build()
    assert done.code == (0 if change in SAME else 3), done.err
    assert "refused" not in done.err


@pytest.mark.parametrize("option", ["--no-cache", "--verify-cached"])
def test_options_that_go_the_long_way(other: Other, option: str) -> None:
    assert other.build(option).code == 3


def test_nobody_is_trusted_unasked(other: Other) -> None:
    done = other.build(cache=("--cache", other.fleet.shared))
    assert (done.code, other.left) == (3, [])
    assert "warning" not in done.err


def test_settings_say_the_same_as_options(other: Other) -> None:
    settings = other.folder / "config/gevulot-orchestrator"
    settings.mkdir(parents=True)
    shutil.copyfile(other.fleet.folder / "fleet.public.pem", settings / "fleet.pem")
    (settings / "config.yaml").write_text(f"cache: {{url: {other.fleet.shared}, trusted-keys: [fleet.pem]}}\n")
    assert other.build("--cache", "none", cache=()).code == 3
    assert other.build(cache=()).code == 0


def path_of(fleet: Fleet, name: str) -> Path:
    kind, _, digits = name.partition("-")
    return fleet.shared / kind / digits[:2] / name


def statement_path(fleet: Fleet) -> Path:
    (path,) = (fleet.shared / "result").glob("*/*")
    return path


def statement(fleet: Fleet) -> dict[str, Any]:
    envelope = json.loads(statement_path(fleet).read_text())
    document: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    return document


def blob(fleet: Fleet, suffix: str) -> Path:
    (row,) = (row for row in statement(fleet)["subject"] if row["name"] == f"program.{suffix}")
    return path_of(fleet, f"file-{row['digest']['sha256']}")


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    data = change(path.read_bytes())
    path.unlink()
    path.write_bytes(data)


def sign(fleet: Fleet, document: dict[str, Any], key: str = "fleet") -> None:
    text = envelope_text(json.dumps(document).encode(), load_signing_key(fleet.folder / f"{key}.pem"))
    rewrite(statement_path(fleet), lambda _old: text.encode())


def of_another_key(fleet: Fleet) -> None:
    """An old statement, of what this project once was, under the name of what it is now."""
    document = statement(fleet)
    sign(fleet, {**document, "predicate": {**document["predicate"], "key": "a" * 64}})


def of_another_project(fleet: Fleet) -> None:
    document = statement(fleet)
    rows = [{**row, "name": row["name"].replace("program", "../evil")} for row in document["subject"]]
    sign(fleet, {**document, "subject": rows})


def with_other_documents(fleet: Fleet) -> None:
    """The right image with the documents of another: the receipt names the right ones."""
    document, evil = statement(fleet), b"{}"
    digest = hashlib.sha256(evil).hexdigest()
    path_of(fleet, f"file-{digest}").parent.mkdir(parents=True, exist_ok=True)
    path_of(fleet, f"file-{digest}").write_bytes(evil)
    for row in document["subject"]:
        if row["name"].endswith("sbom.cdx.json"):
            row |= {"digest": {"sha256": digest}, "size": len(evil)}
    sign(fleet, document)


def an_image_that_fails(fleet: Fleet) -> None:
    """A trusted machine that signs whatever it has: `verify` still looks."""
    evil = bytes(1 << 20)
    document = statement(fleet)
    receipt = json.loads(blob(fleet, "receipt.json").read_text())
    digest = hashlib.sha256(evil).hexdigest()
    receipt["image"] |= {"sha256": digest, "blake3": blake3(evil).hexdigest(), "size": len(evil)}
    for suffix, data in (("img", evil), ("receipt.json", json.dumps(receipt).encode())):
        name = hashlib.sha256(data).hexdigest()
        path_of(fleet, f"file-{name}").parent.mkdir(parents=True, exist_ok=True)
        path_of(fleet, f"file-{name}").write_bytes(data)
        for row in document["subject"]:
            if row["name"] == f"program.{suffix}":
                row |= {"digest": {"sha256": name}, "size": len(data)}
    sign(fleet, document)


POISON: dict[str, Callable[[Fleet], object]] = {
    "image changed": lambda fleet: rewrite(blob(fleet, "img"), lambda data: data[:-9] + b"!" + data[-8:]),
    "image truncated": lambda fleet: rewrite(blob(fleet, "img"), lambda data: data[:-1]),
    "image huge": lambda fleet: rewrite(blob(fleet, "img"), lambda data: data * 2),
    "receipt changed": lambda fleet: rewrite(blob(fleet, "receipt.json"), lambda data: data.replace(b"true", b"null")),
    "unsigned": lambda fleet: rewrite(statement_path(fleet), lambda _old: json.dumps(statement(fleet)).encode()),
    "no signatures": lambda fleet: rewrite(
        statement_path(fleet), lambda old: json.dumps({**json.loads(old), "signatures": []}).encode()
    ),
    "foreign signature": lambda fleet: sign(fleet, statement(fleet), "foreign"),
    "statement changed": lambda fleet: rewrite(
        statement_path(fleet),
        lambda old: json.dumps({**json.loads(old), "payload": base64.b64encode(b"{}").decode()}).encode(),
    ),
    "statement truncated": lambda fleet: rewrite(statement_path(fleet), lambda old: old[:-5]),
    "statement huge": lambda fleet: rewrite(statement_path(fleet), lambda old: old + b" " * (1 << 21)),
    "replayed": of_another_key,
    "a signed provenance": lambda fleet: sign(
        fleet, {**statement(fleet), "predicateType": "https://slsa.dev/provenance/v1"}
    ),
    "another project's": of_another_project,
    "mixed up": with_other_documents,
    "no image at all": an_image_that_fails,
}


@pytest.mark.parametrize("poison", POISON)
def test_a_poisoned_result_is_refused(other: Other, poison: str) -> None:
    POISON[poison](other.fleet)
    done = other.build()
    assert done.code == 3, done.err
    assert done.err.count("is refused, because ") == 1, done.err
    assert other.left == []


def test_a_file_that_is_gone_is_no_result(other: Other) -> None:
    blob(other.fleet, "sbom.cdx.json").unlink()
    assert (other.build().code, other.left) == (3, [])


def test_a_shared_cache_that_is_down_is_one_warning(other: Other) -> None:
    done = other.build(cache=other.fleet.cache("oci://127.0.0.1:9/cache"))
    assert done.code == 3
    assert done.err.count("is not used from here on") == 1


def test_what_changed_since_the_build_is_not_put_there(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is of the sources before."""
    machine_of(monkeypatch, tmp_path)
    built, receipt = make_built(tmp_path), tmp_path / "out/program.receipt.json"
    backend = DirectoryBackend(tmp_path / "shared", make=True)
    cache = SharedCache(backend, writable=True, emit=ignore)
    results = SharedResults(cache, trusted=(), sign=load_signing_key(fleet.folder / "fleet.pem"))

    def offered() -> int:
        result = Result(image=built.image, receipt=receipt, document=load_receipt(receipt))
        asked = Asked(checked=check_project(tmp_path / "project.yaml"), output=tmp_path / "out", engine=NO_ENGINE)
        offer_image(asked, result, results, ignore, None)
        return len([name for name in backend.names() if name.startswith("result-")])

    (tmp_path / "sources/program.c").write_text("int main(void) { return 2; }\n")
    assert offered() == 0
    built.build_whole()
    assert offered() == 1


def test_who_signs_provenance_takes_what_it_signed_itself(
    other: Other, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, public = (other.fleet.folder / name for name in ("foreign.pem", "foreign.public.pem"))
    assert other.build("--sign", mine).code == 3  # nobody has it with this signature
    signer = tmp_path / "signer"
    signer.mkdir()
    with monkeypatch.context() as patched:
        machine_of(patched, signer)
        built = make_built(signer)
        built.manifest("signed")
        done = built.build(*other.fleet.maker(), "--sign", mine)
    assert done.code == 0, done.err
    shutil.copyfile(signer / "manifest.json", other.folder / "manifest.json")
    assert other.build().code == 3
    assert other.build("--sign", mine).code == 0
    assert cli("verify", other.folder / "out/program.img", "--key", public).code == 0
