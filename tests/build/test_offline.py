"""A bundle, a machine without a network, the same image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.base import Engine
from orchestrator.inputs.store import Store
from tests.build.projects import COMPILE, write_project
from tests.inputs.conftest import no_proxy, server
from tests.support import engines
from tests.support.cli import Run, orchestrator, without_network
from tests.support.packages import cargo_lock, crate, sha256, wheel
from tests.support.servers import FileServer

__all__ = ["no_proxy", "server"]
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{root}/store"\nrunroot = "{root}/run"\n'


USES_PIP = f"""\
test ! -e own.key
python3 -m pip install --quiet --target deps --require-hashes -r requirements.txt
PYTHONPATH=deps python3 -c 'import greeting; print(greeting.TEXT)' >greeting.h
{COMPILE}
test -n "$(tail -n +2 /proc/net/route)" || echo no network here >&2
"""


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
    engine: Engine, tmp_path: Path, elsewhere: Mapping[str, str], server: FileServer
) -> None:
    # Of a package that no public index has.
    data = wheel("greeting", "1.0", "TEXT = '#define GREETING \"hello\"'\n")
    page = f'<a href="/greeting-1.0-py3-none-any.whl#sha256={sha256(data)}">'
    server.add("/simple/greeting/", page.encode())
    server.add("/greeting-1.0-py3-none-any.whl", data)
    files = {
        "requirements.txt": f"greeting==1.0 --hash=sha256:{sha256(data)}\n",
        "program.c": '#include <stdio.h>\n#include "greeting.h"\nint main(void) { return puts(GREETING " first"); }\n',
    }
    settings = {"packages": ["python3-pip"], "run": USES_PIP, "program": "program", "dependencies": "always"}
    mirrors = {"pypi:": f"{server.url}/simple"}
    project = write_project(
        tmp_path / "p", files=files, build=settings, mirrors=mirrors, stage=with_keys(tmp_path / "p", server)
    )
    done = build(project, tmp_path / "out", engine.info.endpoint)
    assert done.code == 0, done.stderr
    assert "wrote" in done.stderr
    assert "project.lock" in done.stderr
    image = tmp_path / "out/program.img"
    assert_holds(image, KEYS, ["own.key", f"{server.url}/web.key"])
    bundle = tmp_path / "air-gap.tar.zst"
    done = orchestrator("bundle", "export", project, "-o", bundle, "--engine", engine.info.endpoint)
    assert done.code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(bundle)
    assert "1 Python package of requirements.txt" in done.stderr
    server.files.clear()

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

    # Other sources aren't in the bundle, but all that they are built with is: the step runs, without a network.
    source = tmp_path / "p/program.c"
    source.write_text(source.read_text().replace("first", "second"))
    done = without_network(*arguments, env=elsewhere)
    assert done.code == 0, done.stderr
    assert "no bundle contains the result of this build step" in done.stderr
    assert "no network here" in done.stderr
    assert b"hello second" in (tmp_path / "out2/program.img").read_bytes()
    # And so are the Debian packages, as files: they are installed there.
    # A file of this machine is taken as it is, but not where the lock has to be right.
    assert "Setting up python3-pip" in done.stderr
    (tmp_path / "p/own.key").write_bytes(b"\3" * 5000)
    done = without_network(*arguments, env=elsewhere)
    assert done.code == 4, done.stderr
    assert "stage.files: own.key has changed" in done.stderr


KEYS = {"keys/own.key": b"\1" * 5000, "keys/web.key": b"\2" * 700_000}


def with_keys(folder: Path, server: FileServer) -> Mapping[str, Any]:
    """`stage` with files that no step makes: one of this machine, among the sources, and one by URL."""
    server.add("/web.key", KEYS["keys/web.key"])
    folder.mkdir()
    (folder / "own.key").write_bytes(KEYS["keys/own.key"])
    own, web = {"from": "own.key", "to": "keys/own.key"}, {"url": f"{server.url}/web.key", "to": "/keys/web.key"}
    return {"files": [own, web]}


def assert_holds(image: Path, files: Mapping[str, bytes], sources: list[str]) -> None:
    """The image has these files, lock and receipt their pins, the bill of materials where they are from."""
    digests = {path: sha256(data) for path, data in files.items()}
    assert all(data in image.read_bytes() for data in files.values())
    receipt = json.loads(image.with_suffix(".receipt.json").read_text())
    used = {row["name"]: row for row in receipt["inputs"] if row["name"].startswith("file:")}
    assert {name: row["pin"]["sha256"] for name, row in used.items()} == {
        f"file:{path}": digest for path, digest in digests.items()
    }
    assert sorted(row["source"] for row in used.values()) == sorted(sources)
    bill = json.loads(image.with_suffix(".sbom.cdx.json").read_text())
    rows = {row["name"].lstrip("/"): row for row in bill["components"] if row["type"] == "file"}
    told = [{item["name"]: item["value"] for item in rows[path]["properties"]} for path in files]
    assert sorted(properties["gevulot-orchestrator:source"] for properties in told) == sorted(sources)
    assert {path: rows[path]["hashes"][0]["content"] for path in files} == digests


def test_steps_of_an_offline_build_have_no_network(engine: Engine, tmp_path: Path) -> None:
    run = f"{COMPILE}\nls /sys/class/net > interfaces\ntail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' > devices\n"
    project = write_project(tmp_path / "p", build={"run": run, "program": "program"}, stage={"files": ["devices"]})
    assert build(project, tmp_path / "out", engine.info.endpoint).code == 0
    done = build(project, tmp_path / "out", engine.info.endpoint, "--offline", "--locked", "--no-cache")
    assert done.code == 0, done.stderr
    assert orchestrator("inspect", tmp_path / "out/program.img", "cat", "/devices").stdout == "lo\n"


@pytest.mark.engine
def test_an_offline_builds_receipt_is_reproduced_with_a_network(tmp_path: Path) -> None:
    """Offline the step was given the crates of its lock file, which it gets itself otherwise."""
    data = crate("offline-once", "1.0.0", "")
    Store().keep("crate-offline-once", lambda target: {"source": str(target.write_bytes(data))})
    files = {"Cargo.lock": cargo_lock("program", {("offline-once", "1.0.0"): sha256(data)})}
    project = write_project(tmp_path / "p", files=files)
    with engines.podman_engine() as podman:
        done = build(project, tmp_path / "out", podman.info.endpoint, "--offline")
        assert done.code == 0, done.stderr
        assert "the build step takes 1 crate of Cargo.lock" in done.stderr
        receipt = str(tmp_path / "out/program.receipt.json")
        done = build(project, tmp_path / "out", podman.info.endpoint, "--reproduce", receipt)
        assert done.code == 0, done.stderr


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
        assert "trusted on first use, and pinned from now on:\n  base          " in done.stderr
        assert ": the package archive's signature, which apt checked\n" in done.stderr
        assert build(project, tmp_path / "out", podman.info.endpoint, "--locked").code == 0
        text = (tmp_path / "p/project.lock").read_text()
        done = orchestrator("lock", project, "--json", "--engine", podman.info.endpoint)
        said = {"path": str(tmp_path / "p/project.lock"), "written": True, "changes": [], "first": []}
        assert done.json() == said
        assert (tmp_path / "p/project.lock").read_text() == text
        project.write_text(project.read_text().replace("- python3", "- python3\n    - make"))
        done = build(project, tmp_path / "out", podman.info.endpoint, "--locked")
        assert done.code == 2
        assert f"{project}:" in done.stderr
        assert "base: differs from project.lock" in done.stderr
