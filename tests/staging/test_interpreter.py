"""What starts a script: the real find-interpreter.sh, in both shells, with this machine's own Python."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.project.script import read_script
from orchestrator.resolved import ScriptSettings
from orchestrator.resources import SCRIPTS
from tests.staging.conftest import Workshop

PYTHON = str(Path("/usr/bin/python3").resolve())


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one run of the script said."""

    script: ScriptSettings | None
    refusal: str


def ask(workshop: Workshop, program: str, *arguments: str, at: Path | None = None) -> Answer:
    """Of a program below the work directory, with python3 and a shell in PATH."""
    tools = Path(workshop.path)
    for name in ("python3", "sh", "env"):
        if not (tools / name).is_symlink():
            (tools / name).symlink_to(f"/usr/bin/{name}" if name != "sh" else "/bin/sh")
    shell = [shutil.which(workshop.shell[0]) or "", *workshop.shell[1:]]
    out = workshop.build.parent / "interpreter"
    words = [str(SCRIPTS / "find-interpreter.sh"), "--program", program, *arguments, "--out", str(out)]
    environment = {"PATH": workshop.path, "HOME": str(workshop.build)}
    done = subprocess.run(
        [*shell, *words], cwd=at or workshop.build, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return Answer(script=read_script(out.read_text()) if done.returncode == 0 else None, refusal=done.stderr)


def write(workshop: Workshop, name: str, text: str, mode: int = 0o644) -> None:
    path = workshop.build / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    path.chmod(mode)


STARTED: Mapping[str, tuple[str, list[str]]] = {
    "#!/usr/bin/env python3\n": ("python3", []),
    "#!/usr/bin/python3 -u\n": ("python3", ["-u"]),
    "#! /usr/bin/python3 -u -X utf8\n": ("python3", ["-u", "-X", "utf8"]),
    "#!/usr/bin/env -S python3 -B -u\n": ("python3", ["-B", "-u"]),
    "#!/usr/bin/env -Spython3 -u\n": ("python3", ["-u"]),
    "#!/usr/bin/env -S A=1 python3\n": ("python3", []),
    "#!/usr/bin/env python\n": ("python3", []),
    "#!/usr/bin/env python3\r\n": ("python3", []),
}


@pytest.mark.parametrize("line", STARTED, ids=repr)
def test_a_first_line_names_interpreter_and_options(line: str, workshop: Workshop) -> None:
    write(workshop, "main.py", f"{line}print(1)\n")  # not executable: nothing executes it
    script = ask(workshop, "main.py").script
    assert script is not None
    assert (script.language, script.interpreter, script.program) == ("python", PYTHON, PYTHON[1:])
    assert list(script.arguments) == [*STARTED[line][1], "/main.py"]
    assert bool(script.warnings) == line.endswith("\r\n")
    assert ("A" in script.environment) == ("A=1" in line)


def test_what_python_loads_is_named_by_python(workshop: Workshop) -> None:
    write(workshop, "main.py", "print(1)\n")
    write(workshop, "host/pyvenv.cfg", "home = /usr/bin\n")
    script = ask(workshop, "main.py", "--language", "python").script
    assert script is not None
    paths = {packed.path: packed.exclude for packed in script.paths}
    library = f"/usr/lib/{Path(PYTHON).name}"
    assert {".", library} <= set(paths)
    assert "/host/" in paths["."]  # a virtual environment of the host's
    assert {"/test", "__pycache__", "/dist-packages"} <= set(paths[library])
    assert all("/pip" in exclude for path, exclude in paths.items() if path.endswith("dist-packages"))
    assert script.environment["PYTHONHOME"] == "/usr"
    assert "PYTHONPATH" not in script.environment


def test_a_package_is_started_as_a_module(workshop: Workshop) -> None:
    for name in ("pkg", "src/inner"):
        write(workshop, f"{name}/__init__.py", "")
        write(workshop, f"{name}/__main__.py", "from . import __name__\n")
    for name, parent in (("pkg", "/"), ("src/inner", "/src")):
        script = ask(workshop, name, "--language", "python").script
        assert script is not None
        assert list(script.arguments) == ["-m", Path(name).name]
        assert script.environment["PYTHONPATH"] == parent


def test_a_virtual_environment_keeps_its_own_python(workshop: Workshop) -> None:
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(workshop.build / "venv")], check=True)
    python = workshop.build / "venv/bin/python3"
    assert ask(workshop, str(python)).script is None  # a program that is named by its path stays what it was
    script = ask(workshop, str(python), "--language", "python").script
    assert script is not None
    assert (script.interpreter, script.program) == (str(python), "venv/bin/python3")
    assert "PYTHONHOME" not in script.environment
    assert script.arguments == ()
    assert any("/venv/bin/python*" in packed.exclude for packed in script.paths)


