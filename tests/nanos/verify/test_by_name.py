"""Packed ELF files that the program may open by name: whose needs count, and what glibc loads by name for them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import Severity
from orchestrator.verification import Verification

from .conftest import LIBRARIES, Compile, Content, Recipe

Verify = Callable[..., Verification]
UNWINDER = f"{LIBRARIES}/libgcc_s.so.1"


def plugin(compile_c: Compile, name: str, body: str) -> Path:
    return compile_c(f"{name}.so", f"void {name}(void) {{ {body} }}", "-shared", "-fPIC")


def codes(result: Verification, severity: Severity) -> set[str]:
    return {finding.code for finding in result.findings if finding.severity is severity}


@pytest.mark.parametrize("function", ["pthread_cancel", "pthread_exit", "thrd_exit"])
def test_who_can_end_a_thread_needs_the_unwinder(
    verify: Verify, good: Recipe, compile_c: Compile, function: str
) -> None:
    plug = compile_c("ending.so", f"void {function}(void); void f(void) {{ {function}(); }}", "-shared", "-fPIC")
    recipe = good.but(files={"/plugins/ending.so": plug})
    result = verify(recipe, "devnet")
    assert result.ok
    (finding,) = (finding for finding in result.findings if finding.code == "unwinder-missing")
    assert finding.severity is Severity.WARNING
    assert f"/plugins/ending.so can call {function}" in finding.message
    assert "libgcc_s.so.1 to stage.extra" in finding.remedy
    assert "unwinder-missing" not in codes(
        verify(recipe.but(files={UNWINDER: Path(UNWINDER)}), "devnet"), Severity.WARNING
    )
    elsewhere = recipe.but(files={"/opt/libgcc_s.so.1": Path(UNWINDER)})
    assert "unwinder-missing" in codes(verify(elsewhere, "devnet"), Severity.WARNING)
    recipe = elsewhere.but(attributes={"environment": {"LD_LIBRARY_PATH": "/opt"}})
    assert "unwinder-missing" not in codes(verify(recipe, "devnet"), Severity.WARNING)


def test_only_an_import_counts(verify: Verify, good: Recipe, compile_c: Compile) -> None:
    """A function of that name of one's own, a longer name that ends so, or a text is none."""
    source = (
        "void my_pthread_exit(void); void pthread_cancel(void) { my_pthread_exit(); }"
        'const char *thrd(void) { return "thrd_exit"; }'
    )
    own = compile_c("own-names.so", source, "-shared", "-fPIC")
    assert "unwinder-missing" not in codes(verify(good.but(files={"/own-names.so": own}), "devnet"), Severity.WARNING)


@pytest.mark.parametrize("style", ["sysv", "gnu", "both"])
def test_imports_are_found_with_any_hash_table(verify: Verify, good: Recipe, compile_c: Compile, style: str) -> None:
    source = "void pthread_exit(void *); int main(void) { pthread_exit(0); }"
    program = compile_c("ending", source, f"-Wl,--hash-style={style}", "-s")
    result = verify(good.but(files={"/tool": program}), "devnet")
    assert "unwinder-missing" in codes(result, Severity.WARNING)


def test_backtraces_and_character_sets_are_notes(verify: Verify, good: Recipe, compile_c: Compile) -> None:
    calls = "void backtrace(void); void iconv_open(void); void f(void) { backtrace(); iconv_open(); }"
    recipe = good.but(files={"/noted.so": compile_c("noted.so", calls, "-shared", "-fPIC")})
    result = verify(recipe, "devnet")
    assert {"backtrace-empty", "gconv-missing"} <= codes(result, Severity.NOTE)
    assert codes(result, Severity.WARNING) == set()
    packed: dict[str, Content] = {
        UNWINDER: Path(UNWINDER),
        "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules": b"module\n",
    }
    assert not {"backtrace-empty", "gconv-missing"} & codes(verify(recipe.but(files=packed), "devnet"), Severity.NOTE)


def test_what_no_loader_takes_is_not_followed(verify: Verify, good: Recipe, compile_c: Compile, tmp_path: Path) -> None:
    gone = compile_c("libgone.so", "int gone(void) { return 0; }", "-shared", "-fPIC")
    plug = compile_c("needing.so", "int gone(void); int f(void) { return gone(); }", "-shared", "-fPIC", str(gone))
    debug = tmp_path / "needing.so.debug"
    subprocess.run(["objcopy", "--only-keep-debug", plug, debug], check=True)
    other = {}
    for name, place, value in (("freebsd", 7, 9), ("arm", 18, 0xB7), ("core", 16, 4), ("object", 16, 1)):
        data = bytearray(plug.read_bytes())
        data[place] = value
        other[f"/data/{name}"] = bytes(data)
    files: dict[str, Content] = {**other, "/data/debug": debug, "/data/cut": plug.read_bytes()[:100]}
    result = verify(good.but(files=files), "devnet")
    assert result.ok, result.findings
    assert codes(result, Severity.WARNING) == set()


def test_files_of_another_c_library_are_a_note(verify: Verify, good: Recipe, compile_c: Compile) -> None:
    tool = compile_c("musl-tool", "int main(void) { return 0; }")
    subprocess.run(["musl-gcc", "-o", tool, "-x", "c", "-"], input=b"int main(void) { return 0; }", check=True)
    result = verify(good.but(files={"/data/tool": tool}), "devnet")
    assert result.ok, result.findings
    (finding,) = (finding for finding in result.findings if finding.code == "elf-not-followed")
    assert "/data/tool is a program for another loader, /lib/ld-musl-x86_64.so.1" in finding.message
