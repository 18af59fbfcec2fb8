"""project.yaml against the disk, and fields against each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import Finding, Severity
from orchestrator.project.load import load_project
from orchestrator.project.paths import check_paths

BUILD = "name: x\nbuild:\n  run: make\n  program: x\n"


def check(directory: Path, extra: str, text: str = BUILD) -> list[Finding]:
    path = directory / "project.yaml"
    path.write_text(text + extra)
    return check_paths(load_project(path), lambda _path: "")


def one(findings: list[Finding], severity: Severity, field: str) -> Finding:
    assert [(f.severity, f.field) for f in findings] == [(severity, field)], [str(f) for f in findings]
    assert findings[0].remedy
    assert findings[0].line
    return findings[0]


def touch(path: Path, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    path.chmod(mode)


def test_nothing_to_say(tmp_path: Path) -> None:
    assert check(tmp_path, "") == []


@pytest.mark.parametrize(
    ("extra", "field", "words"),
    [
        ("gevulot: {path: absent}\n", "gevulot.path", "there is no directory `absent`"),
        ("gevulot: {path: here}\n", "gevulot.path", "has no crates/shim-ffi/Cargo.toml"),
        ("gevulot: {path: ~/gevulot}\n", "gevulot.path", "`~` is not expanded"),
        ("gevulot: {path: file}\n", "gevulot.path", "`file` is a file"),
        ("nanos: {path: absent}\n", "nanos.path", "there is no directory"),
        ("nanos: {path: here}\n", "nanos.path", "has no kernel.img"),
        ("ops: {path: absent}\npacker: ops\n", "ops.path", "there is no file"),
        ("ops: {path: here}\npacker: ops\n", "ops.path", "`here` is a directory"),
        ("ops: {path: file}\npacker: ops\n", "ops.path", "chmod +x"),
        ("network: {ca: no.pem}\n", "network.ca", "there is no file"),
        (f"nanos: {{path: {'x' * 300}}}\n", "nanos.path", "there is no directory"),
    ],
)
def test_paths_that_are_wrong(tmp_path: Path, extra: str, field: str, words: str) -> None:
    (tmp_path / "here").mkdir()
    touch(tmp_path / "file")
    finding = one(check(tmp_path, extra), Severity.ERROR, field)
    assert finding.line == BUILD.count("\n") + 1
    assert words in str(finding)


def test_context(tmp_path: Path) -> None:
    text = "name: x\nbuild:\n  context: {}\n  run: make\n  program: x\n"
    finding = one(check(tmp_path, "", text.format("absent")), Severity.ERROR, "build.context")
    assert finding.line == 3
    assert "is the root of the file system" in str(
        one(check(tmp_path, "", text.format("/")), Severity.ERROR, "build.context")
    )


def test_paths_that_are_right(tmp_path: Path) -> None:
    touch(tmp_path / "gevulot/crates/shim-ffi/Cargo.toml")
    touch(tmp_path / "nanos/kernel.img")
    touch(tmp_path / "nanos/boot.img")
    touch(tmp_path / "bin/ops", 0o755)
    touch(tmp_path / "ca.pem")
    extra = "gevulot: {path: gevulot}\nnanos: {path: nanos}\nops: {path: bin/ops}\npacker: ops\nnetwork: {ca: ca.pem}\n"
    assert check(tmp_path, extra) == []


PINNED = "sha256: " + "ab" * 32
ARCHIVE = "gevulot: {archive: 'http://host/a.tar.gz'}\n"


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        (ARCHIVE, "gevulot.archive"),
        ("gevulot: {git: 'http://host/a'}\n", "gevulot.git"),
        ("gevulot: {git: 'git://host/a', ref: main}\n", "gevulot.git"),
        ("resources: {gpus: 1}\ncuda: '12.2.2'\ngpu-assets: {url: 'http://host/a'}\n", "gpu-assets.url"),
        ("gevulot: {git: 'https://host/a'}\nmirrors: {'https://host/': 'http://near/'}\n", "gevulot.git"),
        ("stage: {files: [{url: 'http://host/a', to: a}]}\n", "stage.files[0].url"),
    ],
)
def test_addresses_without_tls_that_nothing_pins(tmp_path: Path, extra: str, field: str) -> None:
    assert "can change it until it is locked" in one(check(tmp_path, extra), Severity.WARNING, field).message


@pytest.mark.parametrize(
    "extra",
    [
        ARCHIVE.replace("}", f", {PINNED}}}"),
        ARCHIVE.replace("host", "127.0.0.1:8000"),
        ARCHIVE + "mirrors: {'http://host/': 'https://near/'}\n",
        "gevulot: {git: 'http://host/a', ref: " + "a" * 40 + "}\n",
    ],
)
def test_addresses_that_something_protects(tmp_path: Path, extra: str) -> None:
    assert check(tmp_path, extra) == []


def test_nanos_without_boot_sector(tmp_path: Path) -> None:
    touch(tmp_path / "nanos/kernel.img")
    assert "boot.img" in str(one(check(tmp_path, "nanos: {path: nanos}\n"), Severity.WARNING, "nanos.path"))
    assert check(tmp_path, "nanos: {version: 0.1.51}\n") == []  # what may stop it is said when it happens


def test_ref_of_the_other_runtime(tmp_path: Path) -> None:
    git = "gevulot: {{git: https://example.org/g, ref: {}}}\nruntime: {}\n"
    branch = "optional-file-based-task-to-shim"
    assert "ref: it follows runtime" in str(
        one(check(tmp_path, git.format("main", "local")), Severity.WARNING, "gevulot.ref")
    )
    one(check(tmp_path, git.format(branch, "devnet")), Severity.WARNING, "gevulot.ref")
    assert check(tmp_path, git.format("main", "devnet")) == []
    assert check(tmp_path, git.format("a3844163", "local")) == []


def test_gpu_fields_that_do_not_fit(tmp_path: Path) -> None:
    one(check(tmp_path, 'cuda: "12.3.0"\n'), Severity.WARNING, "cuda")
    one(check(tmp_path, "resources: {gpus: 1}\n"), Severity.WARNING, "resources.gpus")
    touch(tmp_path / "assets/gpu_nvidia")
    for unused in ("gpu-assets: {path: assets}\n", "gpu-families: [ampere]\n"):
        finding = one(check(tmp_path, unused), Severity.WARNING, unused.partition(":")[0])
        assert "has no effect: this is not a GPU project" in str(finding)
    gpu = 'cuda: "12.3.0"\nresources: {gpus: 1}\n'
    assert check(tmp_path, gpu + "gpu-assets: {path: assets}\n") == []
    (tmp_path / "empty").mkdir()
    one(check(tmp_path, gpu + "gpu-assets: {path: empty}\n"), Severity.ERROR, "gpu-assets.path")


def test_secrets_that_are_not_here_yet_are_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_TOKEN", raising=False)
    secrets = BUILD + "  secrets: [{id: a, env: A_TOKEN}]\n"
    assert "A_TOKEN is not set" in str(one(check(tmp_path, "", secrets), Severity.WARNING, "build.secrets[0].env"))
    monkeypatch.setenv("A_TOKEN", "x")
    assert check(tmp_path, "", secrets) == []


@pytest.mark.parametrize(("first", "problem"), [("b", "is used twice"), ("orchestrator-ca", "is reserved")])
def test_secret_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, problem: str) -> None:
    monkeypatch.setenv("A_TOKEN", "x")
    secrets = BUILD + f"  secrets: [{{id: {first}, env: A_TOKEN}}, {{id: b, env: A_TOKEN}}]\n"
    index = 1 if first == "b" else 0
    assert problem in str(one(check(tmp_path, "", secrets), Severity.ERROR, f"build.secrets[{index}].id"))


def test_staged_files(tmp_path: Path) -> None:
    touch(tmp_path / "params/kzg.srs")
    path = tmp_path / "project.yaml"
    path.write_text(BUILD + "stage: {files: [params/kzg.srs, made/later]}\n")
    finding = one(check_paths(load_project(path), lambda _path: ""), Severity.NOTE, "stage.files[1]")
    assert "is not in the build context" in str(finding)


@pytest.mark.parametrize(
    ("entry", "field", "words"),
    [
        ("{from: absent, to: a}", "from", "there is no file `absent`"),
        ("{from: here, to: a}", "from", "`here` is a directory"),
        ("{from: ~/a, to: a}", "from", "`~` is not expanded"),
        ("{from: file, to: /other}", "to", "`other` is the place of two files"),
        ("{from: file, to: ./made//later}", "to", "`made/later` is also a file of the build"),
    ],
)
def test_files_of_this_machine_that_are_wrong(tmp_path: Path, entry: str, field: str, words: str) -> None:
    (tmp_path / "here").mkdir()
    touch(tmp_path / "file")
    stage = f"stage:\n  files:\n  - {entry}\n  - made/later\n  - {{from: file, to: other}}\n"
    errors = [finding for finding in check(tmp_path, stage) if finding.severity is Severity.ERROR]
    assert f"stage.files[0].{field}" in {error.field for error in errors}
    assert words in str(errors[0])


@pytest.mark.parametrize("name", ["token", "soft", "hard"])
def test_a_secrets_file_never_goes_into_the_image(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "token")
    (tmp_path / "soft").symlink_to("token")
    (tmp_path / "hard").hardlink_to(tmp_path / "token")
    build = BUILD + "  secrets: [{id: t, file: token}]\n"
    said = one(
        check(tmp_path, f"stage: {{files: [{{from: {name}, to: a}}]}}\n", build), Severity.ERROR, "stage.files[0].from"
    )
    assert f"`{name}` is the file of a build secret" in str(said)


def test_places_that_an_opss_step_cannot_be_given(tmp_path: Path) -> None:
    touch(tmp_path / "file")
    stage = "packer: {}\nstage: {{files: [{{from: file, to: 'a b'}}]}}\n"
    assert check(tmp_path, stage.format("native")) == []
    assert "packer: native" in str(one(check(tmp_path, stage.format("ops")), Severity.ERROR, "stage.files[0].to"))


def test_fields_without_effect(tmp_path: Path) -> None:
    touch(tmp_path / "prog")
    touch(tmp_path / "key")
    step = "name: x\nbuild:\n  program: prog\n  caches: [cargo]\n  secrets: [{id: a, file: key}]\n"
    said = [str(finding) for finding in check(tmp_path, "", step)]
    path, why = tmp_path / "project.yaml", "has no effect: there is no `build.run`; remove it, or write build.run"
    assert said == [f"{path}:5: build.secrets: {why}", f"{path}:4: build.caches: {why}"]
    one(check(tmp_path, "stage: {libraries: none, extra: [libcuda.so.1]}\n"), Severity.WARNING, "stage.extra")
    one(check(tmp_path, "packer: native\nops: {version: 0.1.43}\n"), Severity.WARNING, "ops")
    one(check(tmp_path, "ops: {version: 0.1.43}\n"), Severity.WARNING, "ops")
