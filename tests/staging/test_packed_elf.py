"""ELF files that are packed with directories and files: their libraries, and what glibc loads by name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.staging.conftest import Workshop, Write

LIBRARIES = "/lib/x86_64-linux-gnu"
EMPTY = "int main(void) { return 0; }"


def packed(staged_paths: set[str]) -> set[str]:
    """Without the C library and its loader."""
    return {path for path in staged_paths if "libc.so" not in path and "/ld-" not in path}


@pytest.fixture(autouse=True)
def program(workshop: Workshop) -> None:
    workshop.compile("prog", EMPTY)


@pytest.mark.parametrize(
    ("how", "argument"), [("--dir", "plugins"), ("--file", "plugins/plug.so"), ("--map", "plugins/*=/plugins")]
)
def test_a_plugin_brings_its_libraries(workshop: Workshop, how: str, argument: str) -> None:
    """plug -(RUNPATH $ORIGIN, a build path)-> libmid -(--search)-> libdeep, placed where the guest's loader looks."""
    workshop.library("search/libdeep.so.3", soname="libdeep.so.3")
    workshop.library("own dir/libmid.so", "search/libdeep.so.3", calls="deep")
    runpath = "-Wl,--enable-new-dtags,-rpath,${ORIGIN}/../own dir"
    workshop.library("plugins/plug.so", "-Lown dir", "-lmid", "-Wl,-rpath-link,search", runpath, calls="mid")
    staged = workshop.stage(how, argument, "--search", "search")
    assert staged.status == 0, staged.stderr
    libraries = {f"{LIBRARIES}/libmid.so", f"{LIBRARIES}/libdeep.so.3"}
    assert packed(staged.paths()) == {"/prog", "/plugins/plug.so", *libraries}
    assert staged.warnings == ()
    shutil.rmtree(staged.root)
    assert packed(workshop.stage(how, argument, "--libraries", "none").paths()) == {"/prog", "/plugins/plug.so"}


def test_what_is_packed_already_is_not_staged_again(workshop: Workshop) -> None:
    """As in Python's wheels: the libraries lie beside the modules, which find them by RUNPATH or RPATH."""
    workshop.library("site/pkg.libs/libdeep.so", "-Wl,-soname,libdeep.so")
    for name, tags in (("new", "--enable-new-dtags"), ("old", "--disable-new-dtags")):
        runpath = f"-Wl,{tags},-rpath,$ORIGIN/../pkg.libs"
        workshop.library(f"site/pkg/{name}.so", "-Lsite/pkg.libs", "-ldeep", runpath, calls="deep")
    staged = workshop.stage("--dir", "site")
    assert staged.status == 0, staged.stderr
    assert packed(staged.paths()) == {"/prog", "/site/pkg.libs/libdeep.so", "/site/pkg/new.so", "/site/pkg/old.so"}


def test_a_plugins_missing_library_is_an_error_with_all_who_need_it(workshop: Workshop) -> None:
    workshop.library("gone/libgone.so", "-Wl,-soname,libgone.so")
    for name in ("one", "two"):
        workshop.library(f"plugins/{name}.so", "-Lgone", "-lgone", calls="gone")
    staged = workshop.stage("--dir", "plugins")
    assert staged.status == 1
    for name in ("one", "two"):
        assert f"libgone.so is needed by {workshop.build}/plugins/{name}.so" in staged.stderr
    assert "build.packages" in staged.stderr


def test_a_library_that_lies_elsewhere_in_the_tree_is_left_to_verify(workshop: Workshop) -> None:
    """LD_LIBRARY_PATH of the manifest may find it."""
    workshop.library("opt/libdeep.so", "-Wl,-soname,libdeep.so")
    workshop.library("plugins/plug.so", "-Lopt", "-ldeep", calls="deep")
    staged = workshop.stage("--dir", "opt", "--dir", "plugins")
    assert staged.status == 0, staged.stderr


