"""What other files say of the program: go.mod, CMakeLists.txt, package.json, pyproject.toml, a Dockerfile, a binary."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from orchestrator.debian_packages import link_packages, module_packages, packages_of
from orchestrator.scaffold.sight import (
    DEBIAN,
    Sight,
    common_context,
    inside,
    read_json,
    read_text,
    read_toml,
    relative_context,
    table,
)

DEBIAN_GO = {"bookworm": (1, 19), "trixie": (1, 24)}
"""The Go of Debian's releases, the oldest first."""
_MOST_SOURCES = 1000
"""Source files that are looked into."""
_CMAKE_NEEDS = {
    "openssl": ("libssl-dev",), "gmp": ("libgmp-dev",), "zlib": ("zlib1g-dev",),
    "eigen3": ("libeigen3-dev",), "tbb": ("libtbb-dev",), "protobuf": ("libprotobuf-dev", "protobuf-compiler"),
    "curl": ("libcurl4-openssl-dev",), "nlohmann_json": ("nlohmann-json3-dev",), "sodium": ("libsodium-dev",),
    "fmt": ("libfmt-dev",), "pkgconfig": ("pkg-config",), "ntl": ("libntl-dev",),
}  # fmt: skip


def see_go(directory: Path) -> Sight | None:
    """The program of a go.mod: the directory's own package, or one of cmd/."""
    text = read_text(directory / "go.mod")
    module = re.search(r"^module\s+(\S+)", text, re.MULTILINE)
    if module is None:
        return None
    places = [path for path in (directory, *sorted(directory.glob("cmd/*"))) if _is_main(path)]
    if not places:
        return None
    place = next((path for path in places if path.name == directory.name), places[0])
    replaced = re.findall(r"=>\s*(\.{1,2}/\S*)", text)
    outside = [path for entry in replaced if not (path := (directory / entry).resolve()).is_relative_to(directory)]
    top, below = common_context(directory, outside)
    name = (module[1].rstrip("/").rpartition("/")[2] if place == directory else place.name) or "program"
    package = "." if place == directory else f"./{place.relative_to(directory).as_posix()}"
    made = f"/build/bin-{name}"
    version = (re.findall(r"^go\s+([0-9.]+)", text, re.MULTILINE) or ["0"])[0]
    asked = tuple(map(int, re.findall(r"[0-9]+", version)[:2]))
    release = next((name for name, its in DEBIAN_GO.items() if asked <= its), list(DEBIAN_GO)[-1])
    newest = ".".join(map(str, DEBIAN_GO[release]))
    packages = _cgo_packages(directory)
    saw = [f"go.mod: the module {module[1]}, its program {name} in {package}"]
    others = [path.name for path in places if path != place]
    saw += [f"go.mod: other programs are {', '.join(others[:5])}"] if others else []
    saw += [f"go.mod: {os.path.relpath(path, directory)}, which `replace` names" for path in outside]
    saw += [f"so build.context is {os.path.relpath(top, directory)}, which holds all of that"] if outside else []
    saw += [f"cgo: {', '.join(packages)}, for build.packages"] if packages else []
    return Sight(
        saw=tuple(saw),
        context=relative_context(top, directory),
        image=f"docker.io/library/golang:{release}",
        release=release,
        bootstrap=("golang", "gcc", "libc6-dev", "ca-certificates"),
        packages=packages,
        run=(*((f"cd {shlex.quote(below)}",) if below else ()), shlex.join(["go", "build", "-o", made, package])),
        program=f"bin-{name}",
        advice=(f"go.mod asks for Go {version}; a base made from Debian packages has {newest}",)
        if asked > DEBIAN_GO[release]
        else (),
    )  # fmt: skip


def _cgo_packages(directory: Path) -> tuple[str, ...]:
    """What the `#cgo` lines of a module's sources link with, as Debian packages."""
    packages: set[str] = set()
    for source in islice(directory.rglob("*.go"), _MOST_SOURCES):
        text = read_text(source)
        if 'import "C"' in text:
            for words in re.findall(r"#cgo\b[^\n:]*\bLDFLAGS:(.*)", text):
                packages |= link_packages(words.split())
            for words in re.findall(r"#cgo\b[^\n:]*\bpkg-config:(.*)", text):
                packages |= module_packages(words.split())
    return tuple(sorted(packages))


