"""project.yaml: what is accepted, and that every mistake is said with its line, field and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import Severity, UsageError
from orchestrator.project.load import MAX_BYTES, LoadedProject, load_project
from tests.project.cases import CASES, MALFORMED
from tests.support.findings import check_findings

GOOD = """\
name: my-prover
runtime: devnet
resources: {cpus: 2, memory: 512, gpus: 0}
gevulot:
  git: https://github.com/gevulotnetwork/gevulot
base: docker.io/library/rust:bookworm
build:
  context: .
  packages: [libssl-dev]
  secrets: [{id: git-token, env: GIT_TOKEN}]
  run: |
    cargo build --release
    strip target/release/my-prover
  program: target/release/my-prover
stage:
  libraries: auto
  extra: [libnvidia-ml.so.1, libcuda.so.1]
  files:
    - params/kzg.srs
nanos: {version: 0.1.51}
ops: {version: 0.1.43}
packer: native
manifest:
  Env:
    RUST_LOG: info
  Args: ["--size", "10"]
mirrors: {docker.io: mirror.example:5000}
network:
  http-proxy: http://proxy.example:3128
"""

PYDANTIC_WORDS = ("Input should", "Extra inputs", "Field required", "String should", "Value error", "pydantic")


def load(directory: Path, text: str | bytes) -> LoadedProject:
    path = directory / "project.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_project(path)


def findings(directory: Path, text: str | bytes) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load(directory, text)
    return [str(finding) for finding in caught.value.findings]


def test_a_whole_project(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)
    assert loaded.project.name == "my-prover"
    assert loaded.project.build.secrets[0].env == "GIT_TOKEN"
    assert loaded.project.network.http_proxy == "http://proxy.example:3128"
    assert loaded.root == tmp_path
    assert loaded.text == GOOD
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("name", "name: my-prover"),
        ("build", "build:"),
        ("build.run", "  run: |"),
        ("build.secrets[0].id", "  secrets: ["),
        ("stage.files[0]", "    - params/kzg.srs"),
        ("manifest.Env.RUST_LOG", "    RUST_LOG: info"),
        ("manifest.Args[1]", "  Args: ["),
        ("network.http-proxy", "  http-proxy:"),
    ],
)
def test_lines(tmp_path: Path, field: str, text: str) -> None:
    loaded = load(tmp_path, GOOD)
    assert GOOD.splitlines()[loaded.lines[field] - 1].startswith(text)


def test_line_of_the_first_command(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)
    assert GOOD.splitlines()[loaded.run_line - 1] == "    cargo build --release"
    assert load(tmp_path, "name: x\nbuild:\n  run: make\n  program: x\n").run_line == 3


def test_run_line_counts_comment_and_blank_lines_of_a_block(tmp_path: Path) -> None:
    text = "name: x\nbuild:\n  program: x\n  run: |-  # why\n\n    # first\n    make\n"
    loaded = load(tmp_path, text)
    lines = loaded.project.build.run.split("\n")
    assert text.splitlines()[loaded.run_line - 1 + lines.index("make")].strip() == "make"


def test_a_line_above_answers_for_a_field_that_is_not_there(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)
    assert loaded.line("stage.files[7]") == loaded.lines["stage.files"]
    assert loaded.line("gpu-assets.url") is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{from: a}", "stage.files[1]: from needs `to`, the file's path in the image; write `to: params/kzg.srs`"),
        ("{to: b}", "stage.files[1]: needs exactly one of from, url"),
        (
            "{from: a, url: b, to: c}",
            "stage.files[1]: needs exactly one of from, url, path (has from, url); keep one of them",
        ),
        ("{from: a, sha256: %s, to: c}" % ("a" * 64), "stage.files[1]: sha256 is only valid with url"),
        ("{url: a, to: ../b}", "stage.files[1].to: must be a path without '..'"),
        ("{url: a, to: b/}", "stage.files[1].to: must name a file, not a directory"),
        ("{form: a, to: b}", "stage.files[1].form: unknown key under `stage.files[1]`; did you mean `from`?"),
        ("[a]", "stage.files[1]: must be text, not a list"),
    ],
)
def test_staged_files_that_are_wrong(tmp_path: Path, entry: str, message: str) -> None:
    (said,) = findings(tmp_path, f"name: x\nbuild: {{run: make, program: x}}\nstage:\n  files:\n  - a\n  - {entry}\n")
    assert f"project.yaml:6: {message}" in said


def test_version_without_quotes_is_text(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).project.nanos.version == "0.1.51"


def test_date_like_version_stays_text(tmp_path: Path) -> None:
    text = "name: x\nnanos: {version: 2024-06-20}\nbuild: {run: make, program: x}\n"
    assert load(tmp_path, text).project.nanos.version == "2024-06-20"


def test_two_part_version_is_taken_with_a_warning(tmp_path: Path) -> None:
    loaded = load(tmp_path, "name: x\ncuda: 12.3\nbuild: {run: make, program: x}\n")
    assert loaded.project.cuda == "12.3"
    assert [(w.severity, w.line, w.field) for w in loaded.warnings] == [(Severity.WARNING, 2, "cuda")]


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = (
        "name: x\nresources: &small {cpus: 1, memory: 256}\nbuild: {run: make, program: x}\n"
        "manifest:\n  Env: &env {A: one, B: one}\n  TargetConfig: {<<: *env, B: two}\n"
    )
    loaded = load(tmp_path, text)
    assert isinstance(loaded.project.manifest, dict)
    assert loaded.project.manifest["TargetConfig"] == {"A": "one", "B": "two"}
    assert loaded.project.resources.cpus == 1


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    loaded = load(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert loaded.lines["name"] == 1
    assert "\r" not in loaded.project.build.run


def test_a_key_that_yaml_reads_as_true_is_still_text(tmp_path: Path) -> None:
    text = "name: x\nbuild: {run: make, program: x}\non: 1\n"
    assert findings(tmp_path, text)[0].startswith(f"{tmp_path / 'project.yaml'}:3: on: unknown key")


@pytest.mark.parametrize("name", sorted({case[0] for case in CASES}))
def test_malformed(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_project(MALFORMED / name)
    check_findings(caught.value.findings, [case for case in CASES if case[0] == name], MALFORMED / name)
    assert not [finding for finding in caught.value.findings if any(word in str(finding) for word in PYDANTIC_WORDS)]


def test_every_malformed_file_is_in_the_table() -> None:
    assert {p.name for p in MALFORMED.iterdir()} == {case[0] for case in CASES}
    assert len({case[0] for case in CASES}) >= 20


def test_one_mistake_is_said_once() -> None:
    for name in ("misspelt-nested.yaml", "misspelt-top.yaml", "wrong-level.yaml", "manifest-is-a-list.yaml"):
        with pytest.raises(UsageError) as caught:
            load_project(MALFORMED / name)
        assert len(caught.value.findings) == 1, name


@pytest.mark.parametrize(
    ("table", "meant"),
    [
        ("ops: {versio: 0.1.43}", "version"),
        ("nanos: {pth: kernel}", "path"),
        ("gevulot: {gti: https://example.org/gevulot}", "git"),
        ("gpu-assets: {pathh: assets}", "path"),
        ("ops: {url: https://example.org/ops, sha265: abc}", "sha256"),
    ],
)
def test_a_misspelt_choice_is_said_once(tmp_path: Path, table: str, meant: str) -> None:
    said = findings(tmp_path, f"name: x\nbuild: {{run: make, program: x}}\n{table}\n".encode())
    assert len(said) == 1, said
    assert f"did you mean `{meant}`?" in said[0]
    # A slip hides nothing else that is wrong.
    said = findings(tmp_path, b"name: x\nbuild: {run: make, program: x}\nops: {path: a, url: b, versio: 1}\n")
    assert len(said) == 2, said


def test_missing_file_directory_and_too_large(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_project(tmp_path / "no.yaml")
    with pytest.raises(UsageError, match="is a directory"):
        load_project(tmp_path)
    assert "is larger than" in findings(tmp_path, b"#" * (MAX_BYTES + 1))[0]


def test_name_that_the_system_refuses() -> None:
    for path in ("x" * 5000, "a\0b"):
        with pytest.raises(UsageError, match="cannot be read"):
            load_project(Path(path))


def test_unreadable_file(tmp_path: Path) -> None:
    link = tmp_path / "project.yaml"
    link.symlink_to(link)  # a loop: unreadable for root too
    with pytest.raises(UsageError, match="cannot be read"):
        load_project(link)


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 3000, "a: {b: " * 200, "? " * 3000])
def test_deep_nesting(tmp_path: Path, text: str) -> None:
    assert findings(tmp_path, text)


QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def only_usage_errors(directory: Path, data: bytes) -> None:
    try:
        load(directory, data)
    except UsageError as error:
        assert error.findings
        assert all(f.message for f in error.findings)


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    only_usage_errors(tmp_path, data)


@QUICK
@given(st.text(alphabet="abn :-[]{}&*!|>'\"%@`#,?~<=.019\n\t\\0xuU\u00e9\ud800", max_size=120))
def test_any_yaml_like_text(tmp_path: Path, text: str) -> None:
    only_usage_errors(tmp_path, text.encode("utf-8", "surrogatepass"))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@QUICK
@given(st.data())
def test_a_valid_file_with_one_value_replaced(tmp_path: Path, data: st.DataObject) -> None:
    import yaml

    document = yaml.safe_load(GOOD)
    target, keys = document, list(document)
    key = data.draw(st.sampled_from(keys))
    while isinstance(target[key], dict) and target[key] and data.draw(st.booleans()):
        target = target[key]
        key = data.draw(st.sampled_from(list(target)))
    target[key] = data.draw(TREES)
    only_usage_errors(tmp_path, yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))


@QUICK
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 12), st.text(max_size=4))
def test_a_valid_file_with_a_hole(tmp_path: Path, start: int, length: int, insert: str) -> None:
    text = GOOD[:start] + insert + GOOD[start + length :]
    only_usage_errors(tmp_path, text.encode("utf-8", "surrogatepass"))
