"""A bundle, a machine without a network, the same image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.engine.base import Engine
from tests.build.projects import COMPILE, write_project
from tests.support import engines
from tests.support.cli import Run, orchestrator, without_network

STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{root}/store"\nrunroot = "{root}/run"\n'


def build(project: Path, out: Path, engine: str, *more: str) -> Run:
    return orchestrator("build", project, "-o", out, "--engine", engine, *more)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Mapping[str, str]:
    """The environment of another machine: an empty cache, an engine without an image."""
    root = tmp_path / "elsewhere"
    for name in ("store", "run", "cache", "user"):
        (root / name).mkdir(parents=True)
    (root / "storage.conf").write_text(STORAGE.format(root=root))
    return {
        "ORCHESTRATOR_CACHE_DIR": str(root / "cache"),
        "CONTAINERS_STORAGE_CONF": str(root / "storage.conf"),
        "XDG_CACHE_HOME": str(root / "user"),
    }


def test_from_a_bundle_without_any_network_interface(
    engine: Engine, tmp_path: Path, elsewhere: Mapping[str, str]
) -> None:
    # A step that needs the network: the loopback of this machine won't do, so the route to anywhere is asked for.
    run = f'{COMPILE}\ntest -n "$(cat /proc/net/route | tail -n +2)" || {{ echo no network here >&2; exit 9; }}\n'
    project = write_project(tmp_path / "p", build={"packages": ["netbase"], "run": run, "program": "program"})
    done = build(project, tmp_path / "out", engine.info.endpoint)
    assert done.code == 0, done.stderr
    assert "wrote" in done.stderr
    assert "project.lock" in done.stderr
    bundle = tmp_path / "air-gap.tar.zst"
    done = orchestrator("bundle", "export", project, "-o", bundle, "--engine", engine.info.endpoint)
    assert done.code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(bundle)

    arguments: list[str | Path] = ["build", project, "-o", tmp_path / "out2", "--engine", "private"]
    arguments += ["--offline", "--locked"]
    early = without_network(*arguments, env=elsewhere)
    assert early.code == 4, early.stderr
    assert "cache import" in early.stderr
    assert orchestrator("cache", "import", bundle, env=elsewhere).code == 0
    done = without_network(*arguments, env=elsewhere)
    assert done.code == 0, done.stderr
    assert (tmp_path / "out2/program.img").read_bytes() == (tmp_path / "out/program.img").read_bytes()
    receipt = json.loads((tmp_path / "out2/program.receipt.json").read_text())
    assert not any("build.sh" in row["step"] for row in receipt["stages"])

    # Other sources aren't in the bundle: the step runs, without a network, and says so.
    (tmp_path / "p/program.c").write_text("int main(void) { return 0; }\n")
    done = without_network(*arguments, env=elsewhere)
    assert done.code == 5, done.stderr
    assert "no network here" in done.stderr
    assert "no bundle contains the result of this build step" in done.stderr
    # Its packages are, as files: they are installed there.
    assert "Setting up netbase" in done.stderr


def test_steps_of_an_offline_build_have_no_network(engine: Engine, tmp_path: Path) -> None:
    run = f"{COMPILE}\nls /sys/class/net > interfaces\ntail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' > devices\n"
    project = write_project(tmp_path / "p", build={"run": run, "program": "program"}, stage={"files": ["devices"]})
    assert build(project, tmp_path / "out", engine.info.endpoint).code == 0
    done = build(project, tmp_path / "out", engine.info.endpoint, "--offline", "--locked", "--no-cache")
    assert done.code == 0, done.stderr
    assert orchestrator("inspect", tmp_path / "out/program.img", "cat", "/devices").stdout == "lo\n"


@pytest.mark.engine
def test_locked_stops_where_the_lock_says_nothing(tmp_path: Path) -> None:
    project = write_project(tmp_path / "p")
    with engines.podman_engine() as podman:
        done = build(project, tmp_path / "out", podman.info.endpoint, "--locked")
        assert done.code == 2
        assert "project.lock" in done.stderr
        assert "orchestrator lock" in done.stderr
        done = orchestrator("lock", project, "--engine", podman.info.endpoint)
        assert done.code == 0, done.stderr
        assert done.stdout.splitlines() == [str(tmp_path / "p/project.lock")]
        assert build(project, tmp_path / "out", podman.info.endpoint, "--locked").code == 0
        text = (tmp_path / "p/project.lock").read_text()
        done = orchestrator("lock", project, "--json", "--engine", podman.info.endpoint)
        assert done.json() == {"path": str(tmp_path / "p/project.lock"), "written": True, "changes": []}
        assert (tmp_path / "p/project.lock").read_text() == text
        project.write_text(project.read_text().replace("- python3", "- python3\n    - make"))
        done = build(project, tmp_path / "out", podman.info.endpoint, "--locked")
        assert done.code == 2
        assert f"{project}:" in done.stderr
        assert "base: differs from project.lock" in done.stderr
