"""What a failed build step lacked, read from its last lines, as Debian packages for `build.packages`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

LAST_LINES = 40
"""What was missing earlier than that, the step went on without."""

Kind = Literal["tool", "library", "module", "header"]


@dataclass(frozen=True, kw_only=True)
class Lack:
    """Something that a step looked for in vain. `name`: as the step wrote it. `packages`: what brings it."""

    name: str
    packages: tuple[str, ...]


# Debian packages -> the tools, libraries (as after -l), pkg-config modules and headers (a directory ends in /) that
# they bring. Names of Debian 12; gcc alone has no libc headers, which it only recommends.
_TOOLS = {
    "gcc libc6-dev": "gcc cc",
    "g++": "g++ c++",
    "clang": "clang clang++",
    "libclang-dev": "libclang",
    "lld": "lld ld.lld",
    "binutils": "ld as ar nm objcopy objdump ranlib readelf strip",
    "make": "make gmake",
    "cmake": "cmake ctest",
    "ninja-build": "ninja",
    "meson": "meson",
    "autoconf": "autoconf autoreconf autoheader",
    "automake": "automake aclocal",
    "libtool": "libtoolize",
    "libtool-bin": "libtool",
    "m4": "m4",
    "bison": "bison yacc",
    "flex": "flex lex",
    "nasm": "nasm",
    "yasm": "yasm",
    "protobuf-compiler": "protoc",
    "pkg-config": "pkg-config pkgconf",
    "cargo-web": "cargo",
    "rustc-web": "rustc",
    "golang-go": "go gofmt",
    "nodejs": "node nodejs",
    "npm": "npm npx",
    "python3": "python3",
    "python-is-python3": "python",
    "python3-pip": "pip pip3",
    "perl": "perl",
    "git": "git",
    "curl": "curl",
    "wget": "wget",
    "unzip": "unzip",
    "xz-utils": "xz",
    "zstd": "zstd",
    "patch": "patch",
    "file": "file",
    "xxd": "xxd",
}
_LIBRARIES = {
    "libssl-dev": "-lssl -lcrypto openssl.pc libssl.pc libcrypto.pc openssl/",
    "libgmp-dev": "-lgmp -lgmpxx gmp.pc gmpxx.pc gmp.h gmpxx.h",
    "libmpfr-dev": "-lmpfr mpfr.pc mpfr.h",
    "libntl-dev": "-lntl NTL/",
    "libflint-dev": "-lflint flint/",
    "libsodium-dev": "-lsodium libsodium.pc sodium.h sodium/",
    "libsecp256k1-dev": "-lsecp256k1 libsecp256k1.pc secp256k1.h",
    "zlib1g-dev": "-lz zlib.pc zlib.h",
    "libbz2-dev": "-lbz2 bzip2.pc bzlib.h",
    "liblzma-dev": "-llzma liblzma.pc lzma.h",
    "libzstd-dev": "-lzstd libzstd.pc zstd.h",
    "liblz4-dev": "-llz4 liblz4.pc lz4.h",
    "libsnappy-dev": "-lsnappy snappy.pc snappy.h",
    "librocksdb-dev": "-lrocksdb rocksdb.pc rocksdb/",
    "libffi-dev": "-lffi libffi.pc ffi.h",
    "libomp-dev": "-lomp",
    "libtbb-dev": "-ltbb tbb.pc tbb/",
    "libnuma-dev": "-lnuma numa.pc numa.h",
    "libhwloc-dev": "-lhwloc hwloc.pc hwloc.h",
    "libjemalloc-dev": "-ljemalloc jemalloc.pc jemalloc/",
    "libblas-dev": "-lblas blas.pc cblas.h",
    "libopenblas-dev": "-lopenblas openblas.pc",
    "liblapack-dev": "-llapack lapack.pc",
    "libcurl4-openssl-dev": "-lcurl libcurl.pc curl/",
    "libsqlite3-dev": "-lsqlite3 sqlite3.pc sqlite3.h",
    "libpq-dev": "-lpq libpq.pc libpq-fe.h",
    "libprotobuf-dev": "-lprotobuf protobuf.pc google/protobuf/",
    "libudev-dev": "-ludev libudev.pc libudev.h",
    "libusb-1.0-0-dev": "-lusb-1.0 libusb-1.0.pc libusb.h libusb-1.0/",
    "libxml2-dev": "-lxml2 libxml-2.0.pc libxml/",
    "libelf-dev": "-lelf libelf.pc libelf.h gelf.h",
    "nlohmann-json3-dev": "nlohmann_json.pc nlohmann/",
    "ocl-icd-opencl-dev": "-lOpenCL OpenCL.pc CL/",
    "libboost-dev": "boost/",
    "libc6-dev": "-lc -lm -lpthread -ldl -lrt stdio.h stdlib.h string.h stdint.h unistd.h math.h errno.h features.h",
    "g++": "-lstdc++",
    "libclang-dev": "-lclang clang-c/",
}
_BOOST = re.compile(r"-lboost_(?P<part>[a-z_]+)(?:-\w+)*")
_PARTS_OF_BOOST = frozenset((
    "atomic", "chrono", "container", "context", "coroutine", "date-time", "fiber", "filesystem", "graph", "iostreams",
    "locale", "log", "math", "program-options", "random", "regex", "serialization", "system", "test", "thread", "timer",
))  # fmt: skip


def _inverted(table: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(packages.split()) for packages, names in table.items() for name in names.split()}


_OF_TOOL = _inverted(_TOOLS)
_OF_LIBRARY = _inverted(_LIBRARIES)

_Q = r"[`'\"\u2018\u2019]?"
_TOOL = rf"{_Q}(?:[\w./-]*/)?(?P<name>[A-Za-z][\w.+-]*){_Q}"
# As the shells, make, cargo and its crates (cc, cmake, prost-build, bindgen), Go, CMake, pkg-config and linkers say it.
_SAID: tuple[tuple[Kind, str], ...] = (
    ("tool", rf"(?:^|: ){_TOOL}: (?:command )?not found$"),
    ("tool", rf"^(?:g?make(?:\[\d+\])?|env|/usr/bin/env): {_TOOL}: No such file or directory"),
    ("tool", rf"linker {_TOOL} not found"),
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
    for line in tail.splitlines()[-LAST_LINES:]:
        for name, packages in _of_line(line.strip()):
            missing = tuple(package for package in packages if package not in present)
            if missing:
                lacks.setdefault(missing, Lack(name=name, packages=missing))
    return list(lacks.values())


def _of_line(line: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What one line says is missing: its name there, and the packages that bring it."""
    for kind, pattern in _SAID:
        for match in re.finditer(pattern, line):
            name = match["name"]
            if packages := _packages(kind, name):
                yield (f"{name}.pc" if kind == "module" else name), packages
    if compiler := _NO_CMAKE_COMPILER.search(line):
        is_c = compiler["language"] == "C"
        yield ("a C compiler" if is_c else "a C++ compiler"), _OF_TOOL["gcc" if is_c else "g++"]
    package = _NO_CMAKE_PACKAGE.search(line)
    if package and package["name"] in _CMAKE_PACKAGES:
        yield package["name"], (_CMAKE_PACKAGES[package["name"]],)


def _packages(kind: Kind, name: str) -> tuple[str, ...]:
    """The packages that bring it; none when we don't know."""
    if kind == "tool":
        return _OF_TOOL.get(name, ())
    if kind == "module":
        return _OF_LIBRARY.get(f"{name}.pc", ())
    if kind == "header":
        directory = f"{name.partition('/')[0]}/" if "/" in name else name
        return _OF_LIBRARY.get(name) or _OF_LIBRARY.get(f"{name.rpartition('/')[0]}/") or _OF_LIBRARY.get(directory, ())
    if match := _BOOST.fullmatch(name):
        part = match["part"].replace("_", "-")
        return (f"libboost-{part}-dev",) if part in _PARTS_OF_BOOST else ()
    return _OF_LIBRARY.get(name, ())
