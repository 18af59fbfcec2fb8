"""What a trace found missing, written into project.yaml: the rest of the file stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from orchestrator.errors import UsageError
from orchestrator.run.sandbox.fix import fix_project

MISSING: Mapping[str, Sequence[str]] = {
    "libraries": ("libabsent.so.2",),
    "entries": ("params/a.srs", "b", "/etc/hosts"),
}


@pytest.mark.parametrize(
    "stage",
    [
        "",
        "stage: {libraries: auto}\n",
        "stage: {extra: [libold.so], files: []}  # as it was\n",
        "stage:\n  libraries: auto   # all\n  # the old one\n  extra: [libold.so]\n",
        "stage:\n  extra:\n    - libold.so  # old\n  files:\n  - params/a.srs\n",
        "stage:\n  files:\n  - old\nmanifest: m.json\n",
        "stage:\n",
        "stage:   # nothing yet\nmanifest: m.json\n",
        "stage: ~\n",
        "stage: {}\n",
        "stage:\n  files:\n  libraries: auto\n",
        "stage: {files: null}",
        "stage: &s\n  files: [old]",
    ],
)
def test_what_is_missing_is_added_once(tmp_path: Path, stage: str) -> None:
    project = tmp_path / "project.yaml"
    project.write_text(f"name: x  # mine\n{stage}")
    before = yaml.safe_load(project.read_text())
    assert fix_project(project, **MISSING)
    text = project.read_text()
    after = yaml.safe_load(text)
    old = before.get("stage") or {}
    assert after["stage"]["extra"] == [*(old.get("extra") or []), "libabsent.so.2"]
    assert sorted(after["stage"]["files"]) == sorted({*(old.get("files") or []), "params/a.srs", "b", "/etc/hosts"})
    assert {**after, "stage": 0} == {**before, "stage": 0}
    assert text.count("#") == f"# {stage}".count("#")
    assert fix_project(project, **MISSING) == ()
    assert project.read_text() == text


def test_names_are_quoted_line_ends_links_and_modes_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "project.yaml"
    real.write_bytes(b"name: x\r\nstage:\r\n  files:\r\n  - old\r\n")
    real.chmod(0o640)
    link.symlink_to(real)
    assert fix_project(link, entries=("a, b", "#c", "yes"))
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert yaml.safe_load(real.read_bytes())["stage"]["files"] == ["old", "a, b", "#c", "yes"]
    assert real.read_bytes().count(b"\n") == real.read_bytes().count(b"\r\n") == 7


@pytest.mark.parametrize(
    "text",
    ["{name: x}\n", "a: &s {files: [old]}\nstage: *s\n", "stage: text\n", "stage: {files: text}\n", "- x\n", "a: [\n"],
)
def test_what_cannot_be_added_to_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    project = tmp_path / "project.yaml"
    project.write_text(text)
    with pytest.raises(UsageError) as caught:
        fix_project(project, **MISSING)
    assert caught.value.remedy
    assert project.read_text() == text
