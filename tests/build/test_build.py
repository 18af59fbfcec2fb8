"""`build` on real engines, as a user runs it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from blake3 import blake3

from orchestrator.engine.base import Engine
from orchestrator.label import BASE
from orchestrator.staged import LARGE
from tests.build.projects import COMPILE, SOURCE, write_project
from tests.support import engines
from tests.support.cli import ROOT, orchestrator

EXAMPLES = ROOT / "examples"


def build(project: Path, out: Path, engine: str, *more: str) -> Path:
    """Build one project; the image's path, which is the last line of stdout."""
    done = orchestrator("build", project, "-o", out, "--engine", engine, *more)
    assert done.code == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


@pytest.mark.engine
def test_same_bytes_from_both_engines_and_without_cache(tmp_path: Path) -> None:
    """Also where the manifest and a file of the host have changed since: no engine is asked for those."""
    # Podman takes no link that leads out of a context. The text is so large that the staging step only lists it.
    check = '\ntest "$(readlink up)$(readlink sub/far)" = ../../outside../../../x\n'
    run = f"{COMPILE}{check}mkdir made\nseq 2000000 >made/large.txt\n"
    project = write_project(
        tmp_path / "p",
        files={"src/sub/file": "", "src/program.c": SOURCE},
        build={"context": "src", "run": run, "program": "program"},
        stage={"files": ["program.c", "made/large.txt", {"from": "keys.srs", "to": "params/keys.srs"}]},
        manifest="manifest.json",
    )
    (tmp_path / "p/src/up").symlink_to("../../outside")
    (tmp_path / "p/src/sub/far").symlink_to("../../../x")
    manifest = {"Klibs": None, "Args": ["x"]}
    images = []
    with engines.docker_engine() as docker, engines.podman_engine() as podman:
        for engine in (docker, podman):
            (tmp_path / "p/manifest.json").write_text(json.dumps(manifest | {"Args": ["before"]}))
            (tmp_path / "p/keys.srs").write_text("before")
            build(project, tmp_path / "out", engine.info.endpoint)
            (tmp_path / "p/manifest.json").write_text(json.dumps(manifest))
            (tmp_path / "p/keys.srs").write_text("now")
            changed = build(project, tmp_path / "out", engine.info.endpoint)
            receipt = json.loads(changed.with_suffix(".receipt.json").read_text())
            assert {row["stage"] for row in receipt["stages"]} <= {"inputs", "pack", "verify", "receipt"}
            images.append(changed.read_bytes())
        images += [
            build(project, tmp_path / f"{number}", engine.info.endpoint, *more).read_bytes()
            for number, (engine, more) in enumerate(
                [(docker, []), (podman, []), (docker, ["--no-cache"]), (podman, ["--no-cache"])]
            )
        ]
    assert len(set(images)) == 1
    text = "".join(f"{number}\n" for number in range(1, 2_000_001))
    assert len(text) > LARGE
    assert orchestrator("inspect", tmp_path / "0/program.img", "cat", "/made/large.txt").stdout == text


@pytest.mark.engine
@pytest.mark.slow
def test_prover_and_verifier_are_the_same_on_both_engines(tmp_path: Path) -> None:
    """The real examples: Groth16 in Rust, linked to the stand-in shim, from a base made of Debian packages."""
    projects = [EXAMPLES / name / "project.yaml" for name in ("my-prover", "my-verifier")]
    digests = []
    with engines.docker_engine() as docker, engines.podman_engine() as podman:
        for engine in (docker, podman):
            out = tmp_path / engine.info.kind
            done = orchestrator("build", *projects, "-o", out, "--engine", engine.info.endpoint, timeout=1800)
            assert done.code == 0, done.stderr[-4000:]
            assert done.stdout.splitlines() == [str(out / "my-prover.img"), str(out / "my-verifier.img")]
            digests.append(
                [blake3((out / f"{name}.img").read_bytes()).hexdigest() for name in ("my-prover", "my-verifier")]
            )
            tree = orchestrator("inspect", out / "my-prover.img", "tree").stdout
            assert "libgevulot_shim_ffi.so" in tree
            assert "proving.key" in tree
    assert digests[0] == digests[1]


