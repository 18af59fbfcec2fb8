"""What a project takes from this machine, beyond its own directory, is said, unless the user trusts the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.user_paths import settings_path
from tests.cli.conftest import cli

HEAD = "name: x\nbase: docker.io/library/debian:bookworm\nnanos: {kernel: stub}\npacker: native\n"
BUILD = "build: {run: make, program: prog}\n"
LINE = HEAD.count("\n") + 1


@pytest.fixture
def project(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in `p`, beside files of somebody else; `p/inner` is a link out, `alias` one to the project."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(here / "config"))
    settings_path().parent.mkdir(parents=True)
    for name in ("p", "p/sub", "other", "nanos"):
        (here / name).mkdir()
    for name in ("p/token", "p/ca.pem", "other/token", "other/ca.pem", "nanos/kernel.img", "nanos/boot.img"):
        (here / name).write_text("x")
    (here / "manifest.json").write_text("{}")
    (here / "p/inner").symlink_to("../other")
    (here / "alias").symlink_to("p")
    return here / "p/project.yaml"


def notes(project: Path, text: str) -> list[str]:
    """What `check` says of the project, which is right: findings of this kind, without the file's name."""
    project.write_text(text)
    ended = cli("check", project)
    assert ended.code == 0, ended.err
    lines = [line.partition(f": {project}:")[2] for line in ended.err.splitlines()]
    return [line for line in lines if "the build reads" in line or "the build step" in line or "left out" in line]


SECRET = "build: {{run: make, program: prog, secrets: [{{id: t, {}}}]}}\n"


@pytest.mark.parametrize(
    ("text", "field", "named"),
    [
        ("build: {run: make, program: prog, context: ../other}\n", "build.context", "other"),
        ("build: {run: make, program: prog, context: inner}\n", "build.context", "other"),
        ("build: {run: make, program: prog, context: ..}\n", "build.context", ""),
        (SECRET.format("file: ../other/token"), "build.secrets[0].file", "other/token"),
        (SECRET.format("file: inner/token"), "build.secrets[0].file", "other/token"),
        (BUILD + "network: {ca: ../other/ca.pem}\n", "network.ca", "other/ca.pem"),
        (BUILD + "stage: {files: [{from: inner/token, to: a}]}\n", "stage.files[0].from", "other/token"),
        (BUILD + "stage: {files: [{url: 'file:///%HERE%/other/token', to: a}]}\n", "stage.files[0].url", "other/token"),
        (BUILD + "manifest: ../manifest.json\n", "manifest", "manifest.json"),
        (BUILD + "gevulot: {git: ../other}\n", "gevulot.git", "other"),
        (BUILD + "gevulot: {git: 'file:///%HERE%/other'}\n", "gevulot.git", "other"),
        (BUILD + "gevulot: {archive: 'FILE:%HERE%/other/a.tar'}\n", "gevulot.archive", "other/a.tar"),
    ],
)
def test_paths_beyond_the_project(project: Path, text: str, field: str, named: str) -> None:
    here = project.parents[1]
    (said,) = notes(project, HEAD + text.replace("/%HERE%", str(here)).replace("%HERE%", str(here)))
    line = LINE + text[: text.find(field.rpartition(".")[2].partition("[")[0] + ":")].count("\n")
    where = str(here / named).rstrip("/")
    assert said.startswith(f"{line}: {field}: the build reads {where}, outside the project's directory; ")
    assert said.endswith(f"build with --trust-project, or name it under `trusted:` in {settings_path()}")


def test_a_kernel_beyond_the_project(project: Path) -> None:
    (said,) = notes(project, HEAD.replace("{kernel: stub}", "{path: ../nanos}") + BUILD)
    assert said.startswith("3: nanos.path: the build reads ")


@pytest.mark.parametrize(
    "text",
    [
        BUILD,
        "build: {run: make, program: prog, context: sub}\n",
        "build: {run: make, program: prog, context: ../p/sub/..}\n",
        BUILD + "network: {ca: ca.pem}\n",
        BUILD + "gevulot: {git: 'https://host/repository'}\n",
        BUILD + "gevulot: {git: 'git@host:repository'}\n",
    ],
)
def test_nothing_to_say(project: Path, text: str) -> None:
    assert notes(project, HEAD + text) == []


