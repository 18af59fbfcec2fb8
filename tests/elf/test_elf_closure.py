"""The guest loader's search, over trees of real files; where the machine's own loader can be asked, it is."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import BinaryIO

import pytest

from orchestrator.elf.closure import GuestLoader, Link

from .conftest import Compile

LOADER = "/lib64/ld-linux-x86-64.so.2"
LIBC = "/lib/x86_64-linux-gnu/libc.so.6"


class Tree:
    """Guest path → host file or bytes."""

    def __init__(self, files: dict[str, Path | bytes]) -> None:
        self.files = files

    def open(self, path: str) -> BinaryIO | None:
        import io

        file = self.files.get(path)
        if file is None:
            return None
        return io.BytesIO(file if isinstance(file, bytes) else file.read_bytes())

    def links(self, environment: dict[str, str] | None = None) -> dict[str, Link]:
        loader = GuestLoader(self.open, program="/app/prog", environment=environment or {})
        return {link.name: link for link in loader.program_links}


@pytest.fixture(scope="module")
def leaf(compile_c: Compile) -> Path:
    return compile_c("libleaf.so", "int leaf(void) { return 0; }", "-shared", "-fPIC")


def base(program: Path) -> dict[str, Path | bytes]:
    return {"/app/prog": program, LOADER: Path(LOADER), LIBC: Path(LIBC)}


def user(compile_c: Compile, leaf: Path, *flags: str, name: str = "user") -> Path:
    return compile_c(name, "int leaf(void); int main(void) { return leaf(); }", f"-L{leaf.parent}", "-lleaf", *flags)


@pytest.mark.parametrize(
    ("flags", "environment", "where"),
    [
        ((), {}, "/lib/x86_64-linux-gnu/libleaf.so"),
        ((), {}, "/usr/lib/libleaf.so"),
        ((), {"LD_LIBRARY_PATH": "/x:/opt/y"}, "/opt/y/libleaf.so"),
        (("-Wl,-rpath,$ORIGIN/lib",), {}, "/app/lib/libleaf.so"),
        (("-Wl,--disable-new-dtags,-rpath,${ORIGIN}/../$LIB",), {}, "/lib/x86_64-linux-gnu/libleaf.so"),
        ((), {}, "/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libleaf.so"),
    ],
)
def test_found(compile_c: Compile, leaf: Path, flags: tuple[str, ...], environment: dict[str, str], where: str) -> None:
    program = user(compile_c, leaf, *flags)
    link = Tree({**base(program), where: leaf}).links(environment)["libleaf.so"]
    assert link.path is not None
    assert Path(link.path).resolve() == Path(where).resolve()


@pytest.mark.parametrize("where", ["/build/libleaf.so", "/lib64/libleaf.so", "/app/libleaf.so", "/lib/libleaf.so.1"])
def test_not_found_elsewhere(compile_c: Compile, leaf: Path, where: str) -> None:
    """Debian's loader does not look in /lib64, nor beside the program, nor where the build had it."""
    missing = Tree({**base(user(compile_c, leaf)), where: leaf}).links()["libleaf.so"]
    assert missing.path is None
    assert missing.searched[0] == "/lib/x86_64-linux-gnu"


def test_order_is_rpath_environment_runpath_defaults(compile_c: Compile, leaf: Path) -> None:
    default = "/lib/x86_64-linux-gnu/libleaf.so"
    everywhere = dict.fromkeys(("/r/libleaf.so", "/e/libleaf.so", default), leaf)
    environment = {"LD_LIBRARY_PATH": "/e"}
    rpath = user(compile_c, leaf, "-Wl,--disable-new-dtags,-rpath,/r", name="with-rpath")
    assert Tree({**base(rpath), **everywhere}).links(environment)["libleaf.so"].path == "/r/libleaf.so"
    runpath = user(compile_c, leaf, "-Wl,--enable-new-dtags,-rpath,/r", name="with-runpath")
    assert Tree({**base(runpath), **everywhere}).links(environment)["libleaf.so"].path == "/e/libleaf.so"
    assert Tree({**base(runpath), **everywhere}).links()["libleaf.so"].path == "/r/libleaf.so"


