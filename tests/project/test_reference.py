"""docs/project-yaml.md and the JSON Schema of project.yaml: complete, and in step with the model."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.errors import UsageError
from orchestrator.project.load import load_project
from orchestrator.project.reference import json_schema, keys, markdown
from tests.cli.conftest import cli

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = sorted(ROOT.glob("examples/*/project*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_the_page_is_what_the_model_says() -> None:
    assert (ROOT / "docs/project-yaml.md").read_text() == markdown(), "run `make docs`"


def test_every_key_has_all_columns_and_an_example_that_is_right() -> None:
    for key in keys():
        assert key.description.endswith("."), key.name
        assert key.type, key.name
        assert key.since, key.name
        last = key.name.rpartition(".")[2].removesuffix("[]")
        assert key.example.startswith(f"{last}: "), key.name
        if key.name != "gevulot" and "\u2026" not in key.example:
            assert last in yaml.safe_load(key.example)


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: str(path.relative_to(ROOT / "examples")))
def test_the_schema_takes_what_the_program_takes(path: Path) -> None:
    load_project(path)
    VALIDATOR.validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    "text",
    [
        "name: x\nbuild: {run: make, program: x, prgram: y}",
        "name: x\nruntime: neither\nbuild: {run: make, program: x}",
        "name: x",
        "name: x\nbuild: {run: make, program: x}\nresources: {memory: lots}",
        "name: x\nbuild: {run: make, program: x}\nbase: {bootstrap: {debian: bookworm}}",
    ],
)
def test_the_schema_refuses_what_the_program_refuses(text: str, tmp_path: Path) -> None:
    (tmp_path / "project.yaml").write_text(text)
    with pytest.raises(UsageError):
        load_project(tmp_path / "project.yaml")
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(yaml.safe_load(text))


def test_init_points_editors_to_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("init", "new").code == 0
    first = Path("new/project.yaml").read_text().splitlines()[0]
    name = first.removeprefix("# yaml-language-server: $schema=")
    assert json.loads((Path("new") / name).read_text()) == json_schema()
    assert json.loads(cli("schema").text) == json_schema()
    assert json.loads(cli("schema", "receipt").text)["title"]
