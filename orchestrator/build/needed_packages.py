"""What a failed build step lacked, read from its last lines, as Debian packages for `build.packages`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.debian_packages import PackagesOf, packages_of

LAST_LINES = 40
"""What was missing earlier than that, the step went on without."""


@dataclass(frozen=True, kw_only=True)
class Lack:
    """Something that a step looked for in vain. `name`: as the step wrote it. `packages`: what brings it."""

    name: str
    packages: tuple[str, ...]


_Q = r"[`'\"\u2018\u2019]?"
_TOOL = rf"{_Q}(?:[\w./-]*/)?(?P<name>[A-Za-z][\w.+-]*){_Q}"
# As the shells, make, cargo and its crates (cc, cmake, prost-build, bindgen), Go, CMake, pkg-config and linkers say it.
_SAID: tuple[tuple[PackagesOf, str], ...] = (
    ("tool", rf"(?:^|: ){_TOOL}: (?:command )?not found$"),
    ("tool", rf"^(?:g?make(?:\[\d+\])?|env|/usr/bin/env): {_TOOL}: No such file or directory"),
    ("tool", rf"linker {_TOOL} not found"),
    ("tool", r"could not execute process `(?:[\w./-]*/)?(?P<name>[A-Za-z][\w.+-]*)[` ].*\(never executed\)"),
    ("tool", rf"exec: {_TOOL}: executable file not found"),
    ("tool", rf"[Ff]ailed to find tool\. Is {_TOOL} installed"),
    ("tool", rf"[Ff]ailed to find tool {_TOOL}"),
    ("tool", rf"is {_TOOL} not installed\?"),
    ("tool", rf"[Cc]ould not find {_Q}(?P<name>protoc){_Q}"),
    ("tool", r"Unable to find (?P<name>libclang)"),
    ("tool", r"The (?P<name>pkg-config) command could not be (?:found|run)"),
    ("tool", rf"FileNotFoundError: .*No such file or directory: {_TOOL}$"),
    ("library", r"cannot find (?P<name>-l[\w.+-]+?)(?::|$| )"),
    ("library", r"unable to find library (?P<name>-l[\w.+-]+)"),
    ("module", rf"Package {_Q}(?P<name>[\w.+-]+){_Q}(?:, required by [^,]*,)? (?:was )?not found"),
    ("module", rf"No package {_Q}(?P<name>[\w.+-]+){_Q} found"),
    ("module", rf"the directory containing {_Q}(?P<name>[\w.+-]+)\.pc"),
    ("header", rf"(?:fatal error: |cannot open source file ){_Q}(?P<name>[\w./+-]+\.h(?:pp)?){_Q}"),
)
_NO_CMAKE_COMPILER = re.compile(r"No CMAKE_(?P<language>C|CXX)_COMPILER could be found")
_NO_NAMED_COMPILER = re.compile(r"The CMAKE_\w+_COMPILER:\s+(?P<name>[\w.+-]+)\s+is not a full path and was not found")
_NO_CMAKE_PACKAGE = re.compile(r"^Could NOT find (?P<name>\w+)")  # after `-- ` it is one that CMake does without
_CMAKE_PACKAGES = {
    "Boost": "libboost-all-dev", "OpenSSL": "libssl-dev", "ZLIB": "zlib1g-dev", "GMP": "libgmp-dev",
    "OpenMP": "libomp-dev", "Protobuf": "protobuf-compiler", "CURL": "libcurl4-openssl-dev", "PkgConfig": "pkg-config",
}  # fmt: skip


def find_lacks(tail: str, have: tuple[str, ...]) -> list[Lack]:
    """What the step that ended with `tail` lacked and Debian has, in the order it said so, but not what `have` brings.

    `have`: the packages of build.packages, a version after `=` apart.
    """
    present = {package.partition("=")[0].partition(":")[0] for package in have}
    lacks: dict[tuple[str, ...], Lack] = {}
    for name, packages in _of_lines(tail.splitlines()[-LAST_LINES:]):
        missing = tuple(package for package in packages if package not in present)
        if missing:
            lacks.setdefault(missing, Lack(name=name, packages=missing))
    return list(lacks.values())


def _of_lines(lines: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in lines:
        yield from _of_line(line.strip())
    # CMake gives the name a line of its own.
    for match in _NO_NAMED_COMPILER.finditer("\n".join(lines)):
        yield match["name"], packages_of("tool", match["name"])


def _of_line(line: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What one line says is missing: its name there, and the packages that bring it."""
    for kind, pattern in _SAID:
        for match in re.finditer(pattern, line):
            name = match["name"]
            if packages := packages_of(kind, name):
                yield (f"{name}.pc" if kind == "module" else name), packages
    if compiler := _NO_CMAKE_COMPILER.search(line):
        is_c = compiler["language"] == "C"
        yield ("a C compiler" if is_c else "a C++ compiler"), packages_of("tool", "gcc" if is_c else "g++")
    package = _NO_CMAKE_PACKAGE.search(line)
    if package and package["name"] in _CMAKE_PACKAGES:
        yield package["name"], (_CMAKE_PACKAGES[package["name"]],)
