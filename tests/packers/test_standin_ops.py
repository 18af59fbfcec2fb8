"""The stand-in `ops` against what the real 0.1.43 was seen to do: trees, exit codes, words, and where they go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.image.listing import tree_listing
from orchestrator.image.reader import open_image
from tests.standins.make_ops import make_ops
from tests.standins.nanos_release import make_release, make_release_archive, seed_ops_home
from tests.standins.ops import MARKER
from tests.standins.ops.behaviour import BEHAVIOURS, ENVIRONMENT

LOOKUP = "\033[1;33mversion lookup failed, using local.\n\033[0m"
SYSTEM = {
    "/etc/passwd", "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/proc/sys/kernel/hostname",
    "/lib/x86_64-linux-gnu/libnss_dns.so.2",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One run: exit code, what it wrote, and the image when there is one."""

    code: int
    stdout: str
    stderr: str
    image: Path | None

    @property
    def said(self) -> str:
        """stdout without the version lookup's line."""
        assert self.stdout.startswith(LOOKUP)
        return self.stdout.removeprefix(LOOKUP)


@dataclass(kw_only=True)
class Bench:
    """A working directory with a program, and a seeded home."""

    ops: Path
    cwd: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> Ran:
        """Run the stand-in."""
        done = subprocess.run(
            [self.ops, *arguments],
            cwd=self.cwd,
            env={"PATH": os.environ["PATH"], "OPS_HOME": str(self.home.parent), **self.env},
            capture_output=True,
            text=True,
        )
        images = sorted((self.home / "images").glob("*")) if (self.home / "images").exists() else []
        return Ran(code=done.returncode, stdout=done.stdout, stderr=done.stderr, image=images[0] if images else None)

    def build(self, config: object = None, *, program: str = "hello") -> Ran:
        """`ops build` with a configuration (JSON, or text as it is)."""
        arguments = ["build", program, "--nanos-version", "0.1.51"]
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            (self.cwd / "config.json").write_text(text)
            arguments += ["-c", "config.json"]
        return self.run(*arguments)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`static`: no libraries. `dynamic`: needs libown.so (in shim/) and libc."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "shim").mkdir()
    (folder / "own.c").write_text("int own(void) { return 0; }\n")
    (folder / "main.c").write_text("int own(void);\nint main(void) { return own(); }\n")
    (folder / "bare.c").write_text("void _start(void) { for (;;); }\n")
    for command in (
        "gcc -shared -fPIC -o shim/libown.so own.c",
        "gcc -o dynamic main.c -Lshim -lown",
        "gcc -static -nostdlib -o static bare.c",
    ):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ops(tmp_path_factory.mktemp("standin") / "ops", interpreter=sys.executable)


@pytest.fixture
def bench(tmp_path: Path, standin: Path, programs: Path) -> Bench:
    cwd = tmp_path / "build"
    cwd.mkdir()
    (cwd / "hello").write_bytes((programs / "static").read_bytes())
    return Bench(ops=standin, cwd=cwd, home=seed_ops_home(tmp_path / "home"))


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def _nodes(image: Path | None) -> dict[str, str]:
    """Path → `directory`, `file` or `-> target`, without the root attributes."""
    assert image is not None
    with open_image(image) as opened:
        entries = [entry for entry in tree_listing(opened.rootfs) if entry.type != "attribute"]
    return {entry.path: f"-> {entry.target}" if entry.type == "symlink" else entry.type for entry in entries}


def _files(image: Path | None) -> set[str]:
    return {path for path, kind in _nodes(image).items() if kind == "file"}


def _content(image: Path | None, path: str) -> bytes:
    assert image is not None
    with open_image(image) as opened:
        node = opened.rootfs.lookup(path)
        assert node is not None and not isinstance(node, str)
        return b"".join(opened.rootfs.read(node))  # type: ignore[arg-type]


def _attributes(image: Path | None) -> dict[str, object]:
    assert image is not None
    with open_image(image) as opened:
        return dict(opened.rootfs.attributes)


def test_version_is_in_opss_words_and_says_that_it_is_a_stand_in(bench: Bench) -> None:
    ran = bench.run("version")
    assert ran.code == 0
    assert ran.said.splitlines() == ["Ops version: 0.1.43", "Nanos version: 0.1.51", MARKER]


def test_the_success_line_comes_right_after_the_colour_ends(bench: Bench) -> None:
    ran = bench.build()
    assert (ran.code, ran.stdout) == (0, f"{LOOKUP}Bootable image file:{bench.home}/images/hello\n")


def test_a_plain_build_holds_the_program_and_what_ops_always_adds(bench: Bench) -> None:
    image = bench.build().image
    assert _files(image) == SYSTEM | {"/hello"}
    assert _content(image, "/etc/resolv.conf") == b"nameserver  8.8.8.8\n"
    assert _content(image, "/etc/passwd") == b"root:x:0:0:root:/root:/bin/nobash"
    assert _content(image, "/proc/sys/kernel/hostname") == b"uniboot"
    assert _attributes(image) == {
        "program": "/hello",
        "arguments": ["hello"],
        "environment": {
            "USER": "root", "PWD": "/", "OPS_VERSION": "0.1.43", "NANOS_VERSION": "0.1.51", "NANOS_ARCH": "amd64",
            "IMAGE_NAME": "hello",
        },
    }  # fmt: skip


