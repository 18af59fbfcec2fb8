"""What outlasts the build step: the script, run on this machine, with its cargo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import pytest

from orchestrator.containerfile.render import render_containerfile, render_scripts
from orchestrator.project.build_step import CACHES

from .test_render import EXAMPLES, ROOT, plan_of

OLD = 1_577_836_800
"""2020: in a build context, files are older than whatever a step has made."""

OTHERS = """
import os
names = [f"run.{number}" for number in range(60)]
while True:
    for name in names:
        os.mkdir(name)
    for name in names:
        os.rmdir(name)
"""
"""What many builds do to the directory of apt's archives."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A build step with caches in `folder`."""

    folder: Path
    shell: tuple[str, ...] = ("dash",)

    def run(self, script: str, environment: Mapping[str, str] = MappingProxyType({}), *, fresh: bool = False) -> str:
        """What it printed, stderr too."""
        names = " ".join(path.name for path in (self.folder / "caches").iterdir())
        (self.folder / "orchestrator").mkdir(exist_ok=True)
        (self.folder / "orchestrator/caches").write_text(f"{names}\n")
        text = (ROOT / "containerfiles/scripts/caches.sh").read_text()
        (self.folder / "orchestrator/caches.sh").write_text(text)
        done = subprocess.run(
            [*self.shell, str(self.folder / "orchestrator/caches.sh"), "sh", "-e", "-c", script],
            cwd=self.folder / "build",
            env={
                "PATH": os.environ["PATH"],
                "HOME": os.environ.get("HOME", "/"),
                "ORCHESTRATOR_CACHES": str(self.folder / "caches"),
                "ORCHESTRATOR_FRESH": "/" if fresh else "/nowhere",
                **environment,
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def step(tmp_path: Path) -> Step:
    (tmp_path / "build").mkdir()
    for name in CACHES:
        (tmp_path / "caches" / name).mkdir(parents=True)
    return Step(folder=tmp_path)


def write(folder: Path, files: dict[str, str]) -> None:
    """Files of a build context: older than anything that a step makes."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (OLD, OLD))


@pytest.fixture
def dependency(tmp_path: Path) -> str:
    """The URL of a git repository with a crate."""
    repository = tmp_path / "dependency"
    write(
        repository,
        {
            "Cargo.toml": '[package]\nname = "dependency"\nversion = "1.0.0"\nedition = "2021"\n',
            "src/lib.rs": 'pub fn said() -> &\'static str { "of the dependency" }\n',
        },
    )
    git: Callable[..., object] = lambda *words: subprocess.run(  # noqa: E731
        ["git", "-c", "user.name=x", "-c", "user.email=x@x", *words], cwd=repository, check=True, capture_output=True
    )
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "x")
    return f"file://{repository}"


@pytest.mark.parametrize("shell", [("dash",), ("busybox", "sh")], ids=" ".join)
def test_a_change_of_a_source_line_compiles_no_dependency(step: Step, dependency: str, shell: tuple[str, ...]) -> None:
    build = step.folder / "build"
    manifest = '[package]\nname = "app"\nversion = "1.0.0"\nedition = "2021"\n[dependencies]\n'
    files = {
        "Cargo.toml": f'{manifest}dependency = {{ git = "{dependency}" }}\n',
        "src/bin/app.rs": 'fn main() { println!("first {}", dependency::said()) }\n',
        "src/bin/old.rs": "fn main() {}\n",
    }
    step, cargo = replace(step, shell=shell), "cargo build --release && target/release/app"
    write(build, files)
    subprocess.run(["cargo", "generate-lockfile"], cwd=build, check=True, capture_output=True)
    first = step.run(cargo)
    assert "Compiling dependency" in first
    assert "first of the dependency" in first
    untouched = (build / "target/release/app").read_bytes()
    # The next build begins without a target/, as every step does.
    subprocess.run(["rm", "-rf", "target", "src/bin/old.rs"], cwd=build, check=True)
    again = step.run(cargo)
    assert "Compiling dependency" not in again
    assert (build / "target/release/app").read_bytes() == untouched
    assert not (build / "target/release/old").exists()
    subprocess.run(["rm", "-rf", "target"], cwd=build, check=True)
    write(build, {"src/bin/app.rs": files["src/bin/app.rs"].replace("first", "second")})
    changed = step.run(cargo)
    assert "Compiling dependency" not in changed
    assert "second of the dependency" in changed
    subprocess.run(["rm", "-rf", "target"], cwd=build, check=True)
    assert "Compiling dependency" in step.run(cargo, fresh=True)
    subprocess.run(["rm", "-rf", "target"], cwd=build, check=True)
    # What cargo doesn't look at: a build script may.
    assert "Compiling dependency" in step.run(cargo, {"SOME_SETTING": "other"})


def test_dependencies_that_another_build_replaces_meanwhile_are_compiled(step: Step, dependency: str) -> None:
    build, programs, replaced = step.folder / "build", step.folder / "programs", step.folder / "replaced"
    manifest = '[package]\nname = "app"\nversion = "1.0.0"\nedition = "2021"\n[dependencies]\n'
    write(
        build,
        {
            "Cargo.toml": f'{manifest}dependency = {{ git = "{dependency}" }}\n',
            "src/main.rs": 'fn main() { println!("{}", dependency::said()) }\n',
        },
    )
    subprocess.run(["cargo", "generate-lockfile"], cwd=build, check=True, capture_output=True)
    # A copy during which the other build puts its own there; PATH is a part of what names the directory.
    write(programs, {"cp": f'#!/bin/sh\n/bin/cp "$@"\n[ ! -e {replaced} ] || {{ mv "$2" "$2-"; mkdir "$2"; }}\n'})
    (programs / "cp").chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    step.run("cargo build", path)
    subprocess.run(["rm", "-rf", "target"], cwd=build, check=True)
    replaced.touch()
    assert "Compiling dependency" in step.run("cargo build", path)


def test_tools_are_told_where_their_caches_are_unless_somebody_else_did(step: Step) -> None:
    show = 'echo "$GOCACHE|${GOMODCACHE-}|$npm_config_cache|$PIP_CACHE_DIR"'
    at = step.folder / "caches"
    # A user who has fetched modules keeps them where they are: this one has none.
    assert step.run(show, {"GOFLAGS": "-trimpath", "HOME": str(step.folder)}).strip() == "|".join(
        str(at / name) for name in ("go/build", "go/modules", "npm", "pip")
    )
    own = {"GOCACHE": "/a", "GOMODCACHE": "/b", "npm_config_cache": "/c", "PIP_CACHE_DIR": "/d"}
    assert step.run(show, {"GOFLAGS": "-trimpath", **own}).strip() == "/a|/b|/c|/d"
    # Without -trimpath a program says where its modules were.
    assert step.run(show).strip().split("|")[1] == ""
    (at / "npm").rmdir()
    assert step.run(show).strip().split("|")[2] == ""


def test_downloaded_debs_are_kept_and_shared(step: Step) -> None:
    place = 'archives=$(apt-config shell x Dir::Cache::archives/d | sed "s/x=//; s/\'//g"); '
    step.run(place + 'echo deb >"$archives/a_1_all.deb"')
    assert [path.name for path in (step.folder / "caches/apt").iterdir()] == ["a_1_all.deb"]
    assert step.run(place + 'cat "$archives/a_1_all.deb"').strip() == "deb"


def test_builds_that_begin_and_end_beside_it_do_not_stop_a_step(step: Step) -> None:
    with subprocess.Popen([sys.executable, "-c", OTHERS], cwd=step.folder / "caches/apt") as others:
        try:
            for _ in range(15):
                assert step.run("echo done") == "done\n"
        finally:
            others.kill()


def test_each_cache_can_be_turned_off() -> None:
    plan = plan_of(ROOT / EXAMPLES["hello"])
    assert plan.caches == CACHES
    for name in CACHES:
        only = replace(plan, caches=(name,))
        text = render_containerfile(only)
        mounted = [other for other in CACHES if f"id=orchestrator-{other}," in text]
        assert mounted == [name]
        assert render_scripts(only).get("step/orchestrator/caches", "cargo\n") == f"{name}\n"
    none = replace(plan, caches=())
    assert "type=cache" not in render_containerfile(none)
    assert "caches.sh" not in render_containerfile(none)
