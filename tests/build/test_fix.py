"""`rehearse --fix` after a build: what it adds is what the next build finds, and a success adds nothing."""

from __future__ import annotations

from pathlib import Path

import yaml

from orchestrator.engine.base import Engine
from tests.build.projects import write_project
from tests.support.cli import Run, orchestrator

SOURCE = """\
#include <dlfcn.h>
#include <stdio.h>
int main(void) {
    fopen("/etc/optional.conf", "r");
    fopen("/etc/debian_version", "r");
    fopen("/data", "r");
    fopen("/etc/apt", "r");
    dlopen("libabsent.so.9", RTLD_NOW);
    int library = dlopen("libz.so.1", RTLD_NOW) != 0, file = fopen("/made.bin", "r") != 0;
    return library && file ? 0 : 3;
}
"""
RUN = "gcc -O1 -o program program.c && mkdir data && touch made.bin data/a\n"


def test_what_is_added_is_there_and_a_success_adds_nothing(engine: Engine, tmp_path: Path) -> None:
    project = write_project(
        tmp_path / "p",
        build={"run": RUN, "program": "program"},
        stage={"libraries": "auto"},
        files={"program.c": SOURCE},
    )
    at = ("--engine", engine.info.endpoint)

    def build() -> Path:
        done = orchestrator("build", project, "-o", tmp_path / "out", *at)
        assert done.code == 0, done.stderr
        return Path(done.stdout.splitlines()[-1])

    def rehearse(image: Path) -> Run:
        return orchestrator("rehearse", image, "--trace", "--fix", project, *at)

    failed = rehearse(build())
    assert failed.code == 7, failed.stderr
    stage = yaml.safe_load(project.read_text())["stage"]
    assert stage == {"extra": ["libz.so.1"], "files": ["/etc/debian_version", "data", "made.bin"], "libraries": "auto"}
    for name, why in {
        "/etc/optional.conf": "not in the build",
        "/etc/apt": "a directory; if the program needs all that is in it, add it to stage.files",
        "libabsent.so.9": "add its package to build.packages",
    }.items():
        assert [line for line in failed.stderr.splitlines() if f"not added: {name}: " in line and why in line], name

    before = project.read_text()
    passed = rehearse(build())
    assert passed.code == 0, passed.stderr
    assert project.read_text() == before
    assert "the program succeeded without it" in passed.stderr
