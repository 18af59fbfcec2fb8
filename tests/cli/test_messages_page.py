"""docs/messages.md: each message that it shows is the one that the program prints for that mistake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from orchestrator.engine import select
from orchestrator.engine.base import StepFailedError
from tests.cli.conftest import cli
from tests.support.fake_engine import FakeEngine, Scripted

PAGE: Final = Path(__file__).resolve().parents[2] / "docs/messages.md"
CODE: Final = re.compile(r"`` (.+?) ``")
BASE = "name: p\nruntime: local\nbase: debian:bookworm\nnanos: {kernel: stub}\n"
BUILD = 'build: {run: "true", program: p}\n'
STAGING = "RUN sh /orchestrator/staging/stage-tree.sh --program nope"


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A project.yaml with a mistake, what else is there, and the command that says so."""

    project: str = BASE + BUILD
    files: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ("check", "project.yaml")
    environment: Mapping[str, str] = field(default_factory=dict)
    build: Scripted | None = None
    """What the engine's build does, for a command that needs one."""


def refused(tail: str) -> Scripted:
    """A staging step that ends with these lines."""
    error = StepFailedError("failed", stage="staging", instruction=STAGING, tail=tail, status=1)
    return Scripted(error=error)


def failed(tail: str, status: int = 1) -> Scripted:
    """A step of the user's that ends with these lines and this status."""
    script = "RUN umask 022 && sh /orchestrator/caches.sh sh -e /orchestrator/build.sh"
    return Scripted(error=StepFailedError("failed", stage="program", instruction=script, tail=tail, status=status))


BUILDS = ("build", "project.yaml", "-o", "out", "--progress", "plain")
MISTAKES: Mapping[str, Mistake] = {
    "`env` at the top": Mistake(project=BASE + BUILD + "env: {X: y}\n"),
    "`build.env`": Mistake(project=BASE + 'build: {run: "true", program: p, env: {X: y}}\n'),
    "`build.args` without a Containerfile": Mistake(
        project=BASE + 'build: {run: "true", program: p, args: [--prove]}\n'
    ),
    "`stage.file`": Mistake(project=BASE + BUILD + "stage: {file: [a.txt]}\n"),
    "`stage.dirs`": Mistake(project=BASE + BUILD + "stage: {dirs: [t]}\n"),
    "`manifest.Environment`": Mistake(project=BASE + BUILD + 'manifest: {Environment: {B: "2"}}\n'),
    "a version in Env without quotes": Mistake(project=BASE + BUILD + "manifest: {Env: {V: 1.10}}\n"),
    "a time in Env": Mistake(project=BASE + BUILD + "manifest: {Env: {T: 12:30:45}}\n"),
    "an octal number in Env": Mistake(project=BASE + BUILD + "manifest: {Env: {N: 010}}\n"),
    "a hexadecimal number in Env": Mistake(project=BASE + BUILD + "manifest: {Env: {X: 0x1F}}\n"),
    "`on` in Env": Mistake(project=BASE + BUILD + "manifest: {Env: {DEBUG: on}}\n"),
    "`memory: 12:30`": Mistake(project=BASE + BUILD + "resources: {memory: 12:30}\n"),
    "`ops:` without `packer: ops`": Mistake(project=BASE + BUILD + "ops: {version: 0.1.43}\n"),
    "a Debian release with a letter wrong": Mistake(
        project="name: p\nbase: {image: 'debian:bookworm', bootstrap: {debian: bookwurm}}\nnanos: {kernel: stub}\n"
        + BUILD
    ),
    "`run: >` with several commands": Mistake(
        project=BASE + "build:\n  run: >\n    make\n    make install\n  program: p\n"
    ),
    "a non-breaking space in `run`": Mistake(project=BASE + "build:\n  run: |\n    make\u00a0all\n  program: p\n"),
    "a file that .dockerignore leaves out": Mistake(
        project=BASE + BUILD + "stage: {files: [key.bin]}\n", files={".dockerignore": "*.bin\n", "key.bin": "x"}
    ),
    "`program` of the build is not there": Mistake(
        project=BASE + "build: {run: make, program: nope}\n",
        command=BUILDS,
        build=refused(
            "error: build.program: nope is not there after build.run (looked in /build)\n  programs that are there:\n"
            "    p\n  give its path relative to the work directory, or absolute"
        ),
    ),
    "a file in the manifest's Dirs": Mistake(
        command=BUILDS,
        build=refused("error: Dirs: params is a file\n  put it in stage.files or the manifest's Files"),
        project=BASE + BUILD + "manifest: {Dirs: [params]}\n",
    ),
    "a compiler that the base lacks": Mistake(
        project=BASE + "build: {run: cc p.c, program: p}\n",
        command=BUILDS,
        build=failed("/orchestrator/build.sh: 1: cc: not found", 127),
    ),
    "a library that the base lacks": Mistake(
        project=BASE + "build: {run: cc p.c, program: p}\n",
        command=BUILDS,
        build=failed("/usr/bin/ld: cannot find -lgmp: No such file or directory"),
    ),
    "a docker context whose engine is not there": Mistake(
        command=(*BUILDS, "--engine", "docker"),
        files={
            "docker/config.json": '{"currentContext": "colima"}',
            "docker/contexts/meta/abc/meta.json": (
                '{"Name": "colima", "Endpoints": {"docker": {"Host": "unix:///nowhere/docker.sock"}}}'
            ),
        },
        environment={"DOCKER_CONFIG": "docker", "DOCKER_HOST": "", "DOCKER_CONTEXT": ""},
    ),
    "`caches` beside a finished image": Mistake(project=BASE + "build: {image: 'prover:1', caches: [cargo]}\n"),
    "`secrets` without a build step": Mistake(
        project=BASE + "build: {program: p, secrets: [{id: a, env: HOME}]}\n", files={"p": "x"}
    ),
    "a secret's file in `stage.files`": Mistake(
        project=BASE
        + 'build: {run: "true", program: p, secrets: [{id: a, file: key}]}\nstage: {files: [{from: key, to: key}]}\n',
        files={"key": "x"},
    ),
    "yarn.lock with `dependencies: always`": Mistake(
        project=BASE + "build: {run: yarn, program: p, dependencies: always}\n",
        files={"yarn.lock": "# yarn lockfile v1\n"},
    ),
}


def rows() -> dict[str, str]:
    """What the page says is printed now, by mistake: the table's last column by its first."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return {cells[0]: cells[-1] for cells in lines if cells[0] in MISTAKES}


def test_the_page_has_every_mistake() -> None:
    assert list(rows()) == list(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_what_the_page_shows_is_printed(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake = MISTAKES[name]
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(here.parent / "cache"))
    for variable, value in mistake.environment.items():
        monkeypatch.setenv(variable, value) if value else monkeypatch.delenv(variable, raising=False)
    for path, text in {**mistake.files, "project.yaml": mistake.project}.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    if mistake.build is not None:
        engine = FakeEngine(registry={"debian:bookworm": f"sha256:{'1' * 64}"}, builds=[mistake.build])
        monkeypatch.setattr(select, "connect", lambda *_, **__: engine)
    said = re.sub(r"\s+", " ", cli(*mistake.command).err)
    shown = CODE.findall(rows()[name])
    assert shown
    for message in shown:
        at = 0
        for part in message.split(" … "):
            assert part in said[at:], f"{part!r} is not in {said!r}"
            at = said.index(part, at) + len(part)