REFUSED = {
    "#!/usr/bin/python9.1\n": ("/usr/bin/python9.1, which its first line names, is not in the base", "it has "),
    "#!/usr/bin/env ruby9\n": ("ruby9 is not in the base", "add its package to build.packages"),
    "#!/usr/bin/env\n": ("names no interpreter", "write, for example"),
    "#!\n": ("names no interpreter", "write, for example"),
    "#!bin/python3\n": ("by a relative path", "write, for example"),
    "#!/bin/sh\n": ("is a shell script", "name the program that it starts"),
    "#!/usr/bin/env -u A python3\n": ("an option of env that is not known: -u", ""),
}


@pytest.mark.parametrize("line", REFUSED, ids=repr)
def test_a_script_that_nothing_can_start_is_refused(line: str, workshop: Workshop) -> None:
    write(workshop, "main", line)
    said = ask(workshop, "main").refusal
    assert said.startswith("error: build.program: main")
    for part in REFUSED[line]:
        assert part in said


def test_an_interpreter_that_is_a_script_itself(workshop: Workshop, tmp_path: Path) -> None:
    shim = tmp_path / "python3"
    shim.write_text("#!/bin/sh\n")
    shim.chmod(0o755)
    write(workshop, "main", f"#!{shim}\n")
    assert f"its interpreter {shim} is a script itself" in ask(workshop, "main").refusal


def test_another_language_than_the_first_line_says(workshop: Workshop) -> None:
    write(workshop, "main", "#!/usr/bin/env python3\n")
    assert "and build.language is node" in ask(workshop, "main", "--language", "node").refusal


def test_a_finished_image_gives_the_words_and_the_directory(workshop: Workshop) -> None:
    """Run in /: an image's paths are the guest's. The script in the image's directory is named by its whole path."""
    write(workshop, "app/main.py", "print(1)\n")
    directory = workshop.build / "app"
    words = [word for name in ("-u", "main.py", "data.txt") for word in ("--argument", name)]
    answer = ask(workshop, PYTHON, "--directory", str(directory), *words, at=Path("/"))
    assert answer.script is not None, answer.refusal
    assert answer.script.words == ("-u", f"{directory}/main.py", "data.txt")
    assert answer.script.arguments == ()
    assert answer.script.directory == str(directory)
    assert answer.script.start.endswith("-packages/orchestrator-start.pth")
    assert str(directory) in [packed.path for packed in answer.script.paths]
    assert "." not in [packed.path for packed in answer.script.paths]
    # What other programs find in such an image is the user's own affair.
    assert ask(workshop, "/bin/true", "--directory", str(directory), at=Path("/")).script is None


def test_modules_are_compiled_the_same_each_time_and_only_what_is_used_is_kept(workshop: Workshop) -> None:
    for name in ("main.py", "used/__init__.py", "used/part.py", "unused/__init__.py", "bad.py"):
        write(workshop, name, f"NAME = {name!r}\n" if name != "bad.py" else "print 'of another Python'\n")
    write(workshop, "opened.txt", "# of a rehearsal\n/main.py\n/used/__init__.py\n/bad.py\n")
    write(workshop, "data/kept", "by its name")
    options = ["--interpreter-of", "python", "--path", ".", "--to", "/", "--exclude", "__pycache__"]
    chosen = ["--trim", "opened.txt", "--path", "data"]
    for name in ("python3", "env"):
        if not (Path(workshop.path) / name).exists() and Path("/usr/bin", name).exists():
            (Path(workshop.path) / name).symlink_to(f"/usr/bin/{name}")
    first = workshop.stage(*options, *chosen, program=PYTHON, name=PYTHON[1:])
    assert first.status == 0, first.stderr
    tag = Path(PYTHON).name.replace("python", "cpython-").replace(".", "")
    own = {path for path in first.paths() if not path.startswith(("/lib", "/usr"))}
    assert own == {
        "/main.py", f"/__pycache__/main.{tag}.pyc", "/bad.py", "/data/kept",
        "/used/__init__.py", f"/used/__pycache__/__init__.{tag}.pyc",
    }  # fmt: skip
    compiled = (first.root / f"__pycache__/main.{tag}.pyc").read_bytes()
    assert compiled[4:8] == b"\x01\0\0\0"  # by a hash, which is not checked: no time is in it
    assert b"/main.py" in compiled  # as the guest will know it
    assert str(first.root).encode() not in compiled
    shutil.rmtree(first.root)
    again = workshop.stage(*options, program=PYTHON, name=PYTHON[1:])
    assert (again.root / f"__pycache__/main.{tag}.pyc").read_bytes() == compiled
    assert (again.root / "unused/__init__.py").exists()


def test_a_list_that_is_not_there_is_refused(workshop: Workshop) -> None:
    write(workshop, "main.py", "")
    staged = workshop.stage("--path", ".", "--to", "/", "--trim", "none.txt", program=PYTHON, name=PYTHON[1:])
    assert staged.status == 1
    assert "error: stage.trim: none.txt is not there" in staged.stderr


def test_what_is_no_script_is_left_alone(workshop: Workshop) -> None:
    write(workshop, "data", "words\n")
    workshop.compile("prog", "int main(void) { return 0; }")
    for name in ("data", "prog", "nothing"):
        assert ask(workshop, name) == Answer(script=None, refusal="")
