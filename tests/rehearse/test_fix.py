"""What a trace found missing, written into project.yaml: the rest of the file stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrator.rehearse.fix import fix_project
from orchestrator.rehearse.trace import Missing

MISSING = Missing(libraries=("libabsent.so.2",), files=("/params/a.srs", "/b"))


@pytest.mark.parametrize(
    "stage",
    [
        "",
        "stage: {libraries: auto}\n",
        "stage: {extra: [libold.so], files: []}  # as it was\n",
        "stage:\n  libraries: auto   # all\n  # the old one\n  extra: [libold.so]\n",
        "stage:\n  extra:\n    - libold.so  # old\n  files:\n  - params/a.srs\n",
        "stage:\n  files:\n  - old\nmanifest: m.json\n",
    ],
)
def test_what_is_missing_is_added_once(tmp_path: Path, stage: str) -> None:
    project = tmp_path / "project.yaml"
    project.write_text(f"name: x  # mine\n{stage}")
    before = yaml.safe_load(project.read_text())
    assert fix_project(project, MISSING)
    text = project.read_text()
    after = yaml.safe_load(text)
    old = before.get("stage", {})
    assert after["stage"]["extra"] == [*old.get("extra", []), "libabsent.so.2"]
    assert sorted(after["stage"]["files"]) == sorted({*old.get("files", []), "params/a.srs", "b"})
    assert {**after, "stage": 0} == {**before, "stage": 0}
    assert text.count("#") == f"# {stage}".count("#")
    assert fix_project(project, MISSING) == ()
    assert project.read_text() == text
