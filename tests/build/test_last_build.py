"""A build of which nothing has changed has nothing to do, and whatever may decide the image is a change.

No engine: the finished build is made by hand, and what a command does is seen by whether it asks for one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.build import last_build
from orchestrator.build.check import check_project
from orchestrator.build.last_build import Asked, LastBuild
from orchestrator.build.result import Result
from orchestrator.build.stamps import Stamps, contents
from orchestrator.build.state import BuildOptions
from orchestrator.receipt.read import load_receipt
from orchestrator.stages import STAGES
from tests.cli.conftest import cli
from tests.support.cli import imported_by
from tests.support.receipts import receipt_text

NO_ENGINE = "unix:///nowhere/engine.sock"
DIGEST = f"sha256:{'5' * 64}"
TREE = "7" * 64
PROJECT = """\
name: program
runtime: local
base: {image: registry.invalid/base:1}
build:
  context: sources
  run: make
  program: program
  secrets: [{id: token, env: TOKEN}, {id: key, file: key.txt}]
nanos: {path: nanos}
packer: native
manifest: manifest.json
network: {ca: ca.pem}
stage: {files: [{from: data.key, to: keys/data.key}]}
"""
LOCK = {
    "version": 1,
    "inputs": {
        "base": {"kind": "image", "requested": {"image": "registry.invalid/base:1"}, "resolved": {"digest": DIGEST}},
        "nanos": {"kind": "directory", "requested": {"path": "nanos"}, "resolved": {"tree-sha256": TREE}},
    },
}
INPUTS = [
    {"name": "base", "kind": "image", "source": "registry.invalid/base:1", "pin": {"digest": DIGEST}},
    {"name": "nanos", "kind": "directory", "source": "nanos", "pin": {"tree-sha256": TREE}},
]
FILES = {
    "project.yaml": PROJECT,
    "project.lock": json.dumps(LOCK),
    "manifest.json": '{"Args": ["x"]}',
    "key.txt": "key",
    "data.key": "data",
    "ca.pem": "certificates of a company",
    "system-ca.pem": "certificates of the host",
    "nanos/kernel.img": "kernel",
    "nanos/boot.img": "boot",
    "sources/program.c": "int main(void) { return 0; }\n",
    "sources/lib/part.c": "int part;\n",
    "sources/notes.txt": "notes",
    "sources/.dockerignore": "notes.txt\n",
    "config/gevulot-orchestrator/config.yaml": "mirrors: {}\n",
    "out/program.sbom.cdx.json": "{}",
    "out/program.provenance.json": "{}",
    "out/program.img": "the image",
}


@dataclass(frozen=True, kw_only=True)
class Built:
    """A project and what its last build left."""

    folder: Path

    def asked(self) -> Asked:
        checked = check_project(self.folder / "project.yaml")
        return Asked(checked=checked, output=self.folder / "out", engine=NO_ENGINE)

    def unchanged(self, **changes: object) -> Result | None:
        return LastBuild(replace(self.asked(), **changes)).unchanged()  # type: ignore[arg-type]

    def result(self) -> Result:
        out = self.folder / "out"
        receipt = out / "program.receipt.json"
        return Result(image=out / "program.img", receipt=receipt, document=load_receipt(receipt))

    def remember(self) -> None:
        last = LastBuild(self.asked())
        last.unchanged()
        last.remember(self.result())

    @property
    def record(self) -> Path:
        (path,) = (self.folder / "cache/builds").iterdir()
        return path

    def command(self, *more: str) -> tuple[str | Path, ...]:
        return ("build", self.folder / "project.yaml", "-o", self.folder / "out", "--engine", NO_ENGINE, *more)


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Built:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "sources/link").symlink_to("program.c")
    attached = [
        {"kind": kind, "file": f"program.{kind_file}", "sha256": "0" * 64}
        for kind, kind_file in (("sbom", "sbom.cdx.json"), ("provenance", "provenance.json"))
    ]
    text = receipt_text(
        "program", "1" * 64, path=str(tmp_path / "out/program.img"), inputs=INPUTS, attachments=attached
    )
    (tmp_path / "out/program.receipt.json").write_text(text)
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system-ca.pem"))
    monkeypatch.setenv("TOKEN", "token")
    done = Built(folder=tmp_path)
    done.remember()
    return done


def same_size(path: Path) -> None:
    """Other bytes, and the size and time from before."""
    status = path.stat()
    path.write_text(path.read_text().swapcase())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def copied_over(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def other_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("lib/part.c")


def git_repository(folder: Path) -> None:
    for command in (["init", "--quiet"], ["add", "sources"]):
        subprocess.run(["git", "-C", folder, *command], check=True)


CHANGES: dict[str, Callable[[Path], object]] = {
    "touched": lambda at: os.utime(at / "sources/program.c"),
    "same size and time": lambda at: same_size(at / "sources/program.c"),
    "added": lambda at: (at / "sources/lib/new.c").write_text(""),
    "added directory": lambda at: (at / "sources/empty").mkdir(),
    "removed": lambda at: (at / "sources/lib/part.c").unlink(),
    "renamed": lambda at: (at / "sources/lib/part.c").rename(at / "sources/lib/other.c"),
    "executable": lambda at: (at / "sources/program.c").chmod(0o755),
    "replaced by a copy": lambda at: copied_over(at / "sources/program.c"),
    "link": lambda at: other_link(at / "sources/link"),
    "ignored no longer": lambda at: (at / "sources/.dockerignore").write_text("\n"),
    "ignored now": lambda at: (at / "sources/.dockerignore").write_text("notes.txt\nlib\n"),
    "project": lambda at: (at / "project.yaml").write_text(PROJECT.replace("run: make", "run: make -j2")),
    "manifest": lambda at: (at / "manifest.json").write_text('{"Args": ["y"]}'),
    "lock": lambda at: (at / "project.lock").write_text(json.dumps(LOCK).replace("5" * 64, "6" * 64)),
    "no lock": lambda at: (at / "project.lock").unlink(),
    "settings": lambda at: (at / "config/gevulot-orchestrator/config.yaml").write_text(
        "mirrors: {'debian:': https://mirror.invalid/debian}\n"
    ),
    "secret file": lambda at: (at / "key.txt").write_text("another"),
    "no secret file": lambda at: (at / "key.txt").unlink(),
    "certificates": lambda at: same_size(at / "ca.pem"),
    "certificates of the host": lambda at: same_size(at / "system-ca.pem"),
    "kernel": lambda at: same_size(at / "nanos/kernel.img"),
    "file of stage.files": lambda at: same_size(at / "data.key"),
    "git's index": git_repository,
    "image replaced": lambda at: copied_over(at / "out/program.img"),
    "image written to": lambda at: same_size(at / "out/program.img"),
    "no image": lambda at: (at / "out/program.img").unlink(),
    "no receipt": lambda at: (at / "out/program.receipt.json").unlink(),
    "receipt": lambda at: (at / "out/program.receipt.json").write_text(
        (at / "out/program.receipt.json").read_text().replace("2026-01-02", "2026-01-03")
    ),
    "half a receipt": lambda at: (at / "out/program.receipt.json").write_text("{"),
    "bill of materials": lambda at: same_size(at / "out/program.sbom.cdx.json"),
    "no provenance": lambda at: (at / "out/program.provenance.json").unlink(),
}


def test_a_containerfile_that_its_context_leaves_out_is_noticed(built: Built) -> None:
    """As many a .dockerignore does."""
    own = PROJECT.replace("run: make", "containerfile: Dockerfile").replace("program: program", "program: /program", 1)
    (built.folder / "project.yaml").write_text(own)
    (built.folder / "sources/.dockerignore").write_text("Dockerfile\n")
    (built.folder / "sources/Dockerfile").write_text("FROM registry.invalid/base:1\nRUN make\n")
    built.remember()
    assert built.unchanged() is not None
    (built.folder / "sources/Dockerfile").write_text("FROM registry.invalid/base:1\nRUN make all\n")
    assert built.unchanged() is None


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(built: Built, change: str) -> None:
    assert built.unchanged() is not None
    CHANGES[change](built.folder)
    assert built.unchanged() is None


@pytest.mark.parametrize(
    "name", ["TOKEN", "DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINER_CONNECTION", "DOCKER_BUILDKIT"]
)
def test_variables_that_count(built: Built, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "other")
    assert built.unchanged() is None


def test_another_docker_context_counts(built: Built, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auths": {}}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert built.unchanged() is not None
    (tmp_path / "config.json").write_text('{"auths": {}, "currentContext": "far"}')
    assert built.unchanged() is None


@pytest.mark.parametrize(
    "changes", [{"engine": "docker"}, {"locked": True}, {"offline": True}, {"sign": Path(__file__)}]
)
def test_options_that_count(built: Built, changes: dict[str, object]) -> None:
    assert built.unchanged(**changes) is None


def test_another_version_of_the_program(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(last_build, "__version__", "9.9.9")
        assert built.unchanged() is None
    assert built.unchanged() is not None
    for part in ("PACKAGE", "CONTAINERFILES", "MANIFESTS"):
        copy = tmp_path / part
        shutil.copytree(getattr(last_build, part), copy, ignore=shutil.ignore_patterns("__pycache__"))
        with monkeypatch.context() as patched:
            patched.setattr(last_build, part, copy)
            assert built.unchanged() is None
            built.remember()
            assert built.unchanged() is not None
            edited = next(path for path in sorted(copy.rglob("*")) if path.is_file())
            edited.write_bytes(edited.read_bytes() + b"\n")
            assert built.unchanged() is None
        built.remember()


def test_a_clock_that_was_set_back(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    hour_ago = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: hour_ago)
    assert built.unchanged() is None


def test_times_in_the_future_are_not_believed(built: Built) -> None:
    """The file is read every time: its stamp never gets old enough."""
    source = built.folder / "sources/program.c"
    os.utime(source, (time.time() + 3600, time.time() + 3600))
    built.remember()
    assert built.unchanged() is not None
    same_size(source)
    assert built.unchanged() is None


def test_what_was_changed_just_before_is_read_as_well(tmp_path: Path) -> None:
    """Another content of the same stamp, within one tick of the file system's clock."""
    path, taken = tmp_path / "x", time.time_ns()
    path.write_text("a")
    stamps = Stamps()
    stamps.add_own("x", path)
    assert stamps.recent(taken) == [path]
    assert stamps.recent(taken + 10 * 10**9) == []
    before = contents([path])
    path.write_text("b")
    assert contents([path]) != before


