"""`check` says what the other commands do: where they would differ, a user believes the wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import cli

PROJECT = """\
name: checked
base: docker.io/library/debian:bookworm
build: {run: "true", program: prog}
nanos: {kernel: stub}
packer: native
"""


@pytest.fixture
def project(here: Path) -> Path:
    (here / "project.yaml").write_text(PROJECT)
    (here / "prog").touch()
    return here / "project.yaml"


def add(project: Path, text: str) -> None:
    """More lines of the project."""
    project.write_text(project.read_text() + text)


def touch(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("x")


@pytest.mark.parametrize("gpus", [0, 1])
def test_gpu_assets_are_used_where_check_does_not_warn(project: Path, gpus: int) -> None:
    touch("assets/gpu_nvidia")
    add(project, f"gpu-assets: {{path: assets}}\nresources: {{gpus: {gpus}}}\n")
    warned = "project.yaml:6: gpu-assets: has no effect: this is not a GPU project" in cli("check", ".").err
    printed = cli("render", ".").text
    assert cli("render", ".", "-o", "ctx").code == 0
    written = Path("ctx/Containerfile").read_text()
    assert [warned, "gpu-assets" in printed, "gpu-assets" in written] == [not gpus, bool(gpus), bool(gpus)]
    assert Path("ctx/gpu-assets").exists() == bool(gpus)


@pytest.mark.parametrize("name", [".dockerignore", ".containerignore"])
def test_what_an_ignore_file_leaves_out_is_said_before_the_build(project: Path, name: str) -> None:
    for path in ("params/key.bin", "data/a", "data/b", "kept", "made"):
        touch(path)
    Path(name).write_text("params/\ndata/*\n!data/b\n")
    add(project, "stage: {files: [params/key.bin, data/b, kept, later]}\n")
    add(project, "manifest: {Files: [kept, data/a], Dirs: [data, params]}\n")
    expected = [
        f"project.yaml:6: stage.files[0]: `params/key.bin` is excluded by {name}; add `!params/key.bin` to {name}, ",
        f"project.yaml:7: manifest.Files[1]: `data/a` is excluded by {name}; ",
        f"project.yaml:7: manifest.Dirs[1]: `params` is excluded by {name}; ",
    ]
    for command in (("check",), ("render",), ("build", "--engine", "unix:///nonexistent/engine.sock")):
        said = [line for line in cli(*command, ".").err.splitlines() if line.startswith("warning: ")]
        assert len(said) == len(expected), said
        for line, start in zip(said, expected, strict=True):
            assert line.startswith(f"warning: {start}")


def test_many_notes_of_one_kind_are_one_line_with_a_count(project: Path) -> None:
    add(project, f"stage: {{files: [{', '.join(f'made/{number}' for number in range(40))}]}}\n")
    ended = cli("check", ".")
    said = [line for line in ended.err.splitlines() if "stage.files" in line]
    assert len(said) == 1
    assert "stage.files[0]: `made/0` is not in the build context" in said[0]
    assert said[0].endswith(" (and 39 more like it)")
    assert len(cli("check", ".", "--json").json()["findings"]) >= 40


def test_an_ignore_file_that_is_wrong_is_said_with_the_rest(project: Path) -> None:
    Path(".dockerignore").write_text("ok\n[a\n")
    add(project, "network: {ca: no.pem}\n")
    ended = cli("check", ".")
    assert ended.code == 2
    assert ".dockerignore:2: '[a' is not a pattern" in ended.err
    assert "project.yaml:6: network.ca: there is no file `no.pem`" in ended.err


def errors(project: Path, text: str) -> list[str]:
    """Places of what `check` calls an error, without the file's name."""
    add(project, text)
    ended = cli("check", ".")
    assert ended.code == 2
    lines = [line.removeprefix("error: ") for line in ended.err.splitlines() if not line.startswith(("note", "warn"))]
    return [line.split(": ")[0] + ": " + line.split(": ")[1] for line in lines if ".yaml:" in line or ".json:" in line]


def test_errors_of_project_manifest_and_paths_are_said_at_once(project: Path) -> None:
    """Those of an inline manifest once came only after project.yaml's own were mended."""
    said = errors(project, "runtim: local\nstage: {extra: 3}\nmanifest: {Argz: [x], Files: 1}\nnetwork: {ca: no.pem}\n")
    assert said == [
        "project.yaml:6: runtim", "project.yaml:7: stage.extra", "project.yaml:8: manifest.Argz",
        "project.yaml:8: manifest.Files", "project.yaml:9: network.ca",
    ]  # fmt: skip


def test_errors_of_a_manifest_file_are_said_with_those_of_the_project(project: Path) -> None:
    Path("manifest.json").write_text('{\n"Argz": [],\n"Files": 1}')
    said = errors(project, "manifest: manifest.json\nstage: {extra: 3}\n")
    assert said == ["project.yaml:7: stage.extra", "manifest.json:2: Argz", "manifest.json:3: Files"]


@pytest.mark.parametrize(
    ("broken", "field"),
    [("ops: {version: []}", "ops.version"), ("ops: 3", "ops"), ("opss: {version: 0.1.42}", "opss")],
)
def test_what_an_unreadable_key_decides_is_not_called_wrong(project: Path, broken: str, field: str) -> None:
    """The key of the manifest may be one of the ops that project.yaml was meant to name."""
    said = errors(project, f"{broken}\nmanifest: {{Runtime: x, Argz: 1}}\n")
    assert said == [f"project.yaml:6: {field}", "project.yaml:7: manifest.Argz"]