def test_what_no_loader_takes_is_not_followed(workshop: Workshop, write: Write) -> None:
    """Object files, archives, static and foreign programs, debug files, text: no library, no error, no warning."""
    workshop.library("gone/libgone.so", "-Wl,-soname,libgone.so")
    plug = workshop.library("gone/plug.so", "-Lgone", "-lgone", "-g", calls="gone")
    (workshop.build / "data").mkdir()
    subprocess.run(["objcopy", "--only-keep-debug", plug, workshop.build / "data/plug.so.debug"], check=True)
    workshop.compile("data/object.o", EMPTY, "-c")
    subprocess.run(["ar", "rcs", "data/lib.a", "data/object.o"], check=True, cwd=workshop.build)
    workshop.compile("data/static", EMPTY, "-static")
    workshop.library("data/foreign.so", "-m32", "-nostdlib")
    for name, place, value in (("freebsd.so", 7, 9), ("arm.so", 18, 0xB7), ("core", 16, 4)):
        data = bytearray(plug.read_bytes())
        data[place] = value
        (workshop.build / "data" / name).write_bytes(data)
    (workshop.build / "data/cut.so").write_bytes(plug.read_bytes()[:100])
    write("data/libtext.so", "INPUT ( libgone.so )\n" + " " * 99)
    staged = workshop.stage("--dir", "data")
    assert staged.status == 0, staged.stderr
    assert staged.warnings == ()
    assert packed(staged.paths()) == {"/prog", *(f"/data/{path.name}" for path in (workshop.build / "data").iterdir())}


def test_files_of_another_c_library_are_named_and_not_followed(workshop: Workshop) -> None:
    """As in node's `prebuilds`, where the program picks the right one when it runs."""
    workshop.compile("data/tool", EMPTY, compiler="musl-gcc")
    workshop.library("data/libc.musl-x86_64.so.1", soname="libc.musl-x86_64.so.1")
    workshop.library("pre/node.musl.node", "-Wl,--no-as-needed", "data/libc.musl-x86_64.so.1", "-nostdlib")
    (workshop.build / "data/libc.musl-x86_64.so.1").unlink()
    staged = workshop.stage("--dir", "data", "--dir", "pre")
    assert staged.status == 0, staged.stderr
    assert sorted(staged.warnings) == [
        "/data/tool is a program for another loader, /lib/ld-musl-x86_64.so.1: its libraries are not staged",
        "/pre/node.musl.node is made for another C library, libc.musl-x86_64.so.1: its libraries are not staged",
    ]


@pytest.mark.parametrize("function", ["pthread_cancel", "pthread_exit", "thrd_exit", "backtrace"])
def test_glibcs_unwinder_is_staged_for_who_calls_it(workshop: Workshop, function: str) -> None:
    source = f"void {function}(void); void f(void) {{ {function}(); }}"
    workshop.compile("plugins/plug.so", source, "-shared", "-fPIC")
    staged = workshop.stage("--dir", "plugins")
    assert staged.status == 0, staged.stderr
    assert packed(staged.paths()) == {"/prog", "/plugins/plug.so", f"{LIBRARIES}/libgcc_s.so.1"}
    assert staged.warnings == ()


def test_the_unwinder_is_not_for_who_does_without(workshop: Workshop) -> None:
    """musl has its own; a function of that name of one's own, or one that only ends so, is not glibc's."""
    source = "void my_pthread_exit(void); void pthread_cancel(void) { my_pthread_exit(); }"
    workshop.compile("plugins/plug.so", source, "-shared", "-fPIC")
    assert f"{LIBRARIES}/libgcc_s.so.1" not in workshop.stage("--dir", "plugins").paths()
    shutil.rmtree(workshop.build.parent / "stage")
    source = "#include <pthread.h>\nint main(void) { pthread_exit(0); }"
    workshop.compile("prog", source, compiler="musl-gcc")
    assert workshop.stage().paths() == {"/prog", "/lib/ld-musl-x86_64.so.1"}


def test_thousands_of_files_take_seconds(workshop: Workshop) -> None:
    """Copied and looked at by a process for many files: 4,000 files and 200 modules; at one each it is a minute."""
    plug = workshop.library("tree/m0.so", "-Wl,--no-as-needed", "-lm")
    for number in range(200):
        folder = workshop.build / f"tree/d{number}"
        folder.mkdir()
        shutil.copy(plug, folder / "m.so")
        for copy in range(20):
            (folder / f"{copy}.py").write_text("#" * 100)
    staged = workshop.stage("--dir", "tree")
    assert staged.status == 0, staged.stderr
    assert f"{LIBRARIES}/libm.so.6" in staged.paths()
    assert len([path for path in staged.paths() if path.startswith("/tree/")]) == 4201
    assert Path(staged.root / "tree/d199/m.so").read_bytes() == plug.read_bytes()