def test_once_is_enough_to_read_what_was_new(built: Built) -> None:
    assert json.loads(built.record.read_text())["recent"]
    time.sleep(2.1)
    assert built.unchanged() is not None
    assert json.loads(built.record.read_text())["recent"] == ""
    assert built.unchanged() is not None


NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "an ignored file": lambda at: (at / "sources/notes.txt").write_text("others"),
    "another project's image": lambda at: (at / "out/other.img").write_text(""),
    "a cache of the network's": lambda at: (at / "cache/entries").mkdir(),
    "what runs of the image add": lambda at: (at / "out/program.receipt.json").write_text(
        json.dumps(
            {
                **json.loads((at / "out/program.receipt.json").read_text()),
                "smoke": {"passed": True, "reason": "x", "accel": "tcg", "seconds": 1.0, "at": "2026-01-02"},
                "rehearsal": {
                    "passed": True,
                    "reason": "x",
                    "engine": "none",
                    "seconds": 1.0,
                    "peak_memory": None,
                    "at": "2026-01-02",
                },
            }
        )
    ),
}


@pytest.mark.parametrize("change", NO_CHANGES)
def test_what_decides_nothing(built: Built, change: str) -> None:
    NO_CHANGES[change](built.folder)
    assert built.unchanged() is not None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"version": 2}', b"\xff" * 99, b"[" * 100_000])
