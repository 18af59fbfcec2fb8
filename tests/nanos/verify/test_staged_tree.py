"""What the staging script gathers is what the guest's loader needs: staged for real, packed, verified."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.resources import SCRIPTS
from orchestrator.verification import Verification

from .conftest import Compile, Content, Recipe

SOURCE = """
#include <math.h>
#include <dlfcn.h>
int far(void);
int main(int c, char **v) { return far() + sin(c) + !dlopen("libplug.so", RTLD_NOW); }
"""


@pytest.mark.parametrize("flags", [(), ("-Wl,-rpath,$ORIGIN/deep",), ("-Wl,--disable-new-dtags,-rpath,/nowhere",)])
def test_a_staged_tree_verifies(
    tmp_path: Path, good: Recipe, compile_c: Compile, verify: Callable[..., Verification], flags: tuple[str, ...]
) -> None:
    far = compile_c("libfar.so", "int far(void) { return 0; }", "-shared", "-fPIC")
    plug = compile_c("libplug.so", "int far(void); int p(void) { return far(); }", "-shared", "-fPIC", str(far))
    program = compile_c("staged", SOURCE, str(far), "-lm", *flags)
    # Packed as a file: needs a library that nothing else does, found by its own RUNPATH, and glibc's unwinder.
    deep = compile_c("libdeep.so", "int deep(void) { return 0; }", "-shared", "-fPIC")
    source = "int deep(void); void pthread_exit(void *); void m(void) { pthread_exit(deep() ? (void *)0 : 0); }"
    module = compile_c("module.so", source, "-shared", "-fPIC", str(deep), "-Wl,-rpath,$ORIGIN")
    arguments = ["--program", program.name, "--as", "prog", "--search", str(plug.parent), "--extra", "libplug.so"]
    arguments += ["--file", module.name]
    outputs = ["--out", str(tmp_path / "stage"), "--klib-out", str(tmp_path / "klibs")]
    outputs += ["--warnings", str(tmp_path / "warnings"), "--large-out", str(tmp_path / "large")]
    script = str(SCRIPTS / "stage-tree.sh")
    subprocess.run(["sh", script, *arguments, *outputs], cwd=program.parent, check=True, stdout=subprocess.DEVNULL)

    files: dict[str, Content] = {"/workspace": None}
    for path in (tmp_path / "stage").rglob("*"):
        files[f"/{path.relative_to(tmp_path / 'stage')}"] = None if path.is_dir() else path
    result = verify(replace(good, files=files))
    assert result.ok, result.findings
    names = {path.rpartition("/")[2] for path in files}
    assert "unwinder-missing" not in {finding.code for finding in result.findings}
    assert {"module.so", "libdeep.so", "libgcc_s.so.1"} <= names
    assert {"libfar.so", "libplug.so", "libm.so.6", "libc.so.6", "ld-linux-x86-64.so.2"} <= names
