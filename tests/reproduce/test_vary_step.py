"""The script under which a rebuild runs the user's step, run here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import ROOT

SCRIPT = ROOT / "containerfiles/scripts/vary-step.sh"
SHELLS = (("dash",), ("busybox", "sh"))


def vary(folder: Path, factors: str, run: str, *, shell: tuple[str, ...] = ("dash",), **environment: str) -> str:
    """What a step said and the script; the step runs in `folder`/build."""
    work = folder / "build"
    work.mkdir(exist_ok=True)
    command = [
        *shell,
        str(SCRIPT),
        "--number",
        "1",
        "--directory",
        str(work),
        *factors.split(),
        "--",
        "sh",
        "-euc",
        run,
    ]
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment}
    done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, check=False)
    return f"{done.stdout}exit {done.returncode}\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_each_factor_reaches_the_step_and_is_told(tmp_path: Path, shell: tuple[str, ...]) -> None:
    run = 'nproc; umask; echo "${LANG-}"; echo "${TZ-}"; pwd -P'
    assert vary(tmp_path, "", run, shell=shell) == f"{os.cpu_count()}\n0022\n\n\n{tmp_path}/build\nexit 0\n"
    said = vary(tmp_path, "umask cores locale path", run, shell=shell).splitlines()
    told = dict(line.removeprefix("varied: ").split(" (", 1) for line in said if line.startswith("varied: "))
    assert set(told) == {"locale", "umask", "cores", "path"}
    assert [line for line in said if not line.startswith("varied: ")] == [
        "1", "0027", told["locale"].split("=")[1].split(",")[0], "ELSEWHERE-13:45", f"{tmp_path}/build.again", "exit 0",
    ]  # fmt: skip


def test_a_zone_that_is_set_stays_and_a_locale_is_another_one(tmp_path: Path) -> None:
    said = vary(tmp_path, "locale", 'echo "$LANG $TZ"', LANG="C.UTF-8", TZ="UTC")
    assert "C.UTF-8 UTC" not in said
    assert " UTC" in said


def test_the_steps_status_is_kept_and_its_directory_comes_back(tmp_path: Path) -> None:
    work = tmp_path / "build"
    assert "exit 7" in vary(tmp_path, "path", f"test -L {work}; touch {work}/made; exit 7")
    assert (work / "made").is_file()
    assert not work.is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


def test_compilers_write_the_first_directory(tmp_path: Path) -> None:
    """As far as make and cargo pass it on: debugging information and panics name it."""
    work = tmp_path / "build"
    (work / "src").mkdir(parents=True)
    (work / "src/main.rs").write_text("fn main() { let n = std::env::args().count(); assert!(n > 1); }\n")
    (work / "Cargo.toml").write_text(
        '[package]\nname = "by-cargo"\nversion = "1.0.0"\nedition = "2021"\n[profile.dev]\nincremental = false\n'
    )
    (work / "by-make.c").write_text("int main(void) { return 0; }\n")
    run = (
        "rm -rf target by-make; make -s CFLAGS=-g by-make; "
        "cargo build --quiet --offline; cp target/debug/by-cargo . ; sha256sum by-make by-cargo"
    )
    path = f"{os.environ['HOME']}/.cargo/bin:{os.environ['PATH']}"
    plain, elsewhere = vary(tmp_path, "", run, PATH=path), vary(tmp_path, "path", run, PATH=path)
    assert "exit 0" in plain
    assert plain == "\n".join(line for line in elsewhere.splitlines() if not line.startswith("varied: ")) + "\n"