def test_the_kernel_and_the_boot_sector_are_the_seeded_release(bench: Bench) -> None:
    image = bench.build({"Klibs": ["tls"]}).image
    assert image is not None
    with open_image(image) as opened:
        assert opened.is_stub and opened.boot_sector
        assert opened.bootfs is not None
        assert {path for path, _ in opened.bootfs.walk()} == {"/kernel", "/klib", "/klib/tls"}
    assert _attributes(image)["klibs"] == "bootfs"


def test_everything_a_manifest_can_put_into_the_tree(bench: Bench) -> None:
    _write(
        bench.cwd,
        {"params/a.srs": "srs", "lib/x/y": "y", "lib/one": "1", "maps/m": "m", "maps/deep/n": "n", "etc/passwd": "me"},
    )
    (bench.cwd / "lib/empty").mkdir()
    (bench.cwd / "lib/link").symlink_to("one")
    (bench.cwd / "lib/dangling").symlink_to("nowhere")
    ran = bench.build(
        {
            "Files": ["params/a.srs"],
            "Dirs": ["lib", "etc"],
            "MapDirs": {"maps/*": "/data"},
            "Mounts": {"%1": "/workspace"},
        }
    )
    assert "warning: stat lib/dangling: no such file or directory" in ran.said
    nodes = _nodes(ran.image)
    assert {path for path, kind in nodes.items() if kind == "file"} == SYSTEM | {
        "/hello", "/params/a.srs", "/lib/x/y", "/lib/one", "/data/m", "/data/deep/n",
    }  # fmt: skip
    assert nodes["/lib/link"] == "-> one"
    assert nodes["/lib/empty"] == nodes["/workspace"] == "directory"
    assert "/lib/dangling" not in nodes
    assert _content(ran.image, "/etc/passwd") == b"me"


def test_attributes_out_of_the_manifest(bench: Bench) -> None:
    image = bench.build(
        {
            "Args": ["--k=v", "two words"],
            "Env": {"USER": "me", "EMPTY": ""},
            "RebootOnExit": True,
            "Debugflags": ["trace"],
            "NoTrace": ["read"],
            "NameServers": ["1.1.1.1"],
            "ManifestPassthrough": {"readonly_rootfs": "true", "list": ["a", "b"], "nest": {"k": "v"}},
            "RunConfig": {"IPAddress": "10.0.0.5", "Gateway": "nonsense", "Ports": ["80", "81"], "CPUs": 2},
        }
    ).image
    attributes = _attributes(image)
    environment = attributes.pop("environment")
    assert isinstance(environment, dict)
    assert environment["USER"] == "me" and environment["OPS_PORT"] == "80,81" and "EMPTY" not in environment
    assert attributes == {
        "program": "/hello", "arguments": ["hello", "--k=v", "two words"], "reboot_on_exit": "t", "trace": "t",
        "notrace": ["read"], "readonly_rootfs": "true", "list": ["a", "b"], "nest": {"k": "v"}, "ipaddr": "10.0.0.5",
        "netmask": "255.255.255.0",  # the default of `--netmask`, which wins over the configuration
    }  # fmt: skip
    assert _content(image, "/etc/resolv.conf") == b"nameserver  1.1.1.1\n"


@pytest.mark.parametrize(
    ("mounts", "stored"),
    [
        ({"%1": "/workspace"}, {"%0": "/workspace"}),
        ({"vol": "/b", "%3": "/c", "%1": "/a"}, {"%0": "/a", "%1": "/c", "%2": "/b"}),
        ({"known": "/k:ro", "%1": "/a"}, {"known": "/k:ro", "%0": "/a"}),
    ],
)
def test_mounts_without_a_local_volume_are_numbered_anew(
    bench: Bench, mounts: dict[str, str], stored: dict[str, str]
) -> None:
    _write(bench.home, {"volumes/known:1234.raw": ""})
    assert _attributes(bench.build({"Mounts": mounts}).image)["mounts"] == stored


def test_libraries_are_found_without_running_the_program(bench: Bench, programs: Path) -> None:
    (bench.cwd / "hello").write_bytes((programs / "dynamic").read_bytes())  # not executable: could not be run
    bench.env["LD_LIBRARY_PATH"] = str(programs / "shim")
    ran = bench.build()
    assert _files(ran.image) == SYSTEM | {
        "/hello", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2", f"{programs}/shim/libown.so",
    }  # fmt: skip


