"""What is said of a step that failed: what staging refused, what a script lacked. The engine's part is scripted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.build.needed_packages import find_lacks
from orchestrator.cli.main import main
from orchestrator.engine import select
from orchestrator.engine.base import StepFailedError
from tests.support.fake_engine import FakeEngine, Scripted

PROJECT = """\
name: failing
runtime: local
base: debian:bookworm
nanos: {kernel: stub}
packer: native
stage: {files: [a.txt, tables]}
manifest: {Dirs: [data]}
build:
  run: make
  program: out/prover
"""
SCRIPT = "RUN umask 022 && sh /orchestrator/step-log.sh sh -e /orchestrator/build.sh"
STAGING = "RUN sh /orchestrator/staging/stage-tree.sh --program out/prover"
Fail = Callable[[str, str, int], str]


@pytest.fixture
def fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Fail:
    """The last line of a build whose step (an instruction) ends with these lines and this status."""
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("project.yaml").write_text(PROJECT)

    def failed(instruction: str, tail: str, status: int) -> str:
        stage = "staging" if instruction == STAGING else "program"
        error = StepFailedError("failed", stage=stage, instruction=instruction, tail=tail, status=status)
        engine = FakeEngine(registry={"debian:bookworm": f"sha256:{'1' * 64}"}, builds=[Scripted(error=error)])
        monkeypatch.setattr(select, "connect", lambda *_, **__: engine)
        with pytest.raises(SystemExit) as ended:
            main(["build", "project.yaml", "-o", "out", "--progress", "plain"])
        assert ended.value.code == 5
        return capfd.readouterr().err.splitlines()[-1]

    return failed


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (
            "error: build.program: out/prover is a script: #!/bin/sh\n"
            "  Nanos runs ELF programs only: name the compiled program",
            "project.yaml:10: build.program: the program was refused: out/prover is a script: #!/bin/sh;"
            " Nanos runs ELF programs only: name the compiled program",
        ),
        (
            "error: build.program: out/prover is not there after build.run (looked in /build)\n"
            "  programs that are there:\n    bin/prover\n    bin/other\n  give its path relative to the work directory",
            "project.yaml:10: build.program: the program was refused: out/prover is not there after build.run (looked"
            " in /build); programs that are there: bin/prover, bin/other; give its path relative to the work directory",
        ),
        (
            "staged: /a\nerror: stage.files: tables is not there (looked for /build/tables)\n  make it in build.run",
            "project.yaml:6: stage.files[1]: staging refused it: tables is not there (looked for /build/tables);"
            " make it in build.run",
        ),
        (
            "error: stage.include: the base has no time zones\n  add tzdata to build.packages",
            "project.yaml:6: stage.include: staging refused it: the base has no time zones;"
            " add tzdata to build.packages",
        ),
        (
            "error: Dirs: data is not there (looked for /build/data)\n  make it in build.run",
            "project.yaml:7: manifest.Dirs: staging refused it: Dirs: data is not there (looked for /build/data);"
            " make it in build.run",
        ),
    ],
)  # fmt: skip
def test_what_staging_refuses_is_called_that(fail: Fail, tail: str, said: str) -> None:
    last = fail(STAGING, tail, 1)
    assert last == said
    assert "failed with status" not in last


def test_staging_that_ends_in_another_way_is_a_failed_step(fail: Fail) -> None:
    assert "stage: the build step failed with status 137" in fail(STAGING, "Killed", 137)


@pytest.mark.parametrize(
    ("line", "name", "packages"),
    [
        ("/orchestrator/build.sh: 3: gcc: not found", "gcc", "gcc, libc6-dev"),
        ("/orchestrator/build.sh: line 3: g++: command not found", "g++", "g++"),
        ("build.sh: 1: python: not found", "python", "python-is-python3"),
        ("make: cc: No such file or directory", "cc", "gcc, libc6-dev"),
        ("/usr/bin/env: 'python3': No such file or directory", "python3", "python3"),
        ("  could not execute process `git fetch --no-tags 'https://…'` (never executed)", "git", "git"),
        ("  could not execute process `rustc -vV` (never executed)", "rustc", "rustc-web"),
        ("error: linker `cc` not found", "cc", "gcc, libc6-dev"),
        ('cgo: C compiler "gcc" not found: exec: "gcc": executable file not found in $PATH', "gcc", "gcc, libc6-dev"),
        ("  failed to execute command: No such file or directory, is `cmake` not installed?", "cmake", "cmake"),
        ("Error: Could not find `protoc`. If `protoc` is installed, try …", "protoc", "protobuf-compiler"),
        ("  protoc failed: sh: 1: protoc: not found", "protoc", "protobuf-compiler"),
        ("  Unable to find libclang: the `libclang` shared library …", "libclang", "libclang-dev"),
        ("Package openssl was not found in the pkg-config search path.", "openssl.pc", "libssl-dev"),
        ("Perhaps you should add the directory containing `openssl.pc'", "openssl.pc", "libssl-dev"),
        ("Package 'gmp', required by 'virtual:world', not found", "gmp.pc", "libgmp-dev"),
        ("/usr/bin/ld: cannot find -lgmp: No such file or directory", "-lgmp", "libgmp-dev"),
        ("rust-lld: error: unable to find library -lssl", "-lssl", "libssl-dev"),
        ("/usr/bin/ld: cannot find -lboost_program_options", "-lboost_program_options", "libboost-program-options-dev"),
        ("main.c:1:10: fatal error: gmp.h: No such file or directory", "gmp.h", "libgmp-dev"),
        ("main.c:1:10: fatal error: openssl/sha.h: No such file or directory", "openssl/sha.h", "libssl-dev"),
        ("main.c:1:10: fatal error: 'stdio.h' file not found", "stdio.h", "libc6-dev"),
        ("  No CMAKE_CXX_COMPILER could be found.", "a C++ compiler", "g++"),
        (
            "  The CMAKE_C_COMPILER:\n\n    musl-gcc\n\n  is not a full path and was not found in the PATH.",
            "musl-gcc", "musl-tools",
        ),
        ("  Could NOT find Boost (missing: Boost_INCLUDE_DIR)", "Boost", "libboost-all-dev"),
    ],
)  # fmt: skip
def test_what_a_script_lacked_is_named_by_debian_s_package(fail: Fail, line: str, name: str, packages: str) -> None:
    last = fail(SCRIPT, f"compiling\n{line}\nmake: *** [Makefile:2: all] Error 1", 2)
    where = "project.yaml:9: build.run: the build step failed with status 2"
    assert last == f"{where}; {name} was not found; add {packages} to build.packages"


def test_all_that_was_lacked_is_said_at_once(fail: Fail) -> None:
    tail = (
        "/usr/bin/ld: cannot find -lgmp: No such file\n/usr/bin/ld: cannot find -lcrypto: No such file\ncollect2: error"
    )
    assert fail(SCRIPT, tail, 1).endswith(
        "; -lgmp and -lcrypto were not found; add libgmp-dev, libssl-dev to build.packages"
    )


@pytest.mark.parametrize(
    "tail",
    [
        "/orchestrator/build.sh: 3: no-such-program: not found",
        "checking for gcc... not found\nmain.c:3: error: expected ';'",
        "-- Could NOT find Boost (missing: Boost_INCLUDE_DIR)\nmain.c:3: error: expected ';'",
        "sh: 1: git: not found\n" + "compiling\n" * 60 + "main.c:3: error: expected ';'",
        "fatal error: prover/field.h: No such file or directory",
        "/usr/bin/ld: cannot find -lboost_no_such_part",
    ],
)
def test_what_no_package_brings_or_the_step_did_without_is_not_blamed(fail: Fail, tail: str) -> None:
    last = fail(SCRIPT, tail, 2)
    assert "build.packages" not in last
    assert "the build step failed with status 2; its last lines are above" in last


@pytest.mark.parametrize(
    ("have", "asked"),
    [((), ["gcc", "libc6-dev"]), (("gcc=4:12.2.0-3",), ["libc6-dev"]), (("gcc:amd64", "libc6-dev"), [])],
)
def test_a_package_that_is_there_is_not_asked_for_again(have: tuple[str, ...], asked: list[str]) -> None:
    lacks = find_lacks("sh: 1: gcc: not found", have)
    assert [package for lack in lacks for package in lack.packages] == asked


def test_what_debians_cargo_cannot_do_is_said(fail: Fail) -> None:
    last = fail(SCRIPT, "Caused by:\n  invalid version 0 on git_proxy_options; class=Invalid (3)", 101)
    assert "Debian's cargo fetches no git dependency" in last
    assert last.endswith("add a Cargo.lock with their https addresses: they are then fetched on this machine")