def test_a_record_that_is_none_is_ignored_and_replaced(built: Built, data: bytes) -> None:
    built.record.write_bytes(data)
    assert built.unchanged() is None
    built.remember()
    assert built.unchanged() is not None


def test_the_record_is_no_link_and_tells_no_secret(built: Built) -> None:
    record = built.record
    text = record.read_text()
    assert "token" not in text
    assert record.parent.stat().st_mode & 0o077 == 0
    elsewhere = built.folder / "elsewhere.json"
    record.rename(elsewhere)
    record.symlink_to(elsewhere)
    assert built.unchanged() is None
    built.remember()
    assert not record.is_symlink()
    assert elsewhere.read_text() == text


def test_a_lock_that_differs_from_what_was_used_is_no_base_to_build_on(built: Built) -> None:
    """Local files that aren't as the lock says are worth a word in every build."""
    changed = json.dumps(LOCK).replace(TREE, "8" * 64)
    (built.folder / "project.lock").write_text(changed)
    built.remember()
    assert built.unchanged() is None


def test_a_result_that_somebody_else_replaced_is_not_remembered(built: Built) -> None:
    built.record.unlink()
    last, result = LastBuild(built.asked()), built.result()
    last.unchanged()
    CHANGES["receipt"](built.folder)
    last.remember(result)
    assert not list((built.folder / "cache/builds").iterdir())


