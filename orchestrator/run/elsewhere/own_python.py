"""This process's own Python, with what a rehearsal imports, as files that run in an otherwise empty container.

All but the packages keep their paths, so that the interpreter finds its library and the loader its libraries as here.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from orchestrator import process
from orchestrator.documents import Document, Many, parse_document
from orchestrator.elf.facts import ElfError, read_elf
from orchestrator.errors import EngineError
from orchestrator.run.elsewhere.errand import PACKAGES
from orchestrator.run.elsewhere.sent_files import Member, below

# What a rehearsal imports, and which files of the system that loads, is asked of a process that imports it.
_ASK: Final = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import orchestrator.run.elsewhere.agent
files = {name: file for name, module in sys.modules.items() if (file := getattr(module, "__file__", None))}
inner = {name for name in files if any(name.startswith(f"{other}.") for other in files)}
print(json.dumps({
    "files": {name: files[name] for name in sorted(files.keys() - inner)},
    "mapped": sorted({line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if ".so" in line}),
}))
"""
_LEFT_OUT: Final = {
    "site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip",
    "pydoc_data", "distutils", "unittest", "lib-dynload",
}  # fmt: skip
"""Directories of the standard library and of packages that no rehearsal needs; lib-dynload comes by itself."""
_UNUSED: Final = re.compile(r"config-3.*|.*\.opt-[12]\.pyc")
"""As well: what programs are linked with that embed Python, and modules compiled for options that are not used."""
_TIMEOUT: Final = 60.0


class _Loaded(Document):
    """What `_ASK` answers: the file of each package or module by its dotted name, and the shared libraries."""

    files: dict[str, str]
    mapped: Many[str]


class OwnPython(NamedTuple):
    """The interpreter's path, the directories of the libraries that it loads, and all files."""

    executable: str
    libraries: tuple[str, ...]
    members: tuple[Member, ...]


def own_python() -> OwnPython:
    """EngineError where this is no Python that could run in a container of Linux."""
    # In a virtual environment the interpreter is a link to it, whatever its name.
    executable = os.path.realpath(sys.executable)
    try:
        with Path(executable).open("rb") as file:
            interpreter = read_elf(file).interpreter
    except (OSError, ElfError) as error:
        raise _no_python() from error
    if interpreter is None or not sys.platform.startswith("linux"):
        raise _no_python()
    asked = process.run([executable, "-I", "-c", _ASK, json.dumps(sys.path)], timeout=_TIMEOUT)
    if asked.status:
        raise EngineError("this machine's Python cannot be sent to the engine", detail=asked.tail())
    loaded = parse_document(_Loaded, asked.stdout)
    standard = [Path(path) for path in sys.path if _is_standard(Path(path))]
    libraries = [Path(path) for path in loaded.mapped if not _is_below(path, [*standard, *map(Path, sys.path)])]
    # Of a package's libraries those that were loaded: some have one for each of several ways.
    members: list[Member] = [
        (f"{PACKAGES}/{name}", path)
        for name, path in _packages(loaded.files, standard)
        if not name.endswith(".so") or str(path) in loaded.mapped
    ]
    for path in standard:
        members += below(path, str(path), _is_unused)
    members.append((executable, Path(executable)))
    members += _libraries(libraries, interpreter)
    folders = tuple(dict.fromkeys(str(path.parent) for path in libraries))
    return OwnPython(executable, folders, tuple(_with_root(members)))


def _no_python() -> EngineError:
    return EngineError(
        "the rehearsal could not begin: the engine does not see this machine's files, and this machine's Python,"
        " which would be sent there, is none of Linux",
        remedy="run the orchestrator on the engine's machine",
    )


def _is_standard(path: Path) -> bool:
    if not path.is_dir() or not path.is_relative_to(sys.base_prefix):
        return False
    return (path / "os.py").is_file() or path.name == "lib-dynload"


def _is_below(path: str, folders: list[Path]) -> bool:
    return any(folder.is_absolute() and Path(path).is_relative_to(folder) for folder in folders)


def _packages(files: dict[str, str], standard: list[Path]) -> Iterator[Member]:
    """Packages and modules that are in no other, and not the standard library's, by their dotted names."""
    for name, file in files.items():
        path, inside = Path(file), name.replace(".", "/")
        if name == "__main__" or _is_below(file, standard):
            continue
        if path.name.startswith("__init__."):
            yield from below(path.parent, inside, _is_unused)
        else:
            yield str(PurePosixPath(inside).parent / path.name), path


def _is_unused(name: str) -> bool:
    return name in _LEFT_OUT or _UNUSED.fullmatch(name) is not None


def _libraries(paths: list[Path], interpreter: str) -> Iterator[Member]:
    """Shared libraries with the names that others know them by, and the loader at the interpreter's path."""
    for path in paths:
        yield str(path), path
        with os.scandir(path.parent) as entries:
            links = [
                entry.name for entry in entries if entry.is_symlink() and os.path.realpath(entry.path) == str(path)
            ]
        yield from ((f"{path.parent}/{name}", path.name) for name in links)
    loader = os.path.realpath(interpreter)
    at = f"{os.path.realpath(Path(interpreter).parent)}/{Path(interpreter).name}"
    if at != loader:
        yield at, loader


def _with_root(members: list[Member]) -> Iterator[Member]:
    """With the links that lead to /usr at the root, as on this machine."""
    for name in ("lib", "lib64", "bin"):
        if (path := Path("/", name)).is_symlink():
            yield name, path
    yield from dict(members).items()
    yield "tmp/.keep", b""
