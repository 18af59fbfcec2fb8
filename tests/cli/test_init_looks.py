"""`init` where there is a program already: what it says that it saw, and a project.yaml that `check` takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.project.load import load_project
from tests.cli.conftest import cli, unchanged

CRATE = '[package]\nname = "{name}"\nversion = "0.1.0"\n'
MAIN = "fn main() {}\n"
LOCK = 'version = 3\n[[package]]\nname = "openssl-sys"\nversion = "1.0.0"\n'
GO_MAIN = "package main\n\nfunc main() {}\n"
CMAKE = (
    "project(demo CXX)\nfind_package(Boost REQUIRED)\nadd_executable(${PROJECT_NAME} main.cpp) # add_executable(no)\n"
)
CMAKE_LIBRARIES = """\
set(CMAKE_C_COMPILER "musl-gcc")
project(one C)
find_package(Boost 1.70 REQUIRED COMPONENTS filesystem)
find_library(GMP "gmp") # find_library(X ssl)
pkg_check_modules(SODIUM REQUIRED libsodium)
add_executable(one main.c)
target_link_libraries(one PRIVATE ${GMP} -lntl m pthread Boost::filesystem)
"""
COPYING = """\
FROM debian AS build
WORKDIR /src
COPY . .
FROM debian
WORKDIR /data
COPY --chown=1:1 seed.txt .
COPY ["more/*.key", "./"]
ADD tables sub
ADD https://example.org/x.key /data/
COPY --from=build /src/prover /usr/local/bin/
COPY --from=build /src/keys \\
     /keys
