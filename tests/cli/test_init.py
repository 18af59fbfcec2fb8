"""`init`: what it writes passes `check`, renders, and never replaces anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.project.load import load_project
from tests.cli.conftest import cli, unchanged

FLAVOURS = [(), ("--language", "rust"), ("--language", "c"), ("--language", "cpp"), ("--gpu",)]


@pytest.mark.parametrize("options", FLAVOURS, ids=lambda options: "-".join(options).strip("-") or "default")
def test_a_new_project_is_right(here: Path, options: tuple[str, ...]) -> None:
    made = cli("init", "new", *options)
    assert made.code == 0
    assert made.text == "new/project.yaml\n"
    for path in re.findall(r"^wrote (.*)$", made.err, re.MULTILINE):
        assert Path(path).is_file()
    checked = cli("check", "new")
    assert checked.code == 0
    assert "warning" not in checked.err
    project = load_project(Path("new/project.yaml")).project
    assert (project.packer, project.resources.gpus) == ("native", int("--gpu" in options))
    rendered = cli("render", "new")
    assert rendered.code == 0
    assert "FROM " in rendered.text
    assert set(Path("new/.dockerignore").read_text().split()) >= {".git", "target"}


def test_in_the_current_directory(here: Path) -> None:
    assert cli("init", "--language", "c").text == "project.yaml\n"
    assert load_project(Path("project.yaml")).project.name == "here"


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("My Prover (v2)", "my-prover-v2"),
        ("snake_case", "snake_case"),
        ("2fast", "p-2fast"),
        ("ü", "my-prover"),
        ("--", "my-prover"),
        ("gevulot", "gevulot-prover"),
        ("build", "build-prover"),
        ("x" * 100, "x" * 64),
        ("a.b/c.d", "c-d"),
    ],
)
def test_names_are_made_of_the_directory_and_fit_cargo(here: Path, directory: str, name: str) -> None:
    made = cli("init", "--", directory)
    assert made.code == 0
    project = load_project(Path(directory) / "project.yaml").project
    assert project.name == name
    assert project.build.program == f"target/release/{name}"
    assert f'name = "{name}"' in (Path(directory) / "Cargo.toml").read_text()
    assert cli("check", "--", directory).code == 0
    # What it tells to type next can be typed.
    assert made.err.splitlines()[-1].split(" build ")[1].startswith("'") == (" " in directory or "ü" in directory)


@pytest.mark.parametrize("present", ["project.yaml", "src/main.rs", "Cargo.toml"])
def test_nothing_is_replaced(here: Path, present: str) -> None:
    Path(present).parent.mkdir(exist_ok=True)
    Path(present).write_text("mine")
    with unchanged(here):
        ended = cli("init")
    assert ended.code == 2
    assert f"{present} already exists" in ended.err


def test_a_dockerignore_that_is_there_stays(here: Path) -> None:
    Path(".dockerignore").write_text("mine\n")
    assert cli("init").code == 0
    assert Path(".dockerignore").read_text() == "mine\n"


def test_twice(here: Path) -> None:
    assert cli("init").code == 0
    with unchanged(here):
        assert cli("init").code == 2
