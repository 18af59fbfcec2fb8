"""Wrong command lines, and failures of the host: a few lines, the contract's exit code, JSON where it was asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.engine.endpoints import SCHEMES
from orchestrator.errors import ExitCode
from tests.cli.conftest import cli, unchanged
from tests.support.cli import ROOT, orchestrator

GOOD = """\
name: x
base: debian:bookworm
build: {run: make, program: x}
nanos: {kernel: stub}
packer: native
"""


@pytest.mark.parametrize("command", ["bot", "frobnicate"])
def test_unknown_commands(here: Path, command: str) -> None:
    ended = cli(command, "project.yaml")
    assert ended.code == 2
    assert f"No such command '{command}'" in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Usage:"),
        (("check",), "Missing argument 'PROJECT.YAML'"),
        (("build",), "project.yaml: does not exist"),
        (("build", "p.yaml", "--engine", "dokcer"), "'dokcer' is not one of auto, docker, podman, private, nor a URL"),
        (("build", "p.yaml", "--progress", "fancy"), "fancy"),
        (("build", "p.yaml", "-o", "p.yaml"), "Directory 'p.yaml' is a file"),
        (("render", "p.yaml", "-o", "p.yaml"), "Directory 'p.yaml' is a file"),
        (("init", "p.yaml"), "Directory 'p.yaml' is a file"),
        (("clean", "p.yaml"), "Directory 'p.yaml' is a file"),
        (("init", "--language", "go"), "'go' is not one of"),
        (("inspect", "x.img", "frob"), "'frob' is not one of"),
        (("hash", "x.img", "--program", "name"), "requires 2 arguments"),
        (("deploy-command", "a", "b"), "Missing option '--name'"),
    ],
)
def test_wrong_usage(here: Path, arguments: tuple[str, ...], words: str) -> None:
    (here / "p.yaml").write_text(GOOD)
    with unchanged(here):
        ended = cli(*arguments)
    assert ended.code == 2
    assert ended.out == b""
    assert words in ended.err
    assert len(ended.err.splitlines()) < 45


def test_help_lists_every_command_with_a_whole_sentence() -> None:
    ended = cli("--help")
    assert ended.code == 0
    for command in ("init", "check", "render", "build", "inspect", "verify", "hash", "deploy-command", "doctor"):
        assert f"\n  {command} " in ended.text
        assert cli(command, "--help").code == 0
    assert "..." not in ended.text.partition("Commands:")[2]


def test_debug_may_stand_anywhere(here: Path) -> None:
    for arguments in (
        ("--debug", "check", "no.yaml"),
        ("check", "--debug", "no.yaml"),
        ("check", "no.yaml", "--debug"),
    ):
        ended = cli(*arguments)
        assert ended.code == 2
        assert "UsageError" in ended.err
        assert ended.err.splitlines()[-1].startswith("no.yaml: does not exist")


def test_debug_after_two_dashes_is_an_argument(here: Path) -> None:
    done = orchestrator("check", "--", "--debug", cwd=here)
    assert done.code == 2
    assert done.stderr.startswith("--debug: does not exist")


@pytest.mark.parametrize("command", ["inspect", "verify", "hash", "check", "build"])
def test_json_of_a_failure_is_one_document(here: Path, command: str) -> None:
    ended = cli(command, "no-such", "--json")
    document = ended.json()
    assert ended.code == document["exit_code"] == 2
    assert document["ok"] is False
    assert "no-such" in document["error"]
    assert "no-such" in ended.err


def test_json_of_a_missing_engine(here: Path) -> None:
    (here / "p.yaml").write_text(GOOD)
    ended = cli("build", "p.yaml", "--engine", f"unix://{here}/none.sock", "--json")
    assert ended.code == 3
    assert ended.json() | {"ok": False, "exit_code": 3, "built": []} == ended.json()
    assert "none.sock" in ended.json()["error"]


def test_a_path_that_can_not_be_written_is_no_bug(here: Path) -> None:
    (here / "p.yaml").write_text(GOOD)
    for arguments in (("init", "/proc/x"), ("render", "p.yaml", "-o", "/proc/x"), ("init", "p.yaml/below")):
        in_the_way = arguments[-1].removesuffix("/below")
        ended = cli(*arguments)
        assert ended.code == 2
        assert "bug" not in ended.err
        assert in_the_way in ended.err


def test_an_unexpected_error_says_that_it_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("orchestrator.doctor.check_host", broken)
    ended = cli("doctor")
    assert ended.code == 1
    assert ended.err.splitlines()[0] == "error: RuntimeError: out of luck"
    assert "--debug" in ended.err


def test_interrupted(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (here / "p.yaml").write_text(GOOD)
    monkeypatch.setattr("orchestrator.engine.select.connect", interrupted)
    ended = cli("build", "p.yaml", "--json")
    assert ended.code == ExitCode.INTERRUPTED
    assert ended.json() == {"ok": False, "exit_code": 130, "error": "interrupted", "built": [], "unchanged": []}
    assert ended.err.splitlines()[-1] == "interrupted"
    assert "orchestrator clean" in ended.err


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda sign: sign.name)
def test_a_signal_amid_made_code_ends_with_the_exit_code(tmp_path: Path, sign: signal.Signals) -> None:
    """As a module, and within exec(): there Python would end by the signal that it remembers."""
    (tmp_path / "endless.py").write_text(
        "import sys\nfrom orchestrator.cli.console import run_to_exit_code\n"
        "def run():\n    exec('print(1, flush=True)\\nwhile True: pass')\n"
        "sys.exit(run_to_exit_code(run, debug=False))\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, "-m", "endless"], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(sign)
        _, said = running.communicate(timeout=60)
    assert (running.returncode, said) == (ExitCode.INTERRUPTED, b"interrupted\n")


def test_a_reader_that_goes_away_is_no_failure(image: Path) -> None:
    for arguments, code in (
        (["inspect", "x.img", "cat", "/zeros"], 0),
        (["inspect", "x.img", "tree"], 0),
        (["check", "no.yaml", "--json"], 2),
    ):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(write)
        assert done.returncode == code
        assert "Broken" not in done.stderr
        assert "bug" not in done.stderr


def test_a_full_disk_behind_stdout(image: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", "inspect", "x.img", "cat", "/zeros"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 5
    assert "no space left on device" in done.stderr


def test_names_that_are_no_text(here: Path) -> None:
    folder = os.fsdecode(b"odd \xff\xc3")
    assert cli("init", folder).code == 0
    assert cli("check", folder).code == 0
    assert orchestrator("check", folder, cwd=here, env={"PYTHONIOENCODING": "ascii"}).code == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_url_of_an_engine_is_taken(scheme: str) -> None:
    ended = cli("build", "missing.yaml", "--engine", f"{scheme}nowhere.invalid")
    assert "missing.yaml" in ended.err
    assert "--engine" not in ended.err
