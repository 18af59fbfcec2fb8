"""`build --reproduce` and `reproducible: strict` on real engines, on programs with a cause each (seeded/)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.base import Engine
from tests.build.projects import write_project
from tests.support import engines
from tests.support.cli import ROOT, Run, orchestrator

SEEDED = {path.name: path.read_text() for path in (ROOT / "tests/reproduce/seeded").iterdir()}
BUILD = SEEDED.pop("build.sh")
CAUSES = {
    "/clock": "time-stamp",
    "/jobs": "parallelism",
    "/language": "locale",
    "/path": "build-path",
    "/table": "map-order",
}
STEADY = "gcc -o steady steady.c\n"
DATED = 'gcc -DBUILT="\\"$(date)\\"" -o steady clock.c\n'


def build(project: Path, out: Path, engine: Engine, *more: str | Path) -> Run:
    return orchestrator("build", project, "-o", out, "--engine", engine.info.endpoint, *more)


def test_five_causes_are_found_and_named(engine: Engine, tmp_path: Path) -> None:
    names = [path.strip("/") for path in (*CAUSES, "/steady") if path != "/clock"]
    step = {"run": BUILD, "program": "clock"}
    project = write_project(tmp_path / "p", files=SEEDED, build=step, stage={"files": names})
    done = build(project, tmp_path / "out", engine)
    assert done.code == 0, done.stderr
    receipt = tmp_path / "out/program.receipt.json"
    done = build(project, tmp_path / "out", engine, "--reproduce", receipt, "--json")
    assert done.code == 6, done.stderr
    findings = done.json()["findings"]
    assert {row["message"].split()[0]: row["code"] for row in findings} == {
        path: f"differs-{cause}" for path, cause in CAUSES.items()
    }
    line = project.read_text().splitlines().index("    # " + BUILD.splitlines()[0].removeprefix("# ")) + 1
    assert {(row["file"], row["line"], row["field"]) for row in findings} == {(str(project), line, "build.run")}
    first = done.stderr[done.stderr.index(f"{project}:{line}: build.run: ") :].splitlines()[0]
    assert "/clock differs" in first
    assert "written by `RUN sh -e /orchestrator/build.sh`, of no package; likely cause: time stamp" in first
    # Nothing of the build that it was compared with has changed.
    assert (
        json.loads(receipt.read_text())["image"]["blake3"]
        == orchestrator("hash", tmp_path / "out/program.img").stdout.strip()
    )
    assert (tmp_path / "out/program.img.rebuilt").is_file()

    # Other sources than the receipt's are not compared, and neither are other steps.
    (project.parent / "jobs.c").write_text("int main(void) { return 0; }\n")
    done = build(project, tmp_path / "out", engine, "--reproduce", receipt)
    assert done.code == 4, done.stderr
    assert "build.context: the sources differ from the receipt's" in done.stderr
    write_project(project.parent, files=SEEDED, build={**step, "run": BUILD + "true\n"}, stage={"files": names})
    done = build(project, tmp_path / "out", engine, "--reproduce", receipt)
    assert done.code == 4, done.stderr
    assert "its build steps differ from the receipt's" in done.stderr


@pytest.mark.engine
def test_strict_builds_twice_and_refuses_a_difference(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def written(run: str) -> Path:
        step = {"run": run, "program": "steady"}
        return write_project(tmp_path / "p", files=SEEDED, name="steady", build=step, reproducible="strict")

    with engines.docker_engine() as docker, engines.podman_engine() as podman:
        both = {"DOCKER_HOST": docker.info.endpoint, "CONTAINER_HOST": podman.info.endpoint}
        project = written(STEADY)
        done = orchestrator("build", project, "-o", out, "--engine", "docker", env=both)
        assert done.code == 0, done.stderr
        receipt = json.loads((out / "steady.receipt.json").read_text())
        assert (receipt["engine"]["kind"], receipt["rebuild"]["engine"]["kind"]) == ("docker", "podman")
        assert set(receipt["rebuild"]["varied"]) == {"cores", "locale", "path"}
        assert "built twice, with the same bytes" in done.stderr
        assert not any("vary-step" in row["step"] for row in receipt["stages"])

        done = orchestrator("build", project, "--reproduce", out / "steady.receipt.json", "-o", out, env=both)
        assert done.code == 0, done.stderr
        assert f"on podman has the same bytes, BLAKE3 {receipt['image']['blake3']}" in done.stdout
        the_bill_of_materials_is_enough(project, out, docker, receipt)

        image = (out / "steady.img").read_bytes()
        done = orchestrator("build", written(DATED), "-o", out, "--engine", "docker", env=both)
    assert done.code == 6, done.stderr
    assert "/steady differs" in done.stderr
    assert "likely cause: time stamp" in done.stderr
    assert {path.name for path in out.glob("*.img*")} == {"steady.img", "steady.img.rejected", "steady.img.rebuilt"}
    assert (out / "steady.img").read_bytes() == image


def the_bill_of_materials_is_enough(project: Path, out: Path, engine: Engine, receipt: dict[str, Any]) -> None:
    """A receipt of another program, without its image: what differs is known by its hash."""
    elsewhere = out.with_name("elsewhere")
    elsewhere.mkdir()
    bill = json.loads((out / "steady.sbom.cdx.json").read_text())
    row = next(part for part in bill["components"] if part["name"] == "/steady")
    row["hashes"][0]["content"] = "0" * 64
    text = json.dumps(bill)
    (elsewhere / "steady.sbom.cdx.json").write_text(text)
    attached = next(part for part in receipt["attachments"] if part["kind"] == "sbom")
    attached["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    told = {**receipt, "image": {**receipt["image"], "blake3": "0" * 64}}
    (elsewhere / "steady.receipt.json").write_text(json.dumps(told))
    done = build(project, elsewhere, engine, "--reproduce", elsewhere / "steady.receipt.json")
    assert done.code == 6, done.stderr
    assert "/steady differs" in done.stderr
    assert "/lib" not in done.stderr.partition("/steady differs")[2]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--reproduce", "none.receipt.json"], "none.receipt.json: no such file"),
        (["--reproduce", "project.yaml"], "project.yaml is not a receipt"),
    ],
)
def test_what_is_no_receipt(tmp_path: Path, arguments: list[str], problem: str) -> None:
    write_project(tmp_path)
    done = orchestrator("build", *arguments, cwd=tmp_path)
    assert done.code == 2
    assert problem in done.stderr


def test_strict_needs_the_native_packer(tmp_path: Path) -> None:
    project = write_project(tmp_path, packer="ops", reproducible="strict")
    done = orchestrator("check", project)
    assert done.code == 2
    line = project.read_text().splitlines().index("reproducible: strict") + 1
    assert f"{project}:{line}: reproducible: strict cannot hold with packer: ops" in done.stderr
    assert "use packer: native" in done.stderr
