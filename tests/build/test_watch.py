"""`build --watch`: errors are shown and waited for, changes are built, Ctrl-C leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.build.watched import changes, look_at
from orchestrator.engine.base import Engine
from tests.build.projects import SOURCE, write_project
from tests.support.cli import ROOT, orchestrator
from tests.support.engines import docker_engine


class Watching:
    """A running `build --watch` and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._seen = 0
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, pattern: str) -> str:
        """What it says from now on, to the first line that matches."""
        end = time.monotonic() + 120
        began = self._seen
        while time.monotonic() < end:
            while self._seen < len(self._lines):
                self._seen += 1
                if re.search(pattern, self._lines[self._seen - 1]):
                    return "".join(self._lines[began : self._seen])
            time.sleep(0.05)
        raise AssertionError(f"never said: {pattern}\n" + "".join(self._lines))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)


@contextmanager
def watching(*arguments: str | Path, cwd: Path) -> Iterator[Watching]:
    command = [sys.executable, "-m", "orchestrator", "build", "--watch", *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield Watching(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def docker() -> Iterator[Engine]:
    with docker_engine() as engine:
        yield engine


@pytest.mark.engine
def test_errors_wait_changes_build_and_an_interrupt_leaves_nothing(docker: Engine, tmp_path: Path) -> None:
    project = write_project(tmp_path / "p", files={".dockerignore": "notes\n", "notes": ""})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/project.yaml").write_text("name: [\n")
    before = {left.id for left in docker.leftovers() if left.kind == "container"}
    # 3 MiB: of a step BuildKit shows less.
    good = project.read_text().replace("gcc -O1", "yes 'of a long log' | head -c 3145728; gcc -O1", 1)
    project.write_text(good.replace("runtime:", "runtme:"))
    with watching("project.yaml", "../broken", "--engine", docker.info.endpoint, cwd=project.parent) as seen:
        said = seen.until("watching 2 projects for changes")
        assert "project.yaml:2: runtme: " in said
        assert "../broken/project.yaml:2: is not valid YAML" in said
        project.write_text(good)
        assert "project.yaml changed" in seen.until("program: built and verified")
        assert "broken" not in seen.until("^watching")
        (project.parent / "notes").write_text("nobody builds this")
        (project.parent / "program.c").write_text(SOURCE.replace("return 0", "return zero"))
        said = seen.until("^watching")
        assert re.search(r"^--- \d\d:\d\d:\d\d program.c changed$", said, re.MULTILINE)
        assert re.search(r"project.yaml:\d+: build.run: the build step failed", said)
        assert "KiB left out here" in said
        assert "undeclared" in said
        seen.process.send_signal(signal.SIGINT)
        out, _ = seen.process.communicate(timeout=60)
    assert seen.process.returncode == 130
    assert out == "target/program.img\n"
    assert {left.id for left in docker.leftovers() if left.kind == "container"} == before
    assert not list((project.parent / "target").glob(".orchestrator-*.partial"))


def test_what_is_looked_at(tmp_path: Path) -> None:
    files = {".dockerignore": "left-out\n", "left-out/a": "", "sub/a": "", "manifest.json": "{}"}
    project = write_project(
        tmp_path / "p", files=files, manifest="manifest.json", stage={"files": [{"from": "../kzg.srs", "to": "kzg"}]}
    )
    here = project.parent
    (tmp_path / "kzg.srs").write_text("large")

    def looked(change: Path, text: str | None) -> list[str]:
        before = look_at(project)
        change.unlink(missing_ok=True) if text is None else change.write_text(text)
        return [Path(name).name for name in changes(before, look_at(project))]

    assert looked(here / "program.c", "int main;") == ["program.c"]
    assert looked(here / "new.c", "") == ["new.c"]
    assert looked(here / "new.c", None) == ["new.c"]
    assert looked(here / "left-out/a", "x") == []
    assert looked(here / "manifest.json", '{"Env": {}}') == ["manifest.json"]
    assert looked(here / ".dockerignore", "") == [".dockerignore", "left-out", "a"]
    assert looked(tmp_path / "kzg.srs", "changed") == ["kzg.srs"]
    assert looked(here / "project.lock", "") == ["project.lock"]
    (here / "target").mkdir()
    assert looked(here / "target/program.img", "not one of ours") == ["program.img"]
    assert "project.yaml" in looked(project, "name: [")
    assert looked(here / "sub/a", "of a project with errors") == ["a"]


def test_what_it_does_not_go_with() -> None:
    for other in ("--json", "--reproduce=x.receipt.json"):
        done = orchestrator("build", "--watch", other, ROOT / "examples/hello/project.yaml")
        assert (done.code, "--watch" in done.stderr) == (2, True), done.stderr
