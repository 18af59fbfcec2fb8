"""Real programs, compiled by the machine's gcc, staged by the real script in both shells that containers have."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.resources import SCRIPTS

SHELLS = {"dash": ("dash",), "busybox": ("busybox", "sh")}
# What the script may use; with busybox, as on Alpine, these are busybox's own, and readelf alone is added.
TOOLS = (
    "awk", "basename", "cat", "chmod", "cmp", "cp", "cut", "dirname", "find", "grep", "head", "ln", "ls", "mkdir",
    "mktemp", "mv", "od", "readlink", "rm", "sed", "sort", "tr", "wc",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What one run of the script left and said."""

    status: int
    stdout: str
    stderr: str
    root: Path
    klibs: Path
    warnings: tuple[str, ...]

    def paths(self) -> set[str]:
        """Every file and link in the tree, as guest paths."""
        return {
            f"/{path.relative_to(self.root)}" for path in self.root.rglob("*") if path.is_symlink() or path.is_file()
        }


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """A build container's work directory, on the host."""

    build: Path
    shell: tuple[str, ...]
    path: str

    def compile(self, name: str, source: str, *flags: str, compiler: str = "gcc") -> Path:
        """Compile C text to `name` below the work directory."""
        target = self.build / name
        target.parent.mkdir(parents=True, exist_ok=True)
        file = self.build.parent / "source.c"
        file.write_text(source)
        subprocess.run([compiler, "-o", str(target), str(file), *flags], check=True, cwd=self.build)
        return target

    def library(self, name: str, *flags: str, soname: str = "", calls: str = "") -> Path:
        """A shared library that defines a function named after its stem, and calls another one's."""
        own = Path(name).name.split(".")[0].removeprefix("lib")
        source = (
            f"int {calls}(void); int {own}(void) {{ return {calls}(); }}"
            if calls
            else f"int {own}(void) {{ return 0; }}"
        )
        names = (f"-Wl,-soname,{soname}",) if soname else ()
        return self.compile(name, source, "-shared", "-fPIC", *names, *flags)

    def program(self, name: str, *flags: str, calls: str, compiler: str = "gcc") -> Path:
        """A program that calls one function of a library."""
        source = f"int {calls}(void); int main(void) {{ return {calls}(); }}"
        return self.compile(name, source, *flags, compiler=compiler)

    def stage(self, *arguments: str, program: str = "prog", name: str = "prog") -> Staged:
        """Run the script as the Containerfile does, into directories of the test."""
        out, klibs = self.build.parent / "stage", self.build.parent / "klibs"
        environment = {"PATH": self.path, "HOME": str(self.build)}
        shell = [shutil.which(self.shell[0]) or self.shell[0], *self.shell[1:]]
        kept = self.build.parent / "sbom/warnings"
        outputs = [
            "--out",
            str(out),
            "--klib-out",
            str(klibs),
            "--warnings",
            str(kept),
            "--large-out",
            str(kept.with_name("large")),
        ]
        options = ["--program", program, "--as", name, *arguments, *outputs]
        done = subprocess.run(
            [*shell, str(SCRIPTS / "stage-tree.sh"), *options],
            cwd=self.build,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return Staged(
            status=done.returncode,
            stdout=done.stdout,
            stderr=done.stderr,
            root=out,
            klibs=klibs,
            warnings=tuple(kept.read_text().splitlines()) if kept.exists() else (),
        )


@pytest.fixture(params=sorted(SHELLS))
def workshop(tmp_path: Path, request: pytest.FixtureRequest) -> Workshop:
    """An empty work directory, and one of the shells."""
    build = tmp_path / "build dir"  # a space, on purpose
    build.mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in (*TOOLS, "readelf"):
        program = shutil.which("busybox" if request.param == "busybox" and name != "readelf" else name)
        assert program is not None
        (tools / name).symlink_to(program)
    return Workshop(build=build, shell=SHELLS[request.param], path=str(tools))


Write = Callable[[str, str], Path]


@pytest.fixture
def write(workshop: Workshop) -> Write:
    """Write text below the work directory."""

    def inner(name: str, text: str) -> Path:
        path = workshop.build / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return inner