def _is_main(path: Path) -> bool:
    sources = (source for source in path.glob("*.go") if not source.name.endswith("_test.go"))
    return any(re.search(r"^package main\b", read_text(source), re.MULTILINE) for source in sources)


def see_cmake(directory: Path) -> Sight | None:
    """The first executable of a CMakeLists.txt, its own or one of a directory that it adds."""
    programs = list(_executables(directory, directory))
    if not programs:
        return None
    at, program = next((pair for pair in programs if pair[1] == directory.name), programs[0])
    text = "\n".join(read_text(path) for path in (directory / "CMakeLists.txt", directory / at / "CMakeLists.txt"))
    text = re.sub(r"#.*", "", text)
    asked = {name.lower() for name in re.findall(r"find_package\s*\(\s*(\w+)", text)}
    cuda = re.search(r"(enable_language|LANGUAGES[^)]*)\W+CUDA|project\([^)]*\bCUDA\b", text) is not None
    others = [name for _, name in programs if name != program]
    saw = [f"CMakeLists.txt: the program {program}" + (f", in {at}" if at != "." else "")]
    saw += [f"CMakeLists.txt: other programs are {', '.join(others[:5])}"] if others else []
    saw += ["CMakeLists.txt: CUDA", "so this is a GPU project"] if cuda else []
    needed = sorted(
        _linked(text) | _parts_of_boost(text) | {package for name in asked for package in _CMAKE_NEEDS.get(name, ())}
    )
    saw += [f"CMakeLists.txt: {', '.join(needed)}, for build.packages"] if needed else []
    made = re.search(r"RUNTIME_OUTPUT_DIRECTORY\s+\"?\$\{(?:CMAKE_BINARY_DIR|PROJECT_BINARY_DIR)\}/([\w/.-]+)", text)
    folder = made[1] if made else at
    return Sight(
        saw=tuple(saw),
        packages=(*(() if cuda else ("cmake", "g++", "make")), *needed),
        run=(
            "cmake -S . -B cmake-build -DCMAKE_BUILD_TYPE=Release",
            f"cmake --build cmake-build --target {program} -j",
        ),
        program=inside("cmake-build" if folder == "." else f"cmake-build/{folder}", program),
        cuda=cuda,
        shim="gevulot" in text.lower(),
    )


def _linked(text: str) -> set[str]:
    """The packages of what a CMakeLists.txt links with by name, of its pkg-config modules, and of its compiler."""
    packages: set[str] = set()
    for words in re.findall(r"\b(?:target_link_libraries|link_libraries|find_library)\s*\(([^)]*)\)", text):
        packages |= link_packages(words.replace('"', " ").split())
    for words in re.findall(r"\bpkg_(?:check_modules|search_module)\s*\(\s*\w+([^)]*)\)", text):
        packages |= module_packages(words.replace('"', " ").split())
    for compiler in re.findall(r"\bCMAKE_C(?:XX)?_COMPILER\s+\"?([\w.+-]+)", text):
        packages |= set(packages_of("tool", compiler)) - {"libc6-dev"}
    return packages


def _parts_of_boost(text: str) -> set[str]:
    """The packages of Boost: of the components that are asked for, the headers alone where none is."""
    packages: set[str] = set()
    for words in re.findall(r"\bfind_package\s*\(\s*Boost\b([^)]*)\)", text):
        parts = [word for word in words.split() if re.fullmatch(r"[a-z_]+[0-9]*", word)]
        packages |= {"libboost-dev"}
        for part in parts:
            packages |= set(packages_of("library", f"-lboost_{part}")) or {"libboost-all-dev"}
    return packages


def _executables(top: Path, directory: Path, depth: int = 0) -> Iterator[tuple[str, str]]:
    text = re.sub(r"#.*", "", read_text(directory / "CMakeLists.txt"))
    project = re.search(r"project\s*\(\s*(\w+)", text)
    for name in re.findall(r"add_executable\s*\(\s*([\w.${}-]+)", text):
        yield os.path.relpath(directory, top), name.replace("${PROJECT_NAME}", project[1] if project else name)
    for below in re.findall(r"add_subdirectory\s*\(\s*([\w./-]+)", text) if depth < 3 else ():
        if ".." not in below:
            yield from _executables(top, directory / below, depth + 1)