def test_a_library_for_another_machine_is_passed_over_and_a_text_file_is_fatal(compile_c: Compile, leaf: Path) -> None:
    other = compile_c("libother.so", "int leaf(void) { return 0; }", "-shared", "-m32", "-nostdlib")
    first, second = "/lib/x86_64-linux-gnu/libleaf.so", "/usr/lib/x86_64-linux-gnu/libleaf.so"
    program = base(user(compile_c, leaf))
    assert Tree({**program, first: other, second: leaf}).links()["libleaf.so"].path == second
    broken = Tree({**program, first: b"INPUT ( x )", second: leaf}).links()["libleaf.so"]
    assert (broken.path, broken.broken) == (None, first)


def test_no_default_directories(compile_c: Compile, leaf: Path) -> None:
    program = user(compile_c, leaf, "-Wl,-z,nodefaultlib", name="nodefault")
    assert Tree({**base(program), "/lib/x86_64-linux-gnu/libleaf.so": leaf}).links()["libleaf.so"].path is None


def test_the_cache_is_used_when_it_is_packed(compile_c: Compile, leaf: Path) -> None:
    strings = b"libleaf.so\0/opt/z/libleaf.so\0"
    start = 48 + 24
    header = struct.pack("<20sIIB3xI12x", b"glibc-ld.so.cache1.1", 1, len(strings), 2, 0)
    cache = header + struct.pack("<iIIIQ", 0x0303, start, start + 11, 0, 0) + strings
    files = {**base(user(compile_c, leaf)), "/opt/z/libleaf.so": leaf}
    assert Tree(files).links()["libleaf.so"].path is None
    assert Tree({**files, "/etc/ld.so.cache": cache}).links()["libleaf.so"].path == "/opt/z/libleaf.so"
    assert Tree({**files, "/etc/ld.so.cache": cache[:60]}).links()["libleaf.so"].path is None


def test_the_machines_own_cache_and_loader_agree(compile_c: Compile) -> None:
    """gcc's own cc1 uses a handful of libraries; `ldd` asks the real loader about the same tree."""
    program = Path(
        subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=True).stdout.strip()
    )
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    expected = {line.split()[0]: line.split()[2] for line in said.splitlines() if "=>" in line}

    def lookup(path: str) -> BinaryIO | None:
        return Path(path).open("rb") if Path(path).is_file() else None

    links = GuestLoader(lookup, program=str(program), environment={}).program_links
    paths = {link.name: link.path for link in links if link.path != LOADER}
    assert paths == expected


def test_musl_is_its_own_c_library(compile_c: Compile, leaf: Path) -> None:
    program = user(compile_c, leaf, name="dynamic-glibc")
    musl = compile_c(
        "musl", "int leaf(void); int main(void) { return leaf(); }", f"-L{leaf.parent}", "-lleaf", compiler="musl-gcc"
    )
    bare = compile_c("libbare.so", "int leaf(void) { return 0; }", "-shared", "-fPIC", "-nostdlib")
    files: dict[str, Path | bytes] = {"/app/prog": musl, "/lib/ld-musl-x86_64.so.1": Path("/lib/ld-musl-x86_64.so.1")}
    assert program != musl
    by_name = Tree({**files, "/usr/local/lib/libleaf.so": bare}).links()
    assert by_name["libc.so"].path == "/lib/ld-musl-x86_64.so.1"
    assert by_name["libleaf.so"].path == "/usr/local/lib/libleaf.so"
    assert Tree({**files, "/lib/x86_64-linux-gnu/libleaf.so": bare}).links()["libleaf.so"].path is None
    with_path = {**files, "/opt/libleaf.so": bare, "/etc/ld-musl-x86_64.path": b"/opt\n"}
    assert Tree(with_path).links()["libleaf.so"].path == "/opt/libleaf.so"


def test_a_plugin_uses_what_the_program_has_loaded(compile_c: Compile, leaf: Path) -> None:
    """The program's RUNPATH finds libleaf; a plugin that needs it as well gets the loaded one by its name."""
    program = user(compile_c, leaf, "-Wl,--enable-new-dtags,-rpath,/own", name="host")
    plugin = compile_c(
        "plugin.so", "int leaf(void); int p(void) { return leaf(); }", "-shared", "-fPIC", f"-L{leaf.parent}", "-lleaf"
    )
    loader = GuestLoader(
        Tree({**base(program), "/own/libleaf.so": leaf, "/plugin.so": plugin}).open, program="/app/prog", environment={}
    )
    assert {link.name: link.path for link in loader.open_by_name("/plugin.so")}["libleaf.so"] == "/own/libleaf.so"
    assert loader.open_by_name("/nothing") == ()