def test_a_link_to_a_directory_among_local_inputs_is_not_vouched_for(built: Built) -> None:
    (built.folder / "klibs").mkdir()
    (built.folder / "nanos/klibs").symlink_to(built.folder / "klibs")
    built.remember()
    assert built.unchanged() is None


def test_the_command_says_so_and_asks_no_engine(built: Built) -> None:
    ended = cli(*built.command())
    assert ended.code == 0
    assert ended.text == f"{built.folder}/out/program.img\n"
    assert "program: nothing has changed since it was built and verified (2026-01-02T03:04:05+00:00)\n" in ended.err
    document = cli(*built.command("--json")).json()
    assert document["ok"] is True
    assert document["unchanged"] == ["program"]
    assert [row["name"] for row in document["built"]] == ["program"]


def test_it_loads_nothing_that_builds(built: Built) -> None:
    loaded = imported_by(*built.command())
    assert "orchestrator.build.last_build" in loaded
    packages = {name.split(".")[1] for name in loaded if name.startswith("orchestrator.")}
    assert not packages & {"engine", "packers", "plan", "verify", "provenance", "lock", "image"}
    assert not loaded & {"httpx", "jinja2", "docker", "elftools", "orchestrator.inputs.download"}


@pytest.mark.parametrize("option", ["--no-cache", "--verify-cached", "--from=program"])
def test_the_long_way_when_it_is_asked_for(built: Built, option: str) -> None:
    ended = cli(*built.command(option))
    assert ended.code == 3
    assert NO_ENGINE in ended.err


def test_a_change_goes_the_long_way(built: Built) -> None:
    CHANGES["touched"](built.folder)
    assert cli(*built.command()).code == 3
    assert cli(*built.command("--json")).json()["unchanged"] == []


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ({}, []),
        ({"begin": "program"}, ["program"]),
        ({"begin": "gevulot"}, ["gevulot", "program"]),
        ({"begin": "packages"}, ["packages", "gevulot", "program"]),
        ({"no_cache": True}, ["packages", "gevulot", "program"]),
    ],
)
def test_which_stages_run_again(options: dict[str, Any], again: list[str]) -> None:
    assert [stage for stage in STAGES if BuildOptions(**options).runs_again(stage)] == again
