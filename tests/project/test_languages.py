"""Programs that an interpreter starts, as far as project.yaml, the sources and the manifest say: no engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.nanos.manifest.merge import merge_manifest
from orchestrator.project.bases import PLAIN_BASE
from orchestrator.project.languages import LANGUAGES
from orchestrator.project.load import LoadedProject, load_project
from orchestrator.project.script import may_be_script
from orchestrator.resolved import ImageSettings, PackedPath, ScriptSettings
from tests.support.cli import orchestrator

SCRIPT = ScriptSettings(
    language="python",
    interpreter="/usr/bin/python3.11",
    program="usr/bin/python3.11",
    arguments=("-u", "/main.py"),
    environment={"PYTHONHOME": "/usr"},
    paths=(PackedPath(path="."),),
)


def load(folder: Path, build: str, more: str = "", files: Mapping[str, str] | None = None) -> LoadedProject:
    for name, text in (files or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "project.yaml").write_text(f"name: x\nbuild: {build}\nnanos: {{kernel: stub}}\n{more}")
    return load_project(folder / "project.yaml")


def test_a_language_gives_base_and_step_and_each_can_be_replaced(tmp_path: Path) -> None:
    own = load(tmp_path, "{language: node, program: a.js}").project
    assert (own.program_base, own.build.step) == (LANGUAGES["node"].base, LANGUAGES["node"].run)
    other = load(tmp_path, "{language: python, program: a.py, run: pip install x}", "base: localhost/mine\n").project
    assert (other.program_base.image, other.build.step) == ("localhost/mine", "pip install x")
    finished = load(tmp_path, "{language: python, image: localhost/mine}").project
    assert (finished.program_base, finished.build.step) == (PLAIN_BASE, "")


MAY_BE: Mapping[str, tuple[str, bool]] = {
    "{language: python, program: main}": ("", True),
    "{program: main}": ("#!/usr/bin/perl\n", True),
    "{program: bin}": ("\x7fELF", False),
    "{program: /usr/local/bin/prove, run: make}": ("", True),
    "{program: venv/bin/prove, run: python3 -m venv venv}": ("", True),
    "{program: target/prove, run: cargo build}": ("", False),
}


@pytest.mark.parametrize("build", MAY_BE)
def test_an_engine_is_asked_where_the_program_may_be_a_script(build: str, tmp_path: Path) -> None:
    text, asked = MAY_BE[build]
    name = "main" if "main" in build else "bin"
    files = {name: text} if text else {}
    assert may_be_script(load(tmp_path, build, files=files)) == asked


def test_the_interpreter_is_the_program_and_the_users_words_are_the_scripts(tmp_path: Path) -> None:
    loaded = load(tmp_path, "{language: python, program: main.py}", "manifest: {Args: [a b], Env: {A: '1'}}\n")
    merged = merge_manifest(replace(loaded, script=SCRIPT))
    assert merged.program == "usr/bin/python3.11"
    assert list(merged.args) == ["-u", "/main.py", "a b"]
    assert (merged.env["PYTHONHOME"], merged.env["A"]) == ("/usr", "1")
    assert "noaslr" not in merged.passthrough
    assert merge_manifest(replace(loaded, script=replace(SCRIPT, fixed=True))).passthrough["noaslr"] == "t"


def test_a_finished_image_keeps_its_words_and_leaves_the_directory_to_the_interpreter(tmp_path: Path) -> None:
    loaded = load(tmp_path, "{image: localhost/mine, program: /usr/bin/python3}")
    image = ImageSettings(arguments=("main.py", "x"), directory="/app", environment={"B": "2"})
    begun = replace(SCRIPT, arguments=(), words=("/app/main.py", "x"), directory="/app", start="/lib/start.pth")
    merged = merge_manifest(replace(loaded, image=image, script=begun))
    assert list(merged.args) == ["/app/main.py", "x"]
    assert merged.env["B"] == "2"
    assert "cwd" not in merged.passthrough


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            "{language: python, program: main.py}",
            "there is no file `main.py` in the context, and no `build.run` makes it",
        ),
        ("{language: python, program: pkg}", "`pkg` is a directory without __main__.py"),
        ("{language: ruby, program: main.rb}", "must be `python` or `node`, not `ruby`"),
        ("{language: pyhton, program: main.py}", "did you mean `python`?"),
    ],
)
def test_what_can_be_known_is_said_before_anything_is_built(build: str, said: str, tmp_path: Path) -> None:
    load_text = f"name: x\nbuild: {build}\nnanos: {{kernel: stub}}\n"
    (tmp_path / "pkg").mkdir()
    (tmp_path / "project.yaml").write_text(load_text)
    done = orchestrator("check", tmp_path / "project.yaml")
    assert done.code == 2
    assert said in done.stderr


def test_a_package_and_a_list_of_files_are_looked_for(tmp_path: Path) -> None:
    load(tmp_path, "{language: python, program: pkg}", "stage: {trim: no.txt}\n", {"pkg/__main__.py": ""})
    done = orchestrator("check", tmp_path / "project.yaml")
    assert done.code == 0, done.stderr
    assert "stage.trim: there is no file `no.txt` in the build context" in done.stderr


def test_what_only_an_engine_knows_is_not_rendered_for_a_build_by_hand(tmp_path: Path) -> None:
    load(tmp_path, "{program: main}", files={"main": "#!/usr/bin/env python3\n"})
    assert "AS script\n" in orchestrator("render", tmp_path / "project.yaml").stdout
    done = orchestrator("render", tmp_path / "project.yaml", "-o", tmp_path / "by-hand")
    assert done.code == 2
    assert "build.program: what starts the program" in done.stderr
    assert not (tmp_path / "by-hand").exists()