def test_a_library_below_the_working_directory_loses_that_prefix(bench: Bench, programs: Path) -> None:
    _write(bench.cwd, {"gevulot/x": ""})
    (bench.cwd / "hello").write_bytes((programs / "dynamic").read_bytes())
    (bench.cwd / "gevulot/libown.so").write_bytes((programs / "shim/libown.so").read_bytes())
    bench.env["LD_LIBRARY_PATH"] = str(bench.cwd / "gevulot")
    assert "/gevulot/libown.so" in _files(bench.build().image)


def test_a_library_beside_the_working_directory_is_lost_without_a_word(bench: Bench, programs: Path) -> None:
    beside = bench.cwd.with_name(bench.cwd.name + "-x")  # begins with the working directory's letters
    beside.mkdir()
    (bench.cwd / "hello").write_bytes((programs / "dynamic").read_bytes())
    (beside / "libown.so").write_bytes((programs / "shim/libown.so").read_bytes())
    bench.env["LD_LIBRARY_PATH"] = str(beside)
    ran = bench.build()
    assert ran.code == 0 and ran.said.startswith("Bootable image file:")
    assert not any(path.endswith("libown.so") for path in _files(ran.image))


def test_two_builds_differ_in_bytes_and_agree_in_content(bench: Bench) -> None:
    config = {"Env": {"A": "b"}, "Mounts": {"%1": "/workspace"}}
    first = bench.build(config).image
    assert first is not None
    kept = first.rename(bench.cwd / "kept.img")
    second = bench.build(config).image
    assert second is not None
    assert kept.read_bytes() != second.read_bytes()
    with open_image(kept) as one, open_image(second) as two:
        assert one.rootfs.uuid != two.rootfs.uuid
        assert tree_listing(one.rootfs) == tree_listing(two.rootfs)


@pytest.mark.parametrize("config", [{}, {"TFSv4": True}, {"Uefi": True}, {"BaseVolumeSz": "40m"}])
def test_image_variants(bench: Bench, config: dict[str, object]) -> None:
    image = bench.build(config).image
    assert image is not None
    with open_image(image) as opened:
        assert opened.rootfs.version == (4 if "TFSv4" in config else 5)
        assert opened.uefi == ("Uefi" in config)
    if "BaseVolumeSz" in config:
        assert image.stat().st_size == 40 << 20


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
    with pytest.raises(Exception, match="partition table"):
        open_image(ran.image)


def test_a_failure_before_writing_leaves_the_old_image(bench: Bench) -> None:
    _write(bench.home, {"images/hello": "old"})
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
    assert ran.code == 0 and "/etc/ssl/certs/ca-certificates.crt" not in _files(ran.image)


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


@pytest.mark.parametrize(
    ("name", "program"),
    [("my", "-i some/dir/my.image.v2"), ("hello", ""), ("named", '{"RunConfig": {"ImageName": "named"}}')],
)
def test_the_image_name_is_cut_at_the_first_dot(bench: Bench, name: str, program: str) -> None:
    (bench.cwd / "c.json").write_text(program if program.startswith("{") else "{}")
    extra = program.split() if program.startswith("-") else []
    ran = bench.run("build", "./hello", "-c", "c.json", *extra)
    assert ran.said == f"Bootable image file:{bench.home}/images/{name}\n"


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
    _write(bench.home, {"images/hello": "old"})
    ran = bench.build()
    assert ran.image is not None and ran.image.read_text() == "old"


def test_ops_before_0_1_42_fails_on_numbered_mounts(bench: Bench) -> None:
    bench.env[ENVIRONMENT] = "version-0.1.41"
    assert "Ops version: 0.1.41\n" in bench.run("version").said
    ran = bench.build({"Mounts": {"%1": "/workspace"}})
    assert (ran.code, ran.said) == (1, "\033[31mstat %1: no such file or directory\033[0m\n")
    (bench.cwd / "%1").mkdir()
    assert _attributes(bench.build({"Mounts": {"%1": "/workspace"}}).image)["mounts"] == {"%0": "/workspace"}


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


def test_the_packed_tool_is_the_same_every_time_and_carries_its_behaviour(tmp_path: Path, bench: Bench) -> None:
    one, two = make_ops(tmp_path / "one"), make_ops(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    bench.ops = make_ops(tmp_path / "three", behaviour="no-success-line", interpreter=sys.executable)
    assert bench.build().said == ""
    bench.env[ENVIRONMENT] = "good"
    assert bench.build().said.startswith("Bootable image file:")


def test_the_stand_in_release_is_the_same_every_time_and_says_what_it_is(tmp_path: Path) -> None:
    one, two = make_release_archive(tmp_path / "1.tar.gz"), make_release_archive(tmp_path / "2.tar.gz")
    assert one.read_bytes() == two.read_bytes()
    release = make_release(tmp_path / "release", klibs=("tls", "gpu_nvidia"))
    names = {str(path.relative_to(release)) for path in release.rglob("*") if path.is_file()}
    assert names == {
        "kernel.img", "boot.img", "bootx64.efi", "common.tar.gz", "klibs/tls", "klibs/gpu_nvidia",
    }  # fmt: skip
    assert b"STAND-IN" in (release / "klibs/tls").read_bytes()
