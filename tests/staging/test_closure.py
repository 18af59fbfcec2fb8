"""The ELF closure: found as the build's loader would, placed where the guest's loader looks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.staging.conftest import Workshop, Write

LIBRARIES = "/lib/x86_64-linux-gnu"
LOADER = "/lib64/ld-linux-x86-64.so.2"


def needs(path: Path) -> str:
    """Which library of ours a file needs (the C library left out)."""
    return subprocess.run(["readelf", "-d", str(path)], capture_output=True, text=True, check=True).stdout


def test_a_program_with_its_c_library_and_loader(workshop: Workshop) -> None:
    workshop.compile("target/release/prog", "int main(void) { return 0; }")
    staged = workshop.stage(program="target/release/prog", name="my-prover")
    assert staged.status == 0, staged.stderr
    assert staged.paths() == {"/my-prover", LOADER, f"{LIBRARIES}/libc.so.6"}
    assert os.access(staged.root / "my-prover", os.X_OK)
    assert not any(path.is_symlink() for path in staged.root.rglob("*"))
    assert (staged.root / LOADER[1:]).read_bytes() == Path(LOADER).read_bytes()
    lines = staged.stdout.splitlines()
    assert lines[:-1] == sorted(lines[:-1])
    assert any(line.startswith("staged: /my-prover <- ") and line.endswith(" bytes)") for line in lines)
    assert lines[-1].startswith("total: 3 files, ")


def test_transitive_needs_by_search_rpath_and_runpath(workshop: Workshop) -> None:
    """prog -(RUNPATH $ORIGIN)-> libtop -(RUNPATH, absolute)-> libmid -(--search, a glob)-> libdeep."""
    build = workshop.build
    workshop.library("search-1.2/libdeep.so.3.1", soname="libdeep.so.3")
    shutil.copy(build / "search-1.2/libdeep.so.3.1", build / "search-1.2/libdeep.so.3")
    workshop.library("mid/libmid.so", "search-1.2/libdeep.so.3", calls="deep")
    link = "-Wl,-rpath-link,mid:search-1.2"
    runpath = f"-Wl,--enable-new-dtags,-rpath,{build}/mid"
    workshop.library("lib/libtop.so", "-Lmid", "-lmid", link, runpath, calls="mid")
    runpath = "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib"
    workshop.program("bin/prog", "-Llib", "-ltop", link, runpath, calls="top")
    staged = workshop.stage("--search", "search-*", program="bin/prog")
    assert staged.status == 0, staged.stderr
    mine = {path for path in staged.paths() if "libc.so" not in path and path != LOADER}
    assert mine == {"/prog", *(f"{LIBRARIES}/{name}" for name in ("libtop.so", "libmid.so", "libdeep.so.3"))}


def test_rpath_of_the_program_is_inherited_and_runpath_is_not(workshop: Workshop) -> None:
    workshop.library("lib/libleaf.so")
    workshop.library("lib/libtop.so", "-Llib", "-lleaf", calls="leaf")
    old = "-Wl,--disable-new-dtags,-rpath,${ORIGIN}/lib"
    workshop.program("prog", "-Llib", "-ltop", "-Wl,-rpath-link,lib", old, calls="top")
    assert "RPATH" in needs(workshop.build / "prog")
    assert workshop.stage().status == 0
    shutil.rmtree(workshop.build.parent / "stage")

    new = "-Wl,--enable-new-dtags,-rpath,${ORIGIN}/lib"
    workshop.program("prog", "-Llib", "-ltop", "-Wl,-rpath-link,lib", new, calls="top")
    staged = workshop.stage()
    assert staged.status == 1
    assert "libleaf.so is needed by" in staged.stderr
    assert "libtop.so is needed by" not in staged.stderr


def test_the_origin_of_a_linked_program_is_where_it_really_is(workshop: Workshop) -> None:
    workshop.library("real/lib/libtop.so")
    workshop.program("real/prog", "-Lreal/lib", "-ltop", "-Wl,-rpath,$ORIGIN/lib", calls="top")
    (workshop.build / "prog").symlink_to("real/prog")
    staged = workshop.stage()
    assert staged.status == 0, staged.stderr
    assert not (staged.root / "prog").is_symlink()


def test_all_missing_libraries_are_told_at_once(workshop: Workshop) -> None:
    for name in ("libone.so", "libtwo.so", "libcuda.so.1"):
        workshop.library(f"gone/{name}", soname=name)
    workshop.library("lib/libtop.so", "gone/libtwo.so", "gone/libcuda.so.1", "-Wl,--no-as-needed", calls="two")
    workshop.compile(
        "prog", "int top(void); int one(void); int main(void) { return top() + one(); }",
        "-Llib", "-ltop", "gone/libone.so", "gone/libcuda.so.1", "-Wl,--no-as-needed", "-Wl,-rpath-link,gone",
    )  # fmt: skip
    staged = workshop.stage("--search", "lib", "--extra", "libthree.so")
    assert staged.status == 1
    first = staged.stderr.splitlines()[0]
    assert first.startswith("error: ") and all(n in first for n in ("libone.so", "libtwo.so", "libthree.so"))
    assert "libone.so is needed by " + str(workshop.build / "prog") in staged.stderr
    assert "libtwo.so is needed by " + str(workshop.build / "lib/libtop.so") in staged.stderr
    assert "libthree.so is needed by the program, by stage.extra" in staged.stderr
    assert f"looked in: {workshop.build}/lib" in staged.stderr
    assert "build.packages" in staged.stderr


def test_a_missing_driver_library_points_to_gpu_assets(workshop: Workshop) -> None:
    workshop.library("gone/libcuda.so.1", soname="libcuda.so.1")
    workshop.program("prog", "gone/libcuda.so.1", calls="cuda")
    staged = workshop.stage()
    assert staged.status == 1
    assert "gpu-assets" in staged.stderr


def test_extra_names_bring_their_own_closure(workshop: Workshop) -> None:
    workshop.library("plugins/libleaf.so.1", soname="libleaf.so.1")
    workshop.library("plugins/libplug.so.1", "plugins/libleaf.so.1", soname="libplug.so.1", calls="leaf")
    absolute = workshop.library("opt/mod.so")
    workshop.compile("prog", "int main(void) { return 0; }")
    staged = workshop.stage("--extra", "libplug.so.1", "--extra", str(absolute), "--search", "plugins")
    assert staged.status == 0, staged.stderr
    assert {f"{LIBRARIES}/libplug.so.1", f"{LIBRARIES}/libleaf.so.1", str(absolute)} <= staged.paths()


@pytest.mark.parametrize("flags", [("-static",), ("-static-pie",)])
def test_a_static_program_needs_nothing(workshop: Workshop, flags: tuple[str, ...]) -> None:
    workshop.compile("prog", "int main(void) { return 0; }", *flags)
    staged = workshop.stage()
    assert staged.status == 0, staged.stderr
    assert staged.paths() == {"/prog"}
    assert (staged.root / "lib").is_dir() and (staged.root / "lib64").is_dir()


def test_musl_keeps_to_its_own_directories(workshop: Workshop) -> None:
    """musl's loader is the C library; others go to /lib; glibc's directories are not for it."""
    workshop.library("lib/libtop.so", "-nostdlib")
    workshop.program("prog", "-Llib", "-ltop", calls="top", compiler="musl-gcc")
    staged = workshop.stage("--search", "lib")
    assert staged.status == 0, staged.stderr
    assert staged.paths() == {"/prog", "/lib/ld-musl-x86_64.so.1", "/lib/libtop.so"}


def test_candidates_of_another_class_are_passed_over(workshop: Workshop, write: Write) -> None:
    workshop.library("old/libtop.so", "-m32", "-nostdlib")
    write("text/libtop.so", "INPUT ( libreal.so )\n")
    right = workshop.library("lib/libtop.so")
    workshop.program("prog", "-Llib", "-ltop", calls="top")
    staged = workshop.stage("--search", "old", "--search", "text", "--search", "lib")
    assert staged.status == 0, staged.stderr
    assert (staged.root / LIBRARIES[1:] / "libtop.so").read_bytes() == right.read_bytes()


def test_libraries_none_stages_the_program_alone(workshop: Workshop) -> None:
    workshop.compile("prog", "int main(void) { return 0; }")
    staged = workshop.stage("--libraries", "none")
    assert staged.status == 0
    assert [path.name for path in staged.root.iterdir()] == ["prog"]


def test_nothing_is_executed(workshop: Workshop) -> None:
    """A program and a library that would leave a mark if they, or a loader with them, were run."""
    mark = workshop.build / "ran"
    constructor = f'#include <fcntl.h>\n__attribute__((constructor)) void c(void) {{ open("{mark}", O_CREAT, 0600); }}'
    workshop.compile("lib/libtop.so", constructor + " int top(void) { return 0; }", "-shared", "-fPIC")
    workshop.compile("prog", constructor + " int top(void); int main(void) { return top(); }", "-Llib", "-ltop")
    assert workshop.stage("--search", "lib").status == 0
    assert not mark.exists()


def test_dlopen_is_pointed_out_unless_extras_are_named(workshop: Workshop) -> None:
    source = "#include <dlfcn.h>\nint main(int c, char **v) { return !dlopen(v[1], RTLD_NOW); }"
    workshop.compile("prog", source)
    assert "warning: prog can load libraries by name" in workshop.stage().stderr
    shutil.rmtree(workshop.build.parent / "stage")
    assert "warning" not in workshop.stage("--extra", "libgcc_s.so.1").stderr


def test_twice_the_same(workshop: Workshop) -> None:
    workshop.compile("prog", "#include <math.h>\nint main(int c, char **v) { return sin(c); }", "-lm")
    first = workshop.stage()
    before = {path: (first.root / path[1:]).read_bytes() for path in first.paths()}
    shutil.rmtree(first.root)
    again = workshop.stage()
    assert again.stdout == first.stdout
    assert {path: (again.root / path[1:]).read_bytes() for path in again.paths()} == before


class TestProgram:
    """What `build.program` may be."""

    def test_missing_names_the_programs_that_are_there(self, workshop: Workshop) -> None:
        workshop.compile("target/release/older", "int main(void) { return 0; }")
        workshop.compile("target/release/right", "int main(void) { return 0; }")
        os.utime(workshop.build / "target/release/older", (1, 1))
        staged = workshop.stage(program="target/release/wrong")
        assert staged.status == 1
        assert "target/release/wrong is not there" in staged.stderr
        listed = [line.strip() for line in staged.stderr.splitlines() if line.startswith("    ")]
        assert listed == ["target/release/right", "target/release/older"]

    @pytest.mark.parametrize(
        ("content", "said"),
        [(b"#!/bin/sh\necho\n", "is a script: #!/bin/sh"), (b"PK\3\4", "is not an ELF"), (b"", "is not an ELF")],
    )
    def test_not_a_program(self, workshop: Workshop, content: bytes, said: str) -> None:
        (workshop.build / "prog").write_bytes(content)
        staged = workshop.stage()
        assert staged.status == 1
        assert said in staged.stderr

    def test_another_machine(self, workshop: Workshop) -> None:
        workshop.compile("prog", "void _start(void) {}", "-m32", "-nostdlib", "-static")
        staged = workshop.stage()
        assert staged.status == 1
        assert "another machine: ELF32 Intel 80386" in staged.stderr

    def test_an_object_file(self, workshop: Workshop) -> None:
        workshop.compile("prog", "int main(void) { return 0; }", "-c")
        assert "is not linked" in workshop.stage().stderr

    def test_a_socket_is_refused(self, workshop: Workshop) -> None:
        workshop.compile("prog", "int main(void) { return 0; }", "-static")
        (workshop.build / "data").mkdir()
        before = Path.cwd()
        os.chdir(workshop.build / "data")
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("sock")
        finally:
            os.chdir(before)
        staged = workshop.stage("--dir", "data")
        assert staged.status == 1
        assert "data/sock is a device, socket or pipe" in staged.stderr
