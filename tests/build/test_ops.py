"""The `ops` packer with a stand-in ops: its good image is taken, each of its quiet failures is an error."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.base import Engine
from tests.build.projects import COMPILE, write_project
from tests.standins.make_ops import make_ops
from tests.standins.nanos_release import make_release
from tests.support.cli import Run, orchestrator


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("nanos"))


def ops_project(folder: Path, release: Path, behaviour: str, **changes: Any) -> Path:
    ops = make_ops(folder / "ops", behaviour=behaviour, interpreter="/usr/bin/python3")
    return write_project(
        folder / "project", packer="ops", nanos={"path": str(release)}, ops={"path": str(ops)}, **changes
    )


def build(project: Path, out: Path, engine: Engine, *more: str) -> Run:
    return orchestrator("build", project, "-o", out, "--engine", engine.info.endpoint, *more)


# Link in /tree → whether staging keeps it, and whether verify finds its end.
LINKS = {
    "relative": ("a/b.txt", "kept"), "absolute": ("/tree/a", "kept"), "through": ("absolute/b.txt", "kept"),
    "up": ("../../../tree/c.txt", "kept"), "mounted": ("/workspace/out/x", "kept"), "device": ("/dev/null", "kept"),
    "added": ("/etc/passwd", "kept"), "not packed": ("/build/program.c", "dangling"),
    "nowhere": ("/tree/none", "left out"), "round": ("round", "left out"),
}  # fmt: skip
PLUGIN = """\
mkdir -p plugins own
echo 'int deep(void) { return 0; }' | gcc -shared -fPIC -o own/libdeep.so -Wl,-soname,libdeep.so -x c -
echo 'int deep(void); void pthread_exit(void *); void f(void) { if (deep()) pthread_exit(0); }' |
    gcc -shared -fPIC -o plugins/plug.so -x c - -Lown -ldeep -Wl,-rpath,'$ORIGIN/../own'