def test_receipt_says_what_happened(engine: Engine, tmp_path: Path) -> None:
    project = write_project(tmp_path / "p", resources={"cpus": 3, "memory": 640})
    image = build(project, tmp_path / "out", engine.info.endpoint)
    receipt = json.loads(image.with_suffix(".receipt.json").read_text())
    assert receipt["image"]["size"] == image.stat().st_size
    assert receipt["image"]["blake3"] == blake3(image.read_bytes()).hexdigest()
    assert receipt["bootable"] is False
    assert receipt["resources"] == {"cpus": 3, "memory": 640, "gpus": 0}
    assert receipt["engine"]["kind"] == engine.info.kind
    assert receipt["verification"]["ok"] is True
    assert {row["name"]: row["kind"] for row in receipt["inputs"]} == {"base": "bootstrap", "nanos": "stub"}
    assert any("gcc" in row["step"] or "build.sh" in row["step"] for row in receipt["stages"])
    assert orchestrator("hash", image).stdout.strip() == receipt["image"]["blake3"]
    # The stub kernel is never passed over in silence.
    assert "stub" in orchestrator("inspect", image).stdout
    assert "not bootable" in orchestrator("verify", image).stdout


def test_a_failing_step_ends_with_its_place_and_its_last_lines(engine: Engine, tmp_path: Path) -> None:
    run = f"{COMPILE}\necho the last words >&2\nno-such-command --now\n"
    project = write_project(tmp_path / "p", build={"run": run, "program": "program"})
    done = orchestrator("build", project, "-o", tmp_path / "out", "--engine", engine.info.endpoint)
    assert done.code == 5
    line = project.read_text().splitlines().index("    no-such-command --now") + 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{project}:{line}: build.run: ")
    assert "127" in last
    assert "the last words" in done.stderr
    assert not list((tmp_path / "out").glob("*.img"))


def test_a_changed_step_is_run_also_when_nothing_else_changed(engine: Engine, tmp_path: Path) -> None:
    """Podman's layer cache doesn't look into bind mounts: the script must reach it as content."""
    kept: set[bytes] = set()
    for word in ("one", "two"):
        run = f"{COMPILE}\necho {word} > word\n"
        project = write_project(tmp_path / "p", build={"run": run, "program": "program"}, stage={"files": ["word"]})
        image = build(project, tmp_path / "out", engine.info.endpoint)
        assert orchestrator("inspect", image, "cat", "/word").stdout == f"{word}\n"
        kept.add(image.read_bytes())
    assert len(kept) == 2


def test_an_interpreter_is_packed_with_what_it_loads(engine: Engine, tmp_path: Path) -> None:
    """A program, directories and what is loaded by name from anywhere in the build stage."""
    script = "import decimal, json, lzma, os, pwd\n"
    script += (
        "print(json.dumps([str(decimal.Decimal(1) / 8), pwd.getpwuid(0).pw_name, sorted(os.listdir('/tables'))]))\n"
    )
    project = write_project(
        tmp_path / "p",
        files={"main.py": script, "tables/t0": "x", "tables/t1": "y", "tables/left/t2": "z"},
        build={"run": "mkdir made && mv tables/t1 made/t1.bin\n", "program": "/usr/bin/python3"},
        stage={
            "files": [
                "*.py",
                "tables",
                {"path": "made/*.bin", "to": "tables"},
                {"path": "/usr/lib/python3.11", "exclude": ["__pycache__", "test", "/lib2to3"]},
            ],
            "include": ["nss", "locale", "gconv"],
        },
        manifest={"Args": ["/main.py"], "Env": {"PYTHONDONTWRITEBYTECODE": "1"}},
    )
    image = build(project, tmp_path / "out", engine.info.endpoint)
    tree = orchestrator("inspect", image, "tree").stdout
    assert all(name in tree for name in ("_lzma.cpython", "liblzma.so.5", "UTF-16.so", "nsswitch.conf", "LC_CTYPE"))
    assert "lib2to3" not in tree and "__pycache__" not in tree
    done = orchestrator("rehearse", image)
    assert '["0.125", "root", ["left", "t0", "t1.bin"]]' in done.stdout + done.stderr


