"""Every mistake in a manifest is said with its line, field and remedy, all of a file at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.nanos.manifest import json_reader
from tests.nanos.manifest.cases import CASES, MALFORMED
from tests.nanos.manifest.helpers import PROJECT, effective
from tests.support.findings import check_findings

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", sorted({case[0] for case in CASES}))
def test_malformed(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        effective(tmp_path, (MALFORMED / name).read_bytes())
    check(name, caught.value, tmp_path / "manifest.json")


def check(name: str, error: UsageError, file: Path) -> None:
    check_findings(error.findings, [case for case in CASES if case[0] == name], file)


def test_every_malformed_file_is_in_the_table() -> None:
    assert {p.name for p in MALFORMED.iterdir()} == {case[0] for case in CASES}
    assert len({case[0] for case in CASES}) >= 20


def test_missing_manifest_is_said_of_project_yaml(tmp_path: Path) -> None:
    for name, words in (("no.json", "there is no file"), (".", "is a directory"), ("x" * 300, "there is no file")):
        with pytest.raises(UsageError, match=r"project\.yaml has 1 error") as caught:
            effective(tmp_path, project=f"manifest: {name}\n")
        assert [(f.line, f.field) for f in caught.value.findings] == [(3, "manifest")]
        assert words in caught.value.findings[0].message


def test_inline_manifest_has_lines_of_project_yaml(tmp_path: Path) -> None:
    inline = "manifest:\n  RunConfig:\n    Klibs: [tls]\n  Env:\n    RUST_BACKTRACE: 1\n"
    with pytest.raises(UsageError) as caught:
        effective(tmp_path, project=inline)
    first = PROJECT.count("\n")
    assert [(f.field, f.line) for f in caught.value.findings] == [
        ("manifest.RunConfig.Klibs", first + 3),
        ("manifest.Env.RUST_BACKTRACE", first + 5),
    ]
    assert caught.value.findings[0].file == str(tmp_path / "project.yaml")


@pytest.mark.parametrize(("raw", "value"), [("010", 8), ("1:30", 90), ("0x10", None), ("16", None)])
def test_a_number_that_yaml_changed(tmp_path: Path, raw: str, value: int | None) -> None:
    inline = f"manifest: {{RunConfig: {{CPUs: {raw}}}}}\n"
    if value is None:
        effective(tmp_path, project=inline)
        return
    with pytest.raises(UsageError) as caught:
        effective(tmp_path, project=inline)
    (finding,) = caught.value.findings
    assert (finding.field, finding.message) == (
        "manifest.RunConfig.CPUs",
        f"YAML reads {raw} as the number {value}",
    )


def only_usage_errors(directory: Path, text: str) -> None:
    try:
        effective(directory, text)
    except UsageError as error:
        assert error.findings


@QUICK
@given(st.text(alphabet="{}[]:,\"\\/*# \n\tabnu019-+.eE'NaInftrulse\ud800", max_size=80))
@example('{"a":1e999}')
@example("[-")
@example('{"a":' + "9" * 5000 + "}")
@example('"\\u')
def test_any_json_like_text(tmp_path: Path, text: str) -> None:
    document = json_reader.read(text, "m.json")
    assert document.data is not None or document.findings or text.strip() == "null"
    only_usage_errors(tmp_path, text)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
TREES = st.recursive(SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=6), x, max_size=3))


@QUICK
@given(TREES)
def test_reader_agrees_with_json(value: object) -> None:
    import json

    for text in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)):
        document = json_reader.read(text, "m.json")
        if not any("surrogate" in f.message or "40 digits" in f.message for f in document.findings):
            assert document.findings == ()
            assert document.data == json.loads(text)


@QUICK
@given(st.data())
def test_any_value_under_any_key(tmp_path: Path, data: st.DataObject) -> None:
    import json

    from orchestrator.nanos.manifest.schema import CLOUD_CONFIG, CONFIG, RUN_CONFIG

    manifest = data.draw(st.dictionaries(st.sampled_from([*CONFIG, "env", "x"]), TREES, max_size=5))
    for section, keys in (("RunConfig", RUN_CONFIG), ("CloudConfig", CLOUD_CONFIG)):
        if data.draw(st.booleans()):
            manifest[section] = data.draw(st.dictionaries(st.sampled_from([*keys, "x"]), TREES, max_size=4))
    only_usage_errors(tmp_path, json.dumps(manifest))
