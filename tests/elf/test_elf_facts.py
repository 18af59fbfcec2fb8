"""ELF headers as the loader reads them, and what damaged ones do."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.elf.facts import ElfError, ElfFacts, default_directories, read_elf

from .conftest import Compile

MAIN = "int main(void) { return 0; }"
LOADER = Path("/lib64/ld-linux-x86-64.so.2")
LIBM = Path("/lib/x86_64-linux-gnu/libm.so.6")


def facts(path: Path) -> ElfFacts:
    with path.open("rb") as stream:
        return read_elf(stream)


def test_a_dynamic_program(compile_c: Compile) -> None:
    read = facts(compile_c("dynamic", "#include <math.h>\nint main(int c, char **v) { return sin(c); }", "-lm"))
    assert (read.bits, read.machine, read.type) == (64, "EM_X86_64", "ET_DYN")
    assert read.interpreter == str(LOADER)
    assert read.needed == ("libm.so.6", "libc.so.6")
    assert read.native and read.pie and read.needed and read.exec_stack is False
    assert "GLIBC_2.34" in read.versions_needed["libc.so.6"]


def test_a_library_and_its_versions(compile_c: Compile) -> None:
    script = compile_c("libsmall.so", "int f(void) { return 0; }", "-shared", "-fPIC").parent / "map"
    script.write_text("OWN_1.0 { global: f; local: *; };\n")
    library = compile_c(
        "libversioned.so", "int f(void) { return 0; }", "-shared", "-fPIC", "-Wl,-soname,libv.so.1",
        f"-Wl,--version-script={script}",
    )  # fmt: skip
    read = facts(library)
    assert read.soname == "libv.so.1"
    assert "OWN_1.0" in read.versions_defined
    assert read.interpreter is None
    user = facts(compile_c("user", "int f(void); int main(void) { return f(); }", str(library)))
    assert user.versions_needed["libv.so.1"] == ("OWN_1.0",)


def test_paths_and_flags(compile_c: Compile) -> None:
    old = facts(compile_c("old", MAIN, "-Wl,--disable-new-dtags,-rpath,$ORIGIN/a:/b", "-z", "execstack"))
    assert (old.rpath, old.runpath, old.exec_stack) == ("$ORIGIN/a:/b", "", True)
    new = facts(compile_c("new", MAIN, "-Wl,--enable-new-dtags,-rpath,/c", "-Wl,-z,nodefaultlib"))
    assert (new.rpath, new.runpath, new.no_default_directories) == ("", "/c", True)


@pytest.mark.parametrize(("flags", "kind"), [(("-static",), "ET_EXEC"), (("-static-pie",), "ET_DYN")])
def test_static_programs(compile_c: Compile, flags: tuple[str, ...], kind: str) -> None:
    read = facts(compile_c(f"static{kind}", MAIN, *flags))
    assert read.interpreter is None and not read.needed and read.type == kind


def test_other_machines_are_read_too(compile_c: Compile) -> None:
    read = facts(compile_c("i386", "void _start(void) {}", "-m32", "-nostdlib", "-static"))
    assert (read.bits, read.machine, read.native) == (32, "EM_386", False)


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01" + bytes(40), b"\x7fELF" * 99])
def test_what_is_no_elf_file(data: bytes) -> None:
    with pytest.raises(ElfError):
        read_elf(io.BytesIO(data))


def test_the_stream_stays_open_and_little_is_read(compile_c: Compile) -> None:
    class Counting(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.count += len(data)
            return data

    stream = Counting(LIBM.read_bytes() + bytes(8 * 1024 * 1024))
    assert read_elf(stream).soname == "libm.so.6"
    assert not stream.closed
    assert stream.count < 64 * 1024


def test_default_directories() -> None:
    with LOADER.open("rb") as stream:
        assert default_directories(stream)[0] == "/lib/x86_64-linux-gnu"
    fedora = b"junk\0/lib64/\0/usr/lib64/\0junk"
    assert default_directories(io.BytesIO(fedora)) == ("/lib64", "/usr/lib64")
    assert default_directories(io.BytesIO(b"x/lib:/usr/local/lib:/usr/lib\0")) == ("/lib", "/usr/local/lib", "/usr/lib")
    assert "/lib64" in default_directories(io.BytesIO(b"nothing"))


_SEEDS = [LIBM.read_bytes()[: 96 * 1024], LOADER.read_bytes()[: 16 * 1024]]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.sampled_from(_SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 1023), st.binary(min_size=1, max_size=8)), max_size=8),
    deep=st.lists(st.tuples(st.integers(0, 96 * 1024), st.binary(min_size=1, max_size=8)), max_size=4),
    cut=st.integers(0, 96 * 1024),
)
def test_damaged_files_raise_one_error(
    seed: bytes, edits: list[tuple[int, bytes]], deep: list[tuple[int, bytes]], cut: int
) -> None:
    data = bytearray(seed[: max(cut, 4)])
    for offset, value in edits + deep:
        data[offset : offset + len(value)] = value
    try:
        read = read_elf(io.BytesIO(bytes(data)))
    except ElfError:
        return
    assert isinstance(read.needed, tuple)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_noise_after_the_magic_raises_one_error(data: bytes) -> None:
    try:
        read_elf(io.BytesIO(b"\x7fELF\x02\x01\x01" + data))
    except ElfError:
        return
