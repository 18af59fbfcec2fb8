"""Project files that nobody would write by accident: an error of one line and in no time, never "this is a bug"."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.project.load import load_project
from orchestrator.project.user_settings import read_settings

HEAD = "name: sec\nruntime: local\nnanos: {kernel: stub}\npacker: native\n"
BUILD = "build: {run: make, program: hello}\n"
LINE_BREAKS = ["\\u2028", "\\u2029", "\\u0085", "\\x0b", "\\x1b[2J", "\\u202e", "\\n", "\\r"]


def errors_of(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "project.yaml"
    path.write_text(text)
    began = time.monotonic()
    with pytest.raises(UsageError) as caught:
        load_project(path)
    assert time.monotonic() - began < 10
    assert all("\n" not in str(finding) for finding in caught.value.findings)
    return [str(finding) for finding in caught.value.findings]


@pytest.mark.parametrize(
    "number",
    [
        "0x" + "f" * 5000,
        "1:" * 4000 + "1",
        "1" * 5000,
        "0b" + "1" * 50_000,
        "1." + "1" * 5000,
        "-" + "9" * 41,
        "1:" * 60_000 + "1",
    ],
)
@pytest.mark.parametrize("field", ["resources: {cpus: %s}", "resources: {memory: %s}", "cuda: %s", "name: %s"])
def test_numbers_of_any_length(tmp_path: Path, number: str, field: str) -> None:
    text = (HEAD if not field.startswith("name") else HEAD.replace("name: sec\n", "")) + BUILD + field % number + "\n"
    errors = errors_of(tmp_path, text)
    assert len(errors) == 1
    assert ":6: " in errors[0] or ":5: " in errors[0]
    assert "cannot be read as" in errors[0]


@pytest.mark.parametrize("first", ["#!/bin/sh 'unclosed", "#!", "#!  ", "#!/bin/bash \u2028RUN x", '#!"', "#! \\"])
def test_first_lines_that_name_no_interpreter(tmp_path: Path, first: str) -> None:
    text = json.dumps(first + "\nmake\n")
    (error,) = errors_of(tmp_path, f"{HEAD}build:\n  run: {text}\n  program: hello\n")
    assert "build.run: its first line" in error
    assert ":6: " in error


def test_nine_thousand_unknown_keys(tmp_path: Path) -> None:
    errors = errors_of(tmp_path, HEAD + BUILD + "".join(f"key{number}: 1\n" for number in range(9000)))
    assert len(errors) == 101
    assert any("more than 100 unknown keys" in error for error in errors)


FIELDS = [
    'build: {run: make, program: "a%sRUN x"}\n',
    BUILD + 'stage: {extra: ["a%sRUN x"]}\n',
    BUILD + 'stage: {files: ["a%sRUN x"]}\n',
    BUILD + 'base: "a%sRUN x"\n',
    BUILD + 'mirrors: {"debian:": "http://m/%sx"}\n',
    BUILD + 'network: {http-proxy: "http://m/%sx"}\n',
]


@pytest.mark.parametrize("escape", LINE_BREAKS)
@pytest.mark.parametrize("field", FIELDS)
def test_a_line_is_one_line_to_everyone(tmp_path: Path, field: str, escape: str) -> None:
    errors = errors_of(tmp_path, HEAD + field % escape)
    assert len(errors) == 1


TRANSPORTS = [
    "docker-archive:/etc/x.tar", "oci-archive:x.tar", "oci:/srv/layout", "oci:layout:tag", "oci:layout",
    "dir:/srv/image", "dir:image", "containers-storage:localhost/private", "containers-storage:[overlay@/x]y",
    "docker-daemon:private:1", "docker://debian", "sif:x.sif", "ostree:a@/b", "tarball:x.tar", "dir:5000/image",
    "oci:5000/layout:tag", "http://registry.example/x", "./layout", "/srv/layout", "../layout", "-x", "a b", "a:b:c",
    "a//b", "a/../b",
]  # fmt: skip


@pytest.mark.parametrize("image", TRANSPORTS)
def test_an_image_is_a_name_and_no_place_on_this_machine(tmp_path: Path, image: str) -> None:
    """Podman and buildah read such words as transports: FROM takes an image from the host's files."""
    for text in (f'base: "{image}"\n', f'base: {{image: "{image}"}}\n', f'gevulot: {{base: "{image}"}}\n'):
        (error,) = errors_of(tmp_path, HEAD + BUILD + text)
        assert f"{tmp_path}/project.yaml:6: " in error
        assert "is not allowed here" in error
        assert "docker.io/library/debian:bookworm" in error


@pytest.mark.parametrize(
    "image",
    [
        "debian", "debian:bookworm", "docker:27-dind", "localhost/mine", "localhost:5000/mine:1_a.b-C", "rust:1.70",
        "Registry.Example:443/team/a__b/c-d.e", "ghcr.io/a/b@sha256:" + "0" * 64, "a/b:c@sha256:" + "f" * 64, "dir",
        "oci", "3f2a" * 16, "sha256:" + "3f2a" * 16,
    ],
)  # fmt: skip
def test_names_of_images(tmp_path: Path, image: str) -> None:
    path = tmp_path / "project.yaml"
    path.write_text(HEAD + BUILD + f'base: "{image}"\n')
    assert load_project(path).project.program_base.image == image


def test_settings_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("mirrors: {a: 0x" + "f" * 5000 + "}\n")
    with pytest.raises(UsageError):
        read_settings(path)
