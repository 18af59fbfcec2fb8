"""How the stand-in `ops` fails: exit codes, words and left-over files as seen on the real 0.1.43 and 0.1.41."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.image.errors import ImageError
from orchestrator.image.reader import open_image
from tests.standins.bench import Bench, attributes, files, write
from tests.standins.ops.behaviour import BEHAVIOURS, ENVIRONMENT

# What the real ops 0.1.43 was seen to do: configuration, exit code, words on stdout, words on stderr, image left?
OBSERVED = {
    "unknown key": ({"Foo": 1}, 0, "", 'Error: failed converting configuration file: json: unknown field "Foo"', False),
    "key in the wrong place": ({"RunConfig": {"Klibs": ["x"]}}, 0, "", 'json: unknown field "Klibs"', False),
    "comment": ('{\n  // no\n  "Program": "hello"}', 0, "", "invalid character '/' looking for beginning of", False),
    "wrong type": ({"Args": "x"}, 0, "", "cannot unmarshal string into Go struct field Config.Args of type", False),
    "wrong inner type": ({"RunConfig": {"CPUs": "2"}}, 0, "", "string into Go struct field RunConfig.RunConfig", False),
    "truncated": ('{"Args": ["x"', 0, "", "unexpected EOF", False),
    "empty": ("", 0, "", "configuration file: EOF", False),
    "rubbish behind": ('{"Args": ["x"]} rubbish', 0, "Bootable image file:", "", True),
    "nulls": ({"Args": None, "RebootOnExit": None}, 0, "Bootable image file:", "", True),
    "other case": ({"args": ["x"], "ENV": {"a": "b"}}, 0, "Bootable image file:", "", True),
    "missing klib": ({"Klibs": ["gpu"], "KlibDir": "/k"}, 0, "Klib gpu not found in directory /k\n", "", True),
    "missing file": ({"Files": ["nope"]}, 1, 'failed building manifest: file "', "", False),
    "absolute file": ({"Files": ["/etc/hostname"]}, 1, '//etc/hostname" is missing: stat ', "", False),
    "missing dir": ({"Dirs": ["nope"]}, 1, "manifest: lstat nope: no such file or directory", "", False),
    "map without glob": ({"MapDirs": {"nope": "/x"}}, 1, "lstat : no such file or directory", "", False),
    "map named as program": ({"MapDirs": {"x/*": "/y/hello"}}, 1, "can't have directory with same name", "", False),
    "other Program": ({"Program": "other"}, 1, 'file "other" is missing: stat other: no such file', "", False),
    "boolean passthrough": ({"ManifestPassthrough": {"a": True}}, 1, "unknown type of value %!p(bool=true)", "", True),
    "number passthrough": ({"ManifestPassthrough": {"a": 1}}, 1, "unknown type of value %!p(float64=1)", "", True),
    "size in other units": ({"BaseVolumeSz": "50mb"}, 0, "Bootable image file:", "", True),
    "file below file": ({"Files": ["hello/x"]}, 2, "", "panic: ", False),
}


@pytest.mark.parametrize("case", OBSERVED)
def test_observed_failures(bench: Bench, case: str) -> None:
    config, code, stdout, stderr, image = OBSERVED[case]
    ran = bench.build(config)
    assert (ran.code, stdout in ran.said, stderr in ran.stderr) == (code, True, True), ran
    assert (ran.image is not None) == image
    if not stderr:
        assert ran.stderr == ""
    elif code == 0:
        assert "Usage:\n  ops build [ELF file] [flags]" in ran.stderr and ran.said == ""


def test_a_failed_write_leaves_a_file_that_is_no_image(bench: Bench) -> None:
    big = bench.home / "0.1.51/klibs/big"
    big.write_bytes(bytes(13_000_000))
    ran = bench.build({"Klibs": ["big"]})
    assert ran.code == 1 and "cannot write boot filesystem: available space (" in ran.said
    assert "too small, required 13000192" in ran.said
    assert ran.image is not None
    with pytest.raises(ImageError, match="partition table"):
        open_image(ran.image)


def test_a_failure_before_writing_leaves_the_old_image(bench: Bench) -> None:
    write(bench.home, {"images/hello": "old"})
    ran = bench.build({"Files": ["nope"]})
    assert ran.code == 1 and ran.image is not None and ran.image.read_text() == "old"


def _spoil_latest(home: Path) -> None:
    (home / "latest.txt").unlink()


def _spoil_common(home: Path) -> None:
    (home / "common.tar.gz").write_bytes(b"x" * 100)


def _spoil_kernel(home: Path) -> None:
    (home / "0.1.51/kernel.img").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_spoil_latest, "\033[31m\033[1;31mNo local build found.\033[0m\033[0m\n"),
        (_spoil_common, "gzip: invalid header"),
        (_spoil_kernel, "kernel.img: no such file or directory"),
    ],
)
def test_homes_that_ops_cannot_build_from(bench: Bench, spoil: Callable[[Path], None], words: str) -> None:
    spoil(bench.home)
    ran = bench.build()
    assert ran.code == 1 and words in ran.said and ran.image is None


def test_without_common_files_ops_goes_on(bench: Bench) -> None:
    (bench.home / "common.tar.gz").unlink()
    ran = bench.build()
    assert ran.code == 0 and "/etc/ssl/certs/ca-certificates.crt" not in files(ran.image)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("build", "hello", "--foo"), 0, "Error: unknown flag: --foo"),
        (("build", "hello", "-q"), 0, "Error: unknown shorthand flag: 'q' in -q"),
        (("build", "hello", "-c"), 0, "Error: flag needs an argument: 'c' in -c"),
        (("build",), 0, "Error: requires at least 1 arg(s), only received 0"),
        (("frobnicate",), 0, 'Error: unknown command "frobnicate" for "ops"'),
        (("build", "hello", "-e", "NO"), 2, "panic: runtime error: index out of range"),
    ],
)
def test_command_line_mistakes_go_to_stderr(bench: Bench, arguments: tuple[str, ...], code: int, words: str) -> None:
    ran = bench.run(*arguments)
    assert ran.code == code and words in ran.stderr and ran.image is None


@pytest.mark.parametrize(
    ("text", "words"),
    [("#!/bin/sh\n" + "# no ELF\n" * 9, "only ELF binaries are supported. Is this a Linux"), ("#!/bin/sh\n", "EOF")],
)
def test_a_program_must_be_elf(bench: Bench, text: str, words: str) -> None:
    (bench.cwd / "script").write_text(text)
    ran = bench.build(program="script")
    assert ran.code == 1 and words in ran.stderr and ran.image is None


def test_a_missing_library_is_named(bench: Bench, programs: Path) -> None:
    (bench.cwd / "hello").write_bytes((programs / "dynamic").read_bytes())
    ran = bench.build()
    assert ran.code == 1 and ran.image is None
    assert "Library: libown.so => not found" in ran.said


# Behaviour on demand: exit code, words on stdout, words on stderr.
INJECTED = {
    "unknown-key": (0, "", "json: unknown field"),
    "missing-klib": (0, "Klib tls not found in directory ", ""),
    "no-network": (1, "No local build found.", ""),
    "release-not-found": (1, "release '0.1.51' is not found", ""),
    "missing-common": (0, "Bootable image file:", ""),
    "bad-common": (1, "gzip: invalid header", ""),
    "missing-library": (1, "Library: libinjected.so.1 => not found", ""),
    "partial-file": (1, "no space left on device", ""),
    "panic": (2, "", "panic: "),
    "no-success-line": (0, "", ""),
    "success-line-without-file": (0, "Bootable image file:", ""),
    "success-line-for-old-file": (0, "Bootable image file:", ""),
    "exit1-after-success": (1, "Bootable image file:", ""),
    "killed": (-9, "", ""),
}


@pytest.mark.parametrize("name", INJECTED)
def test_behaviours_on_demand(bench: Bench, name: str) -> None:
    (bench.home / "standin-behaviour").write_text(name)
    ran = bench.build({"Klibs": ["tls"]})
    code, stdout, stderr = INJECTED[name]
    assert (ran.code, stdout in ran.said, stderr in ran.stderr) == (code, True, True), ran
    no_image = {
        "unknown-key", "no-network", "release-not-found", "bad-common", "missing-library", "panic",
        "success-line-without-file",
    }  # fmt: skip
    assert (ran.image is None) == (name in no_image)
    assert ("Bootable image file:" in ran.said) == (stdout == "Bootable image file:" or name == "missing-klib")


def test_every_behaviour_is_tested_here() -> None:
    elsewhere = {"good", "online", "version-0.1.41", "hang"}
    assert set(INJECTED) | elsewhere == set(BEHAVIOURS)


def test_an_answered_lookup_leaves_the_success_line_alone(bench: Bench) -> None:
    bench.env[ENVIRONMENT] = "online"
    assert bench.build().stdout == f"Bootable image file:{bench.home}/images/hello\n"


def test_an_old_file_on_the_success_line_is_left_as_it_is(bench: Bench) -> None:
    bench.env[ENVIRONMENT] = "success-line-for-old-file"
    write(bench.home, {"images/hello": "old"})
    ran = bench.build()
    assert ran.image is not None and ran.image.read_text() == "old"


def test_ops_before_0_1_42_fails_on_numbered_mounts(bench: Bench) -> None:
    bench.env[ENVIRONMENT] = "version-0.1.41"
    assert "Ops version: 0.1.41\n" in bench.run("version").said
    ran = bench.build({"Mounts": {"%1": "/workspace"}})
    assert (ran.code, ran.said) == (1, "\033[31mstat %1: no such file or directory\033[0m\n")
    (bench.cwd / "%1").mkdir()
    assert attributes(bench.build({"Mounts": {"%1": "/workspace"}}).image)["mounts"] == {"%0": "/workspace"}


def test_a_hanging_ops_hangs(bench: Bench) -> None:
    process = subprocess.Popen(
        [bench.ops, "version"],
        env={"PATH": os.environ["PATH"], "OPS_HOME": str(bench.home.parent), ENVIRONMENT: "hang"},
        stdout=subprocess.PIPE,
    )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
    finally:
        process.kill()
        assert process.communicate()[0] == b""


def test_a_misspelt_behaviour_is_an_error_of_its_own(bench: Bench) -> None:
    bench.env[ENVIRONMENT] = "missing-clib"
    ran = bench.build()
    assert ran.code == 64 and "unknown behaviour 'missing-clib'" in ran.stderr