COPY $WHAT /elsewhere/
COPY <<END /data/text
COPY a /b
END
ENTRYPOINT ["prover", "--keys", "/keys"]
CMD ["seed.txt", "other"]
"""
CGO = "package main\n\nfunc main() {}\n"

SEEN: dict[str, tuple[Mapping[str, str], str, list[str], dict[str, Any]]] = {
    "a crate": (
        {"p/Cargo.toml": CRATE.format(name="prove"), "p/src/main.rs": MAIN, "p/Cargo.lock": LOCK},
        "p",
        ["saw Cargo.toml: the program prove"],
        {
            "run": "cargo build --release --locked\n",
            "program": "target/release/prove",
            "packages": ["libssl-dev", "pkg-config"],
        },
    ),
    "a path dependency outside": (
        {
            "p/Cargo.toml": CRATE.format(name="prove") + '[dependencies]\nshared = {path = "../shared"}\n',
            "p/src/main.rs": MAIN,
            "shared/Cargo.toml": CRATE.format(name="shared") + '[dependencies]\nfar = {path = "../far"}\n',
            "far/Cargo.toml": CRATE.format(name="far"),
        },
        "p",
        [
            "saw Cargo.toml: the path dependency ../far",
            "saw Cargo.toml: the path dependency ../shared",
            "so build.context is .., which holds all of that",
        ],
        {"context": "..", "run": "cd p\ncargo build --release\n", "program": "p/target/release/prove"},
    ),
    "a member of a workspace": (
        {
            "Cargo.toml": '[workspace]\nmembers = ["crates/*"]\n',
            "Cargo.lock": "version = 3\n",
            "crates/prove/Cargo.toml": CRATE.format(name="prove"),
            "crates/prove/src/main.rs": MAIN,
        },
        "crates/prove",
        ["saw ../../Cargo.toml: its workspace, so cargo builds in the target/ there"],
        {
            "context": "../..",
            "run": "cd crates/prove\ncargo build --release --locked --bin prove\n",
            "program": "target/release/prove",
        },
    ),
    "a workspace with a musl target": (
        {
            "p/Cargo.toml": '[workspace]\nmembers = ["a", "b"]\n',
            "p/a/Cargo.toml": CRATE.format(name="liba"),
            "p/b/Cargo.toml": CRATE.format(name="b") + '[[bin]]\nname = "one"\n[[bin]]\nname = "two"\n',
            "p/.cargo/config.toml": '[build]\ntarget = "x86_64-unknown-linux-musl"\n',
        },
        "p",
        [
            "saw Cargo.toml: the program one, in b",
            "saw Cargo.toml: other programs are two; name one as build.program and --bin",
        ],
        {
            "run": "if command -v rustup >/dev/null; then rustup target add x86_64-unknown-linux-musl; fi\n"
            "cargo build --release --bin one\n",
            "program": "target/x86_64-unknown-linux-musl/release/one",
            "packages": ["musl-tools"],
        },
    ),
    "a Go module": (
        {
            "p/go.mod": "module example.org/x\n\ngo 1.22\n\nreplace example.org/lib => ../lib\n",
            "p/cmd/prove/main.go": GO_MAIN,
            "p/main_test.go": GO_MAIN,
            "lib/lib.go": "package lib\n",
        },
        "p",
        [
            "saw go.mod: the module example.org/x, its program prove in ./cmd/prove",
            "saw go.mod: ../lib, which `replace` names",
        ],
        {"context": "..", "run": "cd p\ngo build -o /build/bin-prove ./cmd/prove\n", "program": "bin-prove"},
    ),
    "Go with cgo": (
        {
            "p/go.mod": "module example.org/x\n\ngo 1.19\n",
            "p/main.go": f'{CGO}// #cgo linux LDFLAGS: -L/opt -lgmp -lm\nimport "C"\n',
            "p/own/own.go": 'package own\n\n// #cgo pkg-config: libsodium\nimport "C"\n',
            "p/own/other.go": "package own\n\n// #cgo LDFLAGS: -lntl\n",  # not cgo: it imports no C
        },
        "p",
        ["saw cgo: libgmp-dev, libsodium-dev, pkg-config, for build.packages"],
        {"packages": ["libgmp-dev", "libsodium-dev", "pkg-config"], "program": "bin-x"},
    ),
    "CMake": (
        {"p/CMakeLists.txt": CMAKE, "p/main.cpp": "int main() {}\n"},
        "p",
        ["saw CMakeLists.txt: the program demo", "saw CMakeLists.txt: libboost-dev, for build.packages"],
        {"program": "cmake-build/demo", "packages": ["cmake", "g++", "make", "libboost-dev"]},
    ),
    "CMake's libraries by name": (
        {"p/CMakeLists.txt": CMAKE_LIBRARIES, "p/main.c": "int main() {}\n"},
        "p",
        ["saw CMakeLists.txt: the program one"],
        {
            "packages": [
                "cmake",
                "g++",
                "make",
                "libboost-dev",
                "libboost-filesystem-dev",
                "libgmp-dev",
                "libntl-dev",
                "libsodium-dev",
                "musl-tools",
                "pkg-config",
            ],
        },
    ),
    "a Dockerfile": (
        {"p/Dockerfile": "FROM debian AS build\nFROM scratch AS prover\n", "p/package.json": "{}"},
        "p",
        ["saw Dockerfile: ENTRYPOINT and CMD of what it builds name the program; its stages are build, prover"],
        {"containerfile": "Dockerfile"},
    ),
    "Node": (
        {"p/package.json": json.dumps({"main": "src/prove.js"}), "p/package-lock.json": "{}", "p/src/prove.js": "1\n"},
        "p",
        ["saw package.json: the script src/prove.js, started by node"],
        {"program": "src/prove.js", "language": "node"},
    ),
    "Python": (
        {"p/pyproject.toml": '[project]\nname = "my-prover"\n', "p/src/my_prover/__main__.py": "1\n"},
        "p",
        ["saw pyproject.toml: the module my_prover, started by python3"],
        {"program": "src/my_prover", "language": "python"},
    ),
}


@pytest.mark.parametrize("name", SEEN)
def test_the_project_that_fits_is_written(name: str, here: Path) -> None:
    files, directory, lines, build = SEEN[name]
    for path, text in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    made = cli("init", directory)
    assert made.code == 0, made.err
    said = [line for line in made.err.splitlines() if line.startswith(("saw ", "so "))]
    assert set(lines) <= set(said)
    checked = cli("check", directory)
    assert checked.code == 0, checked.err
    text = Path(directory, "project.yaml").read_text()
    written = yaml.safe_load(text)["build"]
    assert {key: written[key] for key in build} == build
    assert f"# - {lines[0].removeprefix('saw ')}" in text
    assert str(here) not in text
    # No sample is put beside what is there.
    new = {path.name for path in here.rglob("*") if path.is_file()} - {Path(path).name for path in files}
    assert new <= {"project.yaml", ".project.schema.json", ".dockerignore"}


@pytest.mark.parametrize(
    ("asked", "release", "advice"),
    [
        ("1.19", "bookworm", ""),
        ("1.22.5", "trixie", ""),
        ("1.99", "trixie", "a base made from Debian packages has 1.24"),
    ],
)
def test_the_base_has_the_go_that_the_module_asks_for(asked: str, release: str, advice: str, here: Path) -> None:
    Path("go.mod").write_text(f"module x\n\ngo {asked}\n")
    Path("main.go").write_text(GO_MAIN)
    assert cli("init").code == 0
    base = load_project(Path("project.yaml")).project.base
    assert base is not None
    assert base.bootstrap is not None
    assert (base.image, base.bootstrap.debian) == (f"docker.io/library/golang:{release}", release)
    assert advice in Path("project.yaml").read_text()


def test_what_the_last_stage_of_a_dockerfile_copies_is_packed(here: Path) -> None:
    for path in ("seed.txt", "tables/a.bin", "more/b.key", "more/c.key"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
    Path("Dockerfile").write_text(COPYING)
    made = cli("init")
    files = ["/data/b.key", "/data/c.key", "/data/seed.txt", "/data/sub", "/keys"]
    assert f"saw Dockerfile: its last stage brings {', '.join(files)}, for stage.files" in made.err
    project = load_project(Path("project.yaml")).project
    assert list(project.stage.files) == files
    # A dynamic program starts in / whatever WORKDIR says: what it finds there, it is given by its whole path.
    assert "seed.txt other in WORKDIR /data, where Nanos starts no dynamic program" in made.err
    assert project.manifest == {"Args": ["--keys", "/keys", "/data/seed.txt", "other"]}
    assert cli("check", ".").code == 0


def test_a_program_that_was_built_already(here: Path) -> None:
    shutil.copy("/bin/true", "prove")
    made = cli("init")
    assert "saw prove: a program that is built already; its libraries are from docker.io/library/debian" in made.err
    build = load_project(Path("project.yaml")).project.build
    assert (build.program, build.run) == ("prove", "")
    assert cli("check", ".").code == 0


def test_the_shim_only_where_something_speaks_of_it(here: Path) -> None:
    for name, dependency in (("plain", ""), ("shimmed", '[dependencies]\ngevulot-shim = "1"\n')):
        Path(name, "src").mkdir(parents=True)
        Path(name, "Cargo.toml").write_text(CRATE.format(name=name) + dependency)
        Path(name, "src/main.rs").write_text(MAIN)
        made = cli("init", name)
        project = load_project(Path(name, "project.yaml")).project
        assert (project.gevulot is not None) == bool(dependency)
        assert ("saw nothing of the Gevulot shim" in made.err) != bool(dependency)


@pytest.mark.parametrize(
    "files",
    [
        {"Cargo.toml": CRATE.format(name="a\\nb: c"), "src/main.rs": MAIN},
        {"package.json": '{"main": "a\\nb.js"}', "a\nb.js": "1\n"},
        {"Cargo.toml": "[package\n"},
        {"package.json": "[" * 5000},
        {"pyproject.toml": "[project]\nname = 7\n"},
    ],
    ids=["a name with a line break", "a script with one", "broken TOML", "deep JSON", "no script"],
)
def test_what_makes_no_sense_is_not_believed(files: Mapping[str, str], here: Path) -> None:
    for path, text in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    made = cli("init")
    if made.code == 0:
        assert cli("check", ".").code == 0
    else:
        assert "already exists; nothing was written" in made.err


def test_nothing_is_replaced_here_either(here: Path) -> None:
    Path("go.mod").write_text("module x\n")
    Path("main.go").write_text(GO_MAIN)
    Path("project.yaml").write_text("mine")
    with unchanged(here):
        assert cli("init").code == 2