def test_variables_and_the_agent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_KEY", "x")
    more = "build: {run: make, program: prog, ssh: true, secrets: [{id: a, env: AWS_KEY}]}\n"
    first, second = notes(project, HEAD + more)
    assert first.startswith(
        f"{LINE}: build.secrets[0].env: the build step receives your environment variable AWS_KEY; "
    )
    assert second.startswith(f"{LINE}: build.ssh: the build step can use the keys of your ssh agent; ")


def test_none_hides_behind_others(project: Path) -> None:
    items = ", ".join(f"{{id: s{number}, file: ../other/token}}" for number in range(9))
    assert len(notes(project, f"{HEAD}build: {{run: make, program: prog, secrets: [{items}]}}\n")) == 9


def test_what_the_users_settings_add_is_the_users(project: Path) -> None:
    (settings_path().parent / "company.pem").write_text("x")
    settings_path().write_text("network: {ca: company.pem}\n")
    assert notes(project, HEAD + BUILD) == []


@pytest.mark.parametrize(
    ("trusted", "quiet"),
    [("%HERE%/p", True), ("%HERE%", True), ("../../alias", True), ("%HERE%/other", False), ("%HERE%/p/sub", False)],
)
def test_directories_that_the_user_trusts(project: Path, trusted: str, quiet: bool) -> None:
    settings_path().write_text(f"trusted: [{trusted.replace('%HERE%', str(project.parents[1]))}]\n")
    assert (notes(project, HEAD + "build: {run: make, program: prog, context: ../other}\n") == []) is quiet


def test_a_project_cannot_trust_itself(project: Path) -> None:
    project.write_text(HEAD + BUILD + "trusted: [.]\n")
    assert cli("check", project).code == 2


def test_every_command_that_takes_it_says_it(project: Path) -> None:
    project.write_text(HEAD + "build: {run: make, program: prog, context: ../other}\n")
    said = f"{project}:{LINE}: build.context: the build reads "
    nowhere = ("--engine", "unix:///nowhere")
    commands = [("render",), ("render", "-o", "made"), ("build", *nowhere), ("lock", *nowhere),
                ("bundle", "export", "-o", "x.tar", *nowhere)]  # fmt: skip
    for command in commands:
        assert cli(*command, project).err.count(said) == 1, command
    assert said not in cli("build", "--trust-project", *nowhere, project).err
    assert said not in cli("bundle", "export", "-o", "x.tar", "--trust-project", *nowhere, project).err


def test_a_secret_among_the_sources_is_left_out(project: Path) -> None:
    text = HEAD + SECRET.format("file: token")
    (said,) = notes(project, text)
    assert said.startswith(f"{LINE}: build.secrets[0].file: `token` is left out of the build context because it is a s")
    assert cli("check", project).err.startswith("warning: ")
    (project.parent / "program.c").touch()
    assert cli("render", project, "-o", "made").code == 0
    assert Path("made/src/program.c").is_file()
    assert not Path("made/src/token").exists()
    # It is no matter of trust, and nothing to say where the user has seen to it.
    settings_path().write_text("trusted: [/]\n")
    assert len(notes(project, text)) == 1
    (project.parent / ".dockerignore").write_text("token\n")
    assert notes(project, text) == []


def test_an_ignore_file_brings_no_secret_back(project: Path) -> None:
    (project.parent / ".dockerignore").write_text("!sub\n!sub/token\n")
    (project.parent / "sub/token").write_text("x")
    (project.parent / "alias").symlink_to("sub")
    project.write_text(HEAD + SECRET.format("file: alias/token"))
    assert cli("render", project, "-o", "made").code == 0
    assert Path("made/src/sub").is_dir()
    assert not Path("made/src/sub/token").exists()


def test_a_secret_is_left_out_under_all_its_names(project: Path) -> None:
    (project.parent / "sub/again").hardlink_to(project.parent / "token")
    (project.parent / "sub/other").write_text("y")
    project.write_text(HEAD + SECRET.format("file: token"))
    assert cli("render", project, "-o", "made").code == 0
    assert Path("made/src/sub/other").is_file()
    assert not Path("made/src/sub/again").exists()