def see_node(directory: Path) -> Sight | None:
    """The script of a package.json."""
    document = read_json(directory / "package.json")
    if not document:
        return None
    bins = document.get("bin")
    wished = [document.get("main"), *(bins.values() if isinstance(bins, dict) else [bins]), "index.js", "main.js"]
    start = re.search(r"node\s+(\S+\.[cm]?js)", str(table(document, "scripts").get("start", "")))
    wished.insert(0, start[1] if start else None)
    script = next((name for name in wished if isinstance(name, str) and (directory / name).is_file()), None)
    if script is None:
        return None
    locked = any((directory / name).is_file() for name in ("package-lock.json", "npm-shrinkwrap.json"))
    other = next((name for name in ("yarn.lock", "pnpm-lock.yaml", "bun.lockb") if (directory / name).is_file()), "")
    needs = bool(table(document, "dependencies"))
    advice = []
    if other and not locked:
        advice.append(f"{other} is of another package manager: install by build.run, or make a package-lock.json")
    elif needs and not locked:
        advice.append("there is no package-lock.json, which pins the packages: `npm install --package-lock-only`")
    return Sight(
        saw=(f"package.json: the script {os.path.normpath(script)}, started by node",),
        image=None,
        program=os.path.normpath(script),
        language="node",
        advice=tuple(advice),
    )


def see_python(directory: Path) -> Sight | None:
    """The module, script or installed command of a Python project."""
    project, requirements = directory / "pyproject.toml", directory / "requirements.txt"
    if not project.is_file() and not requirements.is_file():
        return None
    about = table(read_toml(project), "project")
    name = str(about.get("name", "")).replace("-", "_")
    scripts = [path.name for path in (directory / "main.py", directory / "__main__.py") if path.is_file()]
    scripts += sorted(path.name for path in directory.glob("*.py") if path.name not in ("setup.py", *scripts))
    modules = (directory / "src" / name, directory / name) if name else ()
    packaged = next((path for path in modules if (path / "__main__.py").is_file()), None)
    commands = list(table(about, "scripts"))
    if packaged is not None:
        program, what = packaged.relative_to(directory).as_posix(), f"the module {name}"
    elif commands:
        program, what = f"/usr/local/bin/{commands[0]}", f"the command {commands[0]}, which pip installs"
    elif scripts:
        program, what = scripts[0], f"the script {scripts[0]}"
    else:
        return None
    locks = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock")
    lock = next((lock for lock in locks if (directory / lock).is_file()), "")
    advice = []
    if lock and not requirements.is_file():
        advice.append(f"pip does not read {lock}: export it as requirements.txt with hashes, which pins the packages")
    elif requirements.is_file() and "--hash=" not in read_text(requirements):
        advice.append("requirements.txt has no hashes: `pip-compile --generate-hashes` pins what pip downloads")
    return Sight(
        saw=(f"{project.name if project.is_file() else requirements.name}: {what}, started by python3",),
        image=None,
        program=program,
        language="python",
        advice=tuple(advice),
    )


def see_binary(directory: Path) -> Sight | None:
    """A program that was built elsewhere: a Linux executable for x86-64."""
    programs = [path for path in sorted(directory.iterdir()) if _is_program(path)]
    programs += [path for path in sorted(directory.glob("bin/*")) if _is_program(path)]
    if not programs:
        return None
    program = next((path for path in programs if path.name == directory.name), programs[0])
    others = [path.name for path in programs if path != program]
    more = f"; other programs are {', '.join(others[:5])}" if others else ""
    at = program.relative_to(directory).as_posix()
    return Sight(saw=(f"{at}: a program that is built already; its libraries are from {DEBIAN}{more}",), program=at)


def _is_program(path: Path) -> bool:
    if path.suffix == ".so" or ".so." in path.name or not path.is_file() or not os.access(path, os.X_OK):
        return False
    with path.open("rb") as stream:
        head = stream.read(20)
    return head[:6] == b"\x7fELF\x02\x01" and head[16] in (2, 3) and head[18:20] == b"\x3e\x00"