def warned(project: Path, text: str) -> list[str]:
    """The warnings of `check` for a project of this text."""
    project.write_text(text)
    ended = cli("check", ".")
    assert ended.code == 0, ended.err
    return [line.removeprefix("warning: ") for line in ended.err.splitlines() if line.startswith("warning: ")]


BLOCK = "name: checked\nnanos: {kernel: stub}\nbuild:\n  program: prog\n  run: "


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (
            ">\n    make\n    make install\n",
            ["project.yaml:5: build.run: `>` joins lines of the script into one command; "],
        ),
        (">-  # comment\n    make\n\n    make install\n", []),  # an empty line keeps them apart
        (">\n    a\n    b\n\n    c\n", ["project.yaml:5: build.run: `>` joins lines of the script into one command; "]),
        (">\n    make all\n", []),
        (">\n    cargo build\n    --release &&\n    strip prog\n    && true\n", []),  # one command is meant
        ("|\n    make\n    make install\n", []),
        ("|\n    make\n    make\u00a0install\n", ["project.yaml:7: build.run: contains no-break space (U+00A0), "]),
        ('"make\u200b"\n', ["project.yaml:5: build.run: contains zero width space (U+200B), "]),
        ("|\n    echo 'Größe >'\n", []),
    ],
)
def test_a_script_that_yaml_or_an_editor_changed(project: Path, run: str, said: list[str]) -> None:
    lines = warned(project, BLOCK + run)
    assert len(lines) == len(said), lines
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))


@pytest.mark.parametrize(
    ("release", "more", "remedy"),
    [
        ("bookwrm", "", "did you mean `bookworm`?"),
        ("jammy", "", "write its code name, such as bookworm"),
        ("trixie", "", None),
        ("jammy", "mirrors: {'debian:': 'https://mirror.example/ubuntu'}\n", None),
    ],
)
def test_a_release_that_debian_does_not_have(project: Path, release: str, more: str, remedy: str | None) -> None:
    lines = warned(project, f"{BLOCK}make\nbase: {{image: a/b, bootstrap: {{debian: {release}}}}}\n{more}")
    assert lines == ([] if remedy is None else [
        f"project.yaml:6: base.bootstrap.debian: `{release}` is not a release of Debian that we know; {remedy}"
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "ignored", "what"),
    [(183, "", "AArch64"), (0x1234, "", "machine 4660 of ELF's list"), (62, "", None), (183, "prog\n", None)],
)
def test_a_prebuilt_program_for_another_machine(project: Path, machine: int, ignored: str, what: str | None) -> None:
    Path("prog").write_bytes(b"\x7fELF\2\1\1" + bytes(9) + b"\2\0" + machine.to_bytes(2, "little"))
    Path(".dockerignore").write_text(ignored)
    lines = [line for line in warned(project, f"{BLOCK}make\n") if "build.program" in line]
    start = f"project.yaml:4: build.program: `prog` in the context is for {what}; Gevulot's nodes are x86-64; "
    assert len(lines) == (what is not None)
    assert all(line.startswith(start) for line in lines)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("[tables, 'tables/*.bin', 'tables/**', /usr/share/x, {path: tables, to: t, exclude: ['*.tmp']}]", ""),
        ("[gone]", "note: project.yaml:6: stage.files[0]: `gone` is not in the build context"),
        ("['tables/*.srs']", "note: project.yaml:6: stage.files[0]: `tables/*.srs` is not in the build context"),
        ("[.]", "project.yaml:6: stage.files[0]: `.` is everything"),
        ("[{path: /, to: all}]", "project.yaml:6: stage.files[0]: `/` is everything"),
        ("[../up]", "project.yaml:6: stage.files[0]: must be a path without '..'"),
        ("['a[b']", "project.yaml:6: stage.files[0]: `a[b` has a `[` that no `]` closes"),
        ("[{to: t}]", "project.yaml:6: stage.files[0]: needs exactly one of from, url, path (has none)"),
        ("[{path: a, from: b}]", "stage.files[0]: needs exactly one of from, url, path (has from, path)"),
        ("[{from: a, to: a, exclude: [b]}]", "stage.files[0]: exclude is only valid with path"),
        ("[{path: tables, exclude: ['!x']}]", "stage.files[0].exclude[0]: `!x`: there are no exceptions here"),
        ("[{path: tables, exclud: [x]}]", "stage.files[0].exclud: unknown key under `stage.files[0]`; did you mean"),
    ],
)
def test_what_the_build_stage_has(project: Path, files: str, said: str) -> None:
    touch("tables/t0.bin")
    add(project, f"stage: {{files: {files}}}\n")
    ended = cli("check", ".")
    assert ended.code == (2 if said and not said.startswith("note") else 0), ended.err
    lines = [line for line in ended.err.splitlines() if "stage" in line]
    assert len(lines) == bool(said), lines
    assert all(said in line for line in lines)


def test_what_is_loaded_by_name_is_one_of_five_words(project: Path) -> None:
    add(project, "stage: {include: [certificates, zoneinfo]}\n")
    ended = cli("check", ".")
    assert ended.code == 2
    assert "project.yaml:6: stage.include[1]: " in ended.err
    assert "must be `nss`, `certificates`, `locale`, `gconv` or `tzdata`, not `zoneinfo`" in ended.err


def test_a_program_of_the_build_stage_may_be_absolute(project: Path) -> None:
    project.write_text(project.read_text().replace("program: prog", "program: /usr/bin/node"))
    assert cli("check", ".").code == 0
    containerfile = cli("render", ".").out.decode()
    assert "--program /usr/bin/node" in containerfile
    assert "--as usr/bin/node" in containerfile
