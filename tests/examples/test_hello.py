"""The C example, built by the very command of its project.yaml."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.project.load import load_project
from tests.examples.guest import Guest


@pytest.fixture
def hello(examples: Path, tmp_path: Path, guest: Guest) -> Guest:
    project = load_project(examples / "hello/project.yaml").project
    build = shutil.copytree(examples / "hello", tmp_path / "build")
    subprocess.run(["sh", "-ec", project.build.run], cwd=build, check=True)
    guest.put(build / project.build.program, "hello")
    return guest


def test_it_greets_from_its_environment_and_leaves_a_file(hello: Guest) -> None:
    hello.workspace.mkdir()
    ended = hello.run("hello", HELLO_NAME="Gevulot")
    assert (ended.status, ended.stdout) == (0, "Hello, Gevulot, from a unikernel.\n")
    assert (hello.workspace / "hello.txt").read_text() == "Hello, Gevulot.\n"


def test_it_needs_neither_environment_nor_workspace(hello: Guest) -> None:
    ended = hello.run("hello")
    assert (ended.status, ended.stdout) == (0, "Hello, world, from a unikernel.\n")
    assert not hello.workspace.exists()


def test_a_file_that_it_cannot_write_is_a_failure(hello: Guest) -> None:
    (hello.workspace / "hello.txt").mkdir(parents=True)
    ended = hello.run("hello")
    assert ended.status == 1
    assert "/workspace/hello.txt: Is a directory" in ended.stderr
