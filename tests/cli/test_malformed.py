"""Malformed files through `check` and `build`: exit code 2, file, line and field, and nothing is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.cli.conftest import Ended, cli, unchanged
from tests.nanos.manifest import cases as manifests
from tests.project import cases as projects
from tests.support.cli import orchestrator

Case = tuple[str, int | None, str | None, str]
# No engine is asked: this one could not even answer.
BUILD = ("build", "-o", "out", "--engine", "unix:///nonexistent/engine.sock")
GOOD = "name: my-prover\nbase: debian:bookworm\nbuild: {run: make, program: target/release/my-prover}\n"


def said(ended: Ended, file: str, cases: Iterable[Case]) -> None:
    """Each expected mistake has its line on stderr, `FILE:LINE: FIELD: …`, and nothing else is there."""
    assert ended.code == 2
    lines = ended.err.splitlines()
    assert all(line.startswith(file) or line.startswith(("note: ", "warning: ")) for line in lines), ended.err
    for _, number, field, fragment in cases:
        place = f"{file}:{number}: " if number else f"{file}:"
        place += f"{field}: " if field and number else ""
        assert any(line.startswith(place) and fragment in line for line in lines), f"{place}…{fragment}\n{ended.err}"


def findings(ended: Ended, cases: Iterable[Case]) -> None:
    """The same as one JSON document."""
    document = ended.json()
    assert document["ok"] is False
    assert document["exit_code"] == ended.code == 2
    for _, number, field, fragment in cases:
        assert any(
            fragment in f"{row['field']}: {row['message']}; {row['remedy']}"
            and (number is None or number == row["line"])
            and (field is None or field == row["field"])
            for row in document["findings"]
        ), document


@pytest.mark.parametrize("name", sorted({case[0] for case in projects.CASES}))
def test_project(here: Path, name: str) -> None:
    shutil.copy(projects.MALFORMED / name, here / name)
    expected = [case for case in projects.CASES if case[0] == name]
    with unchanged(here):
        for command in (("check",), BUILD, ("render",)):
            ended = cli(*command, name)
            said(ended, name, expected)
            assert ended.out == b""
        for command in (("check",), BUILD):
            findings(cli(*command, "--json", name), expected)


@pytest.mark.parametrize("name", sorted({case[0] for case in manifests.CASES}))
def test_manifest(here: Path, name: str) -> None:
    shutil.copy(manifests.MALFORMED / name, here / "manifest.json")
    (here / "project.yaml").write_text(f"{GOOD}manifest: manifest.json\n")
    expected = [case for case in manifests.CASES if case[0] == name]
    with unchanged(here):
        for command in (("check",), BUILD):
            ended = cli(*command, "project.yaml")
            said(ended, "manifest.json", expected)
            assert ended.out == b""
        findings(cli("check", "--json", "project.yaml"), expected)


@pytest.mark.parametrize("name", ["several-errors.yaml", "alias-bomb.yaml", "binary.yaml", "tab-indent.yaml"])
def test_project_in_a_process_of_its_own(here: Path, name: str) -> None:
    shutil.copy(projects.MALFORMED / name, here / name)
    with unchanged(here):
        for command in (("check",), BUILD):
            done = orchestrator(*command, name, cwd=here)
            assert (done.code, done.stdout) == (2, "")
            assert done.stderr.startswith(f"{name}:")


def test_all_mistakes_of_project_and_manifest_at_once(here: Path) -> None:
    (here / "project.yaml").write_text(f"{GOOD}nanos: {{path: nowhere}}\nmanifest: manifest.json\n")
    (here / "manifest.json").write_text('{"Programm": "x"}\n')
    ended = cli("check", ".")
    assert ended.code == 2
    assert "project.yaml:4: nanos.path: there is no directory `nowhere`" in ended.err
    assert "manifest.json:1: Programm: " in ended.err
    assert "did you mean `Program`?" in ended.err


def test_all_wrong_projects_at_once_and_none_is_built(here: Path) -> None:
    for name in ("a", "b"):
        (here / f"{name}.yaml").write_text(GOOD.replace("my-prover", f"{name}!"))
    with unchanged(here):
        ended = cli(*BUILD, "a.yaml", "b.yaml")
    assert ended.code == 2
    assert [line.partition(": ")[0] for line in ended.err.splitlines()] == ["a.yaml:1", "b.yaml:1"]


def test_two_projects_of_one_name(here: Path) -> None:
    for name in ("a", "b"):
        (here / f"{name}.yaml").write_text(GOOD)
    with unchanged(here):
        ended = cli(*BUILD, "a.yaml", "b.yaml")
    assert ended.code == 2
    assert "a.yaml and b.yaml have the same name, my-prover" in ended.err


def test_secrets_must_be_there_for_a_build_but_not_for_a_check(here: Path) -> None:
    (here / "project.yaml").write_text(GOOD.replace("run: make", "run: make, secrets: [{id: t, env: NOT_THERE}]"))
    with unchanged(here):
        assert cli("check", "project.yaml").code == 0
        ended = cli("build", "project.yaml")
    assert ended.code == 2
    assert ended.err.startswith("project.yaml:3: build.secrets[0].env: environment variable NOT_THERE is not set")


def test_missing_directory_without_a_project_and_not_a_file(here: Path) -> None:
    os.mkfifo(here / "pipe")
    for path, words in (("no.yaml", "does not exist"), (".", "project.yaml: does not exist")):
        ended = cli("check", path)
        assert ended.code == 2
        assert words in ended.err
        assert "init" in ended.err
