"""Which Debian packages bring a tool, a library, a pkg-config module or a header. Names of Debian 12."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

PackagesOf = Literal["tool", "library", "module", "header"]
"""What is named: a command, a library as `-lX`, a module of pkg-config, a header as it is included."""

# Debian packages -> the tools, libraries (as after -l), pkg-config modules and headers (a directory ends in /) that
# they bring; gcc alone has no libc headers, which it only recommends.
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
    "musl-tools": "musl-gcc",
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


def packages_of(kind: PackagesOf, name: str) -> tuple[str, ...]:
    """The packages that bring `name`; none when we do not know."""
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


def link_packages(flags: Iterable[str]) -> set[str]:
    """The packages that bring the libraries among a linker's flags (`-lgmp`, `-L.`) or their bare names (`gmp`).

    Without the C library's own, which every compiler's package brings.
    """
    names = (flag if flag.startswith("-l") else f"-l{flag}" for flag in flags if flag[:2] not in ("-L", "-W", "-f"))
    return {package for name in names for package in packages_of("library", name)} - {"libc6-dev", "g++"}


def module_packages(modules: Iterable[str]) -> set[str]:
    """The packages that bring these modules of pkg-config, and itself."""
    packages = {package for module in modules for package in packages_of("module", module)}
    return packages | {"pkg-config"} if packages else packages
