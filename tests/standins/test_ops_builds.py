"""The stand-in `ops` that behaves: trees, attributes and names as the real 0.1.43 made them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.image.listing import tree_listing
from orchestrator.image.reader import open_image
from tests.standins.bench import LOOKUP, SYSTEM, Bench, attributes, content, files, nodes, write
from tests.standins.make_ops import make_ops
from tests.standins.nanos_release import make_release, make_release_archive
from tests.standins.ops import MARKER
from tests.standins.ops.behaviour import ENVIRONMENT


def test_version_is_in_opss_words_and_says_that_it_is_a_stand_in(bench: Bench) -> None:
    ran = bench.run("version")
    assert ran.code == 0
    assert ran.said.splitlines() == ["Ops version: 0.1.43", "Nanos version: 0.1.51", MARKER]


def test_the_success_line_comes_right_after_the_colour_ends(bench: Bench) -> None:
    ran = bench.build()
    assert (ran.code, ran.stdout) == (0, f"{LOOKUP}Bootable image file:{bench.home}/images/hello\n")


def test_a_plain_build_holds_the_program_and_what_ops_always_adds(bench: Bench) -> None:
    image = bench.build().image
    assert files(image) == SYSTEM | {"/hello"}
    assert content(image, "/etc/resolv.conf") == b"nameserver  8.8.8.8\n"
    assert content(image, "/etc/passwd") == b"root:x:0:0:root:/root:/bin/nobash"
    assert content(image, "/proc/sys/kernel/hostname") == b"uniboot"
    assert attributes(image) == {
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
    assert attributes(image)["klibs"] == "bootfs"


def test_everything_a_manifest_can_put_into_the_tree(bench: Bench) -> None:
    write(
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
    by_path = nodes(ran.image)
    assert {path for path, kind in by_path.items() if kind == "file"} == SYSTEM | {
        "/hello", "/params/a.srs", "/lib/x/y", "/lib/one", "/data/m", "/data/deep/n",
    }  # fmt: skip
    assert by_path["/lib/link"] == "-> one"
    assert by_path["/lib/empty"] == by_path["/workspace"] == "directory"
    assert "/lib/dangling" not in by_path
    assert content(ran.image, "/etc/passwd") == b"me"


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
    stored = attributes(image)
    environment = stored.pop("environment")
    assert isinstance(environment, dict)
    assert environment["USER"] == "me" and environment["OPS_PORT"] == "80,81" and "EMPTY" not in environment
    assert stored == {
        "program": "/hello", "arguments": ["hello", "--k=v", "two words"], "reboot_on_exit": "t", "trace": "t",
        "notrace": ["read"], "readonly_rootfs": "true", "list": ["a", "b"], "nest": {"k": "v"}, "ipaddr": "10.0.0.5",
        "netmask": "255.255.255.0",  # the default of `--netmask`, which wins over the configuration
    }  # fmt: skip
    assert content(image, "/etc/resolv.conf") == b"nameserver  1.1.1.1\n"


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
    write(bench.home, {"volumes/known:1234.raw": ""})
    assert attributes(bench.build({"Mounts": mounts}).image)["mounts"] == stored


def test_libraries_are_found_without_running_the_program(bench: Bench, programs: Path) -> None:
    (bench.cwd / "hello").write_bytes((programs / "dynamic").read_bytes())  # not executable: could not be run
    bench.env["LD_LIBRARY_PATH"] = str(programs / "shim")
    ran = bench.build()
    # /lib/… or /usr/lib/…, which is one directory: Debian's loader says either, by its release.
    says = subprocess.run(["ldd", programs / "dynamic"], check=True, capture_output=True, text=True).stdout
    libc = re.findall(r"libc\.so\.6 => (\S+)", says)
    assert files(ran.image) == SYSTEM | {
        "/hello", *libc, "/lib64/ld-linux-x86-64.so.2", f"{programs}/shim/libown.so",
    }  # fmt: skip


def test_a_library_below_the_working_directory_loses_that_prefix(bench: Bench, programs: Path) -> None:
    write(bench.cwd, {"gevulot/x": ""})
    (bench.cwd / "hello").write_bytes((programs / "dynamic").read_bytes())
    (bench.cwd / "gevulot/libown.so").write_bytes((programs / "shim/libown.so").read_bytes())
    bench.env["LD_LIBRARY_PATH"] = str(bench.cwd / "gevulot")
    assert "/gevulot/libown.so" in files(bench.build().image)


def test_a_library_beside_the_working_directory_is_lost_without_a_word(bench: Bench, programs: Path) -> None:
    beside = bench.cwd.with_name(bench.cwd.name + "-x")  # begins with the working directory's letters
    beside.mkdir()
    (bench.cwd / "hello").write_bytes((programs / "dynamic").read_bytes())
    (beside / "libown.so").write_bytes((programs / "shim/libown.so").read_bytes())
    bench.env["LD_LIBRARY_PATH"] = str(beside)
    ran = bench.build()
    assert ran.code == 0 and ran.said.startswith("Bootable image file:")
    assert not any(path.endswith("libown.so") for path in files(ran.image))


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


@pytest.mark.parametrize(
    ("name", "program"),
    [("my", "-i some/dir/my.image.v2"), ("hello", ""), ("named", '{"RunConfig": {"ImageName": "named"}}')],
)
def test_the_image_name_is_cut_at_the_first_dot(bench: Bench, name: str, program: str) -> None:
    (bench.cwd / "c.json").write_text(program if program.startswith("{") else "{}")
    extra = program.split() if program.startswith("-") else []
    ran = bench.run("build", "./hello", "-c", "c.json", *extra)
    assert ran.said == f"Bootable image file:{bench.home}/images/{name}\n"


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
