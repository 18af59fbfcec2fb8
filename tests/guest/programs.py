"""The conformance run's programs: each is built with this machine's own tools, and packed without an engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.guest.packing import Contents

HERE = Path(__file__).parent / "programs"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_STDLIB_WITHOUT = ("test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "site-packages", "__pycache__")


@dataclass(frozen=True, kw_only=True)
class Build:
    """A program to pack. `tools` must be found on PATH; `make` builds it in a folder."""

    name: str
    tools: tuple[str, ...]
    make: Callable[[Path], Contents]

    @property
    def missing(self) -> str | None:
        """The first tool that this machine lacks."""
        return next((tool for tool in self.tools if shutil.which(tool) is None), None)


class BuildError(Exception):
    """A compiler failed; its last lines."""


def _run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BuildError(f"{command[0]} failed: " + " / ".join(done.stderr.strip().splitlines()[-3:]))


def _cpp(*flags: str) -> Callable[[Path], Contents]:
    def make(folder: Path) -> Contents:
        program = folder / "cpp"
        _run("g++", "-O2", "-std=c++17", "-pthread", *flags, "-o", program, HERE / "cpp/main.cpp")
        return Contents(program=program, name="cpp")

    return make


def _go(cgo: bool) -> Callable[[Path], Contents]:
    def make(folder: Path) -> Contents:
        program = folder / "go"
        env = {"CGO_ENABLED": "1" if cgo else "0", "GOFLAGS": "-mod=mod", "GOCACHE": str(folder / "cache")}
        _run("go", "build", "-o", program, ".", cwd=HERE / "go", env=env)
        shutil.rmtree(folder / "cache", ignore_errors=True)
        return Contents(program=program, name="go")

    return make


def _rust(linker: str) -> Callable[[Path], Contents]:
    def make(folder: Path) -> Contents:
        shutil.copytree(HERE / "rust", folder / "source")
        env = {"RUSTFLAGS": f"-Clink-arg=-fuse-ld={linker}", "CARGO_TARGET_DIR": str(folder / "target")}
        _run("cargo", "build", "--release", cwd=folder / "source", env=env)
        program = folder / "rust"
        shutil.copy2(folder / "target/release/conformance", program)
        shutil.rmtree(folder / "target")
        return Contents(program=program, name="rust", environment={"RUST_BACKTRACE": "1"})

    return make


def _python(folder: Path) -> Contents:
    """The interpreter that runs this, with its standard library."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    at = f"/usr/lib/{stdlib.name}"
    files = {
        f"{at}/{path.relative_to(stdlib)}": path
        for path in stdlib.rglob("*")
        if path.is_file()
        and path.suffix in (".py", ".so")
        and not any(part in _STDLIB_WITHOUT or part.startswith("config-") for part in path.relative_to(stdlib).parts)
    }
    files["/main.py"] = HERE / "python/main.py"
    return Contents(
        program=_interpreter(),
        name="python3",
        arguments=("/main.py",),
        files=files,
        environment={"PYTHONHOME": "/usr", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
    )


def _interpreter() -> Path:
    folder, version = sysconfig.get_config_var("BINDIR"), sysconfig.get_config_var("VERSION")
    return Path(folder, f"python{version}").resolve()


def _node(folder: Path) -> Contents:
    program = Path(shutil.which("node") or "node").resolve()
    return Contents(program=program, name="node", arguments=("/main.js",), files={"/main.js": HERE / "node/main.js"})


def _workspace(folder: Path) -> Contents:
    program = folder / "large"
    _run("gcc", "-O2", "-o", program, HERE / "workspace/main.c")
    return Contents(program=program, name="large")


PROGRAMS = (
    Build(name="C++ threads and exceptions", tools=("g++",), make=_cpp()),
    Build(name="C++, linked statically", tools=("g++",), make=_cpp("-static")),
    Build(name="C++, linked by lld", tools=("g++", "ld.lld"), make=_cpp("-fuse-ld=lld")),
    Build(name="Go, CGO_ENABLED=0", tools=("go",), make=_go(False)),
    Build(name="Go with cgo", tools=("go", "gcc"), make=_go(True)),
    Build(name="Rust with rayon, GNU ld", tools=("cargo", "ld.bfd"), make=_rust("bfd")),
    Build(name="Rust with rayon, lld", tools=("cargo", "ld.lld"), make=_rust("lld")),
    Build(name="Python, standard library", tools=(), make=_python),
    Build(name="Node", tools=("node",), make=_node),
    Build(name="200 MB of /workspace", tools=("gcc",), make=_workspace),
)

PROVER_TOOLS = ("cargo", "gcc", "ld.bfd")


def make_provers(folder: Path) -> tuple[Contents, Contents]:
    """my-prover and my-verifier of examples/, with the stand-in shim."""
    target = folder / "target"
    env = {
        "CARGO_TARGET_DIR": str(target),
        "GEVULOT_LIB_DIR": str(target / "release"),
        "RUSTFLAGS": "-Clink-arg=-fuse-ld=bfd",  # lld's layout loses data there; a row of its own shows that
    }
    for workspace, crate in (("standin-gevulot", ("-p", "gevulot-shim-ffi")), ("groth16", ())):
        _run("cargo", "build", "--release", "--locked", *crate, cwd=EXAMPLES / workspace, env=env)
    _run(target / "release/demo-setup", folder / "params", env={"LD_LIBRARY_PATH": str(target / "release")})
    shim = {"/lib/x86_64-linux-gnu/libgevulot_shim_ffi.so": target / "release/libgevulot_shim_ffi.so"}
    prover, verifier = (
        Contents(
            program=target / f"release/my-{role}",
            name=f"my-{role}",
            files={**shim, f"/params/{key}.key": folder / f"params/{key}.key"},
            environment={"RUST_BACKTRACE": "1"},
        )
        for role, key in (("prover", "proving"), ("verifier", "verifying"))
    )
    return prover, verifier