"""


def test_both_packers_give_the_same_tree(engine: Engine, tmp_path: Path, release: Path) -> None:
    """Links that only the guest can follow, and plugins with what they need, included; warnings stay, cached or not."""
    manifest = {
        "Args": ["--k=1"], "Env": {"A": "b"}, "Files": ["data/one.txt"], "Dirs": ["tree", "plugins"], "Klibs": ["tls"],
        "MapDirs": {"maps/*": "/mapped"},
    }  # fmt: skip
    files = {"data/one.txt": "1", "tree/a/b.txt": "2", "tree/c.txt": "3", "maps/d.txt": "4"}
    run = f"{COMPILE}\n{PLUGIN}" + "".join(f"ln -s '{to}' 'tree/{name}'\n" for name, (to, _) in LINKS.items())
    outside = tmp_path / "outside.key"
    outside.write_bytes(b"outside" * 40_000)
    stage = {"extra": ["libdl.so.2"], "files": [{"from": str(outside), "to": "outer/k+1.key"}]}
    changes = {
        "manifest": manifest, "files": files, "stage": stage,
        "build": {"run": run, "program": "program"},
    }  # fmt: skip
    images, warnings = [], []
    for number, (packer, progress) in enumerate([("ops", "plain"), ("native", "tty"), ("native", "json")]):
        folder = tmp_path / packer
        project = ops_project(folder, release, "good", **changes)
        project.write_text(project.read_text().replace("packer: ops", f"packer: {packer}"))
        done = build(project, folder / f"out{number}", engine, "--progress", progress)
        assert done.code == 0, done.stderr
        images.append(Path(done.stdout.splitlines()[-1]))
        warnings.append(json.loads(images[-1].with_suffix(".receipt.json").read_text())["warnings"])
        summary = done.stderr[done.stderr.index("built and verified") :]
        assert [f"  warning   {warning['text']}" in summary for warning in warnings[-1]] == [True] * len(warnings[-1])
    for other in images[1:]:
        compared = orchestrator("inspect", images[0], "diff", other)
        assert compared.code == 0, compared.stdout
        assert {line.split(":")[0] for line in compared.stdout.splitlines()} == {"~ form"}  # UUIDs, order, places
        converted = orchestrator("inspect", images[0], "convert", tmp_path / "converted.img")
        assert converted.code == 0, converted.stderr
        assert (tmp_path / "converted.img").read_bytes() == other.read_bytes()
    assert orchestrator("inspect", images[0], "cat", "/mapped/d.txt").stdout == "4"
    assert orchestrator("inspect", images[0], "cat", "/outer/k+1.key").stdout == "outside" * 40_000
    names = {row["path"]: row for row in json.loads(orchestrator("inspect", images[0], "tree", "--json").stdout)}
    kept = {name: to for name, (to, fate) in LINKS.items() if fate != "left out"}
    assert {name: names[f"/tree/{name}"]["target"] for name in kept} == kept
    assert {"/lib/x86_64-linux-gnu/libdeep.so", "/lib/x86_64-linux-gnu/libgcc_s.so.1"} <= names.keys()
    # Staging was in the engine's cache from the second build on; it still says what it left out.
    for rows in warnings:
        assert sorted(row["text"] for row in rows if row["source"] == "staging") == [
            f"/build/tree/{name} is left out: its target does not exist: {LINKS[name][0]}"
            for name in ("nowhere", "round")
        ]
        (dangling,) = (row["text"] for row in rows if row["source"] == "verify" and "leads nowhere" in row["text"])
        assert "/tree/not packed -> /build/program.c" in dangling


def test_a_stand_in_is_named_in_the_receipt_and_the_output(engine: Engine, tmp_path: Path, release: Path) -> None:
    done = build(ops_project(tmp_path, release, "good"), tmp_path / "out", engine)
    assert done.code == 0, done.stderr
    assert "stand-in" in done.stderr
    receipt = (tmp_path / "out" / "program.receipt.json").read_text()
    assert '"path": "input:ops"' in receipt
    assert "GEVULOT-ORCHESTRATOR-STAND-IN" not in receipt  # its words, not its marker


# Behaviour of the stand-in (each is one of the real ops 0.1.43's) -> what the message must say.
FAILURES = {
    "unknown-key": "manifest key",
    "missing-klib": "klib",
    "no-network": "Nanos release",
    "release-not-found": "does not exist",
    "partial-file": "",
    "killed": "",
    "panic": "crashed",
    "no-success-line": "named no image",
    "success-line-without-file": "no such file",
    "success-line-for-old-file": "",
    "exit1-after-success": "status 1",
    "version-0.1.41": "0.1.42 or newer",
    "bad-common": "common.tar.gz",
    "missing-library": "library",
}


@pytest.mark.parametrize("behaviour", FAILURES)
def test_each_failure_of_ops_is_one_of_the_build(engine: Engine, tmp_path: Path, release: Path, behaviour: str) -> None:
    manifest = {"Klibs": ["tls"]} if behaviour == "missing-klib" else {}
    done = build(ops_project(tmp_path, release, behaviour, manifest=manifest), tmp_path / "out", engine)
    assert done.code == 5, done.stderr
    assert FAILURES[behaviour] in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "out").glob("program*"))


def test_a_klib_that_is_nowhere_stops_both_packers(engine: Engine, tmp_path: Path, release: Path) -> None:
    for packer in ("ops", "native"):
        project = ops_project(tmp_path / packer, release, "good", manifest={"Klibs": ["no_such_klib"]})
        project.write_text(project.read_text().replace("packer: ops", f"packer: {packer}"))
        done = build(project, tmp_path / packer / "out", engine)
        assert done.code == 5, done.stderr
        assert "no_such_klib" in "".join(done.stderr.splitlines()[-2:])


def test_what_only_the_build_shows_at_the_top_is_packed(engine: Engine, tmp_path: Path, release: Path) -> None:
    """A MapDirs to "/" puts names there that no plan can know; ops packs only what it is told."""
    files = {"maps/sub/d.txt": "4", "maps/top.txt": "5", 'maps/é "a"/e.txt': "6", "tree/f.txt": "7"}
    for number, stage in enumerate(({}, {"libraries": "none"})):
        static = {"run": "gcc -static -o program program.c -lm", "program": "program"}
        manifest = {"MapDirs": {"maps/*": "/"}, **({} if stage else {"Dirs": ["tree"]})}
        folder = tmp_path / str(number)
        project = ops_project(folder, release, "good", manifest=manifest, files=files, stage=stage, build=static)
        for packer in ("ops", "native"):
            project.write_text(re.sub("packer: .*", f"packer: {packer}", project.read_text()))
            done = build(project, folder / "out" / packer, engine)
            assert done.code == 0, done.stderr
        images = [folder / "out" / packer / "program.img" for packer in ("ops", "native")]
        compared = orchestrator("inspect", images[0], "diff", images[1])
        assert compared.code == 0, compared.stdout
        assert orchestrator("inspect", images[0], "cat", '/é "a"/e.txt').stdout == "6"
        assert orchestrator("inspect", images[0], "cat", "/top.txt").stdout == "5"


def test_ops_is_not_let_run_a_program_of_musls(engine: Engine, tmp_path: Path, release: Path) -> None:
    run = """\
echo 'int main(void) { return 0; }' > musl.c
cp /lib64/ld-linux-x86-64.so.2 /lib/ld-musl-x86_64.so.1
gcc -nostdlib -pie -fPIE -Wl,-e,main -Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1 -o program musl.c
"""
    project = ops_project(tmp_path, release, "good", build={"run": run, "program": "program"})
    done = build(project, tmp_path / "out", engine)
    assert done.code == 5, done.stderr
    assert "musl" in done.stderr.splitlines()[-1] and "packer: native" in done.stderr.splitlines()[-1]


def test_an_old_ops_is_refused_before_anything_runs(tmp_path: Path) -> None:
    project = write_project(tmp_path, packer="ops", ops={"version": "0.1.41"})
    done = orchestrator("check", project)
    assert done.code == 2
    assert "0.1.42" in done.stderr
