"""Programs that come in a finished image, or as a binary: what project.yaml may say, and what the image adds to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.build.check import check_project
from orchestrator.errors import UsageError
from orchestrator.nanos.settings import read_settings
from orchestrator.project.finished import with_image
from orchestrator.project.load import load_project
from orchestrator.resolved import ImageSettings

FILES = ("/app/hi", "/usr/bin/prove", "/opt/prove")


def project(folder: Path, text: str) -> Path:
    path = folder / "project.yaml"
    path.write_text(f"name: p\nnanos: {{kernel: stub}}\npacker: native\n{text}\n")
    return path


def manifest(folder: Path, text: str, **image: Any) -> dict[str, Any]:
    """The manifest of a project whose image says `image`, and has `FILES`."""
    settings = ImageSettings(**{"platform": "linux/amd64", **image})
    loaded = with_image(load_project(project(folder, text)), settings, FILES.__contains__)
    return dict(read_settings(loaded).effective.data)


def test_the_image_says_how_its_program_is_started(tmp_path: Path) -> None:
    data = manifest(
        tmp_path, "build: {image: mine}", entrypoint=("./hi", "--prove"), command=("a b",), directory="/app",
        environment={"LEVEL": "9"},
    )  # fmt: skip
    assert (data["Program"], data["Args"]) == ("app/hi", ["--prove", "a b"])
    assert data["Env"]["LEVEL"] == "9"
    assert data["ManifestPassthrough"]["cwd"] == "/app"


def test_project_yaml_says_otherwise(tmp_path: Path) -> None:
    text = "build: {image: mine}\nmanifest: {Args: [x], Env: {LEVEL: '1'}, ManifestPassthrough: {cwd: /work}}"
    image: dict[str, Any] = {"command": ("/app/hi", "y"), "environment": {"LEVEL": "9", "OTHER": "2"}}
    data = manifest(tmp_path, text, **image)
    assert (data["Args"], data["Env"]["LEVEL"], data["Env"]["OTHER"]) == (["x"], "1", "2")
    assert data["ManifestPassthrough"]["cwd"] == "/work"
    # The words after another program are none of this one's.
    data = manifest(tmp_path, "build: {image: mine, program: /opt/prove}", **image)
    assert (data["Program"], data.get("Args")) == ("opt/prove", None)


def test_a_name_is_looked_for_in_path(tmp_path: Path) -> None:
    assert manifest(tmp_path, "build: {image: mine}", command=("prove",))["Program"] == "usr/bin/prove"
    path = {"environment": {"PATH": "/nowhere:/opt"}}
    assert manifest(tmp_path, "build: {image: mine}", command=("prove",), **path)["Program"] == "opt/prove"


@pytest.mark.parametrize(
    ("build", "image", "line"),
    [
        (
            "{image: mine}",
            {},
            "build.image: the image has neither ENTRYPOINT nor CMD; name the program as build.program",
        ),
        ("{image: mine}", {"command": ("/bin/sh", "-c", "hi")}, "starts a shell (`/bin/sh -c hi`), which the guest"),
        ("{image: mine}", {"command": ("gone",)}, "build.image: the image starts `gone`, which is not in it"),
        ("{image: mine, program: /app/ho}", {}, "build.program: the image has no /app/ho; give its path in the image"),
        ("{image: mine, program: hi}", {"directory": "/app"}, "the image has no /hi; did you mean `/app/hi`?"),
    ],
)
def test_what_starts_no_program(build: str, image: dict[str, Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        manifest(tmp_path, f"build: {build}", **image)
    (finding,) = raised.value.findings
    assert line in str(finding)
    assert finding.line == 4


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "build: {image: a, run: make, packages: [gcc]}",
            ["build.packages: cannot be combined", "build.run: cannot be"],
        ),
        ("build: {image: a, containerfile: b}", ["build.containerfile: cannot be combined with build.image"]),
        ("build: {containerfile: Dockerfile, run: make}", ["build.run: cannot be combined with build.containerfile"]),
        ("build: {containerfile: Gone}", ["build.containerfile: `Gone` is not there; give a file, relative to"]),
        (
            "build: {containerfile: Dockerfile, target: bild}",
            ["build.target: `Dockerfile` has no stage `bild`; did you"],
        ),
        ("build: {containerfile: notes}", ["build.containerfile: `notes` has no FROM line"]),
        ("build: {program: x, target: y}", ["build.target: is only valid with build.containerfile; remove it"]),
        ("build: {program: x, args: [y]}", ["build.args: is only valid with build.containerfile; for the program in"]),
        (
            "build: {program: gone}",
            ["build.program: there is no file `gone` in the context, and no `build.run` makes it"],
        ),
        ("build: {program: sub}", ["build.program: `sub` is a directory, and no `build.run` makes it"]),
        ("build: {program: left-out}", ["build.program: `left-out` is excluded by .dockerignore; add `!left-out`"]),
        ("build: {image: a}\nresources: {gpus: 1}", ["build.image: GPU projects are not packed from a finished image"]),
        ("build: {image: a}\nreproducible: strict", ["reproducible: strict cannot build build.image a second time"]),
        ("build: {image: a, caches: [cargo]}", ["build.caches: cannot be combined with build.image; remove it"]),
        (
            "build: {containerfile: Dockerfile, caches: [go], dependencies: always, rust-linker: gnu}",
            [
                "build.caches: cannot be combined with build.containerfile; remove it; a RUN --mount=type=cache",
                "build.dependencies: cannot be combined with build.containerfile",
                "build.rust-linker: cannot be combined with build.containerfile; do it in the Containerfile",
            ],
        ),
        ("build: {image: 'oci:x'}", ["build.image: `oci:x` is not allowed here"]),
    ],
)
def test_what_does_not_fit_is_said(text: str, lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM a AS build\n")
    (tmp_path / "notes").write_text("nothing\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "left-out").write_text("")
    (tmp_path / ".dockerignore").write_text("left-out\n")
    with pytest.raises(UsageError) as raised:
        check_project(project(tmp_path, text))
    said = [str(finding) for finding in raised.value.findings if finding.severity.value == "error"]
    for line in lines:
        assert any(line in one for one in said), said