def test_a_missing_library_fails_with_who_needs_it(engine: Engine, tmp_path: Path) -> None:
    run = "echo 'int f(void){return 1;}' > f.c\ngcc -shared -fPIC -o libgone.so f.c\n"
    run += "echo 'int f(void); int main(void){return f();}' > m.c\ngcc -o program m.c -L. -lgone\nrm libgone.so\n"
    project = write_project(tmp_path / "p", build={"run": run, "program": "program"})
    done = orchestrator("build", project, "-o", tmp_path / "out", "--engine", engine.info.endpoint)
    assert done.code == 5
    assert "libgone.so" in done.stderr
    assert not list((tmp_path / "out").iterdir()) or not list((tmp_path / "out").glob("program*"))


def test_a_program_that_is_not_there_names_candidates(engine: Engine, tmp_path: Path) -> None:
    project = write_project(tmp_path / "p", build={"run": COMPILE + "\n", "program": "target/release/prog"})
    done = orchestrator("build", project, "-o", tmp_path / "out", "--engine", engine.info.endpoint)
    assert done.code == 5
    assert "target/release/prog" in done.stderr
    assert "program" in done.stderr


def test_the_containers_are_gone_and_clean_removes_the_rest(engine: Engine, tmp_path: Path) -> None:
    project = write_project(tmp_path / "p")
    build(project, tmp_path / "out", engine.info.endpoint)
    assert [left for left in engine.leftovers() if left.kind == "container"] == []
    done = orchestrator("clean", tmp_path / "out", "--engine", engine.info.endpoint)
    assert done.code == 0
    assert [left for left in engine.leftovers() if left.build_id != BASE] == []
    assert (tmp_path / "out" / "program.img").exists()


def test_two_builds_of_one_name_at_once_wait_for_each_other(engine: Engine, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    project = write_project(tmp_path / "p", build={"run": COMPILE + "\nsleep 2\n", "program": "program"})
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: build(project, tmp_path / "out", engine.info.endpoint), range(2)))
    assert both[0] == both[1]
    assert orchestrator("verify", both[0]).code == 0
    receipt = json.loads(both[0].with_suffix(".receipt.json").read_text())
    assert receipt["image"]["blake3"] == blake3(both[0].read_bytes()).hexdigest()


@pytest.mark.engine
def test_a_program_that_needs_a_newer_glibc_than_packed_is_not_called_verified(tmp_path: Path) -> None:
    """The image is built, looked into, and refused: nothing under the final name, the rejected one kept."""
    run = f"{COMPILE}\nprintf 'no loader' > ld\n"
    project = write_project(
        tmp_path / "p",
        build={"run": run, "program": "program"},
        manifest={"Env": {"X": "y"}, "ManifestPassthrough": {"mounts": {"%7": "/workspace"}}},
    )
    with engines.podman_engine() as podman:
        done = orchestrator("build", project, "-o", tmp_path / "out", "--engine", podman.info.endpoint)
    assert done.code == 6, done.stderr
    assert not (tmp_path / "out" / "program.img").exists()
    assert not (tmp_path / "out" / "program.receipt.json").exists()
    assert (tmp_path / "out" / "program.img.rejected").exists()


def test_without_any_engine_it_says_what_was_tried(tmp_path: Path) -> None:
    project = write_project(tmp_path / "p")
    done = orchestrator("build", project, "-o", tmp_path / "out", "--engine", f"unix://{tmp_path}/none.sock")
    assert done.code == 3
    assert "none.sock" in done.stderr
    assert not list((tmp_path / "out").glob("*.img"))


@pytest.mark.engine
def test_nothing_of_the_host_ca_bundle_stays_in_the_image(tmp_path: Path) -> None:
    from orchestrator.network import ca_bundle

    project = write_project(tmp_path / "p")
    with engines.podman_engine() as podman:
        image = build(project, tmp_path / "out", podman.info.endpoint)
    certificate = ca_bundle().read_bytes().split(b"-----BEGIN CERTIFICATE-----\n")[1][:64]
    assert certificate not in image.read_bytes()
    assert os.fsencode("/orchestrator/network") not in image.read_bytes()
