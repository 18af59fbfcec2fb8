"""A tree of GPU files as the check sees it: an image, a staged directory, or the GPU assets before a build."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, Final, Protocol

from orchestrator.elf.facts import ElfFacts
from orchestrator.nanos.gpu.fatbin import FatbinError, GpuCode, read_gpu_code

DRIVER_LIBRARIES: Final = ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler")
_WITH_STUBS: Final = ("libcuda", "libnvidia-ml")
"""Those that CUDA's toolkit has stubs of."""
_STUB_SIZE: Final = 1024 * 1024
STAND_IN_MARK: Final = b"GEVULOT-ORCHESTRATOR-STAND-IN"
_NVML_STUB: Final = b"You should always run with libnvidia-ml.so"
_MARKS: Final = (STAND_IN_MARK.decode(), _NVML_STUB.decode())
_CHUNK: Final = 1024 * 1024
_OVERLAP: Final = 256
_VERSION: Final = rb"(?<![\d.])[3-9]\d\d\.\d{2,3}(?:\.\d{2})?(?![\d.])"
_DRIVER: Final = re.compile(rb"(%s)" % _VERSION)
_IN_LIBRARY: Final = re.compile(rb"(%s|%s|%s)" % (re.escape(STAND_IN_MARK), re.escape(_NVML_STUB), _VERSION))
_NANOS: Final = re.compile(rb"(?i)nanos[ _/-]?(?:version)?[ :=v]{0,3}(\d\.\d{1,3}\.\d{1,3})")
_GLIBC: Final = re.compile(
    rb"(?:GNU C Library[^\0\n]{0,80}? |\0ld\.so \([^)\0]{0,80}\) )(?:stable|development) release version (\d\.\d{2})"
)
_REAL_NAME: Final = re.compile(r"^(lib[a-z-]+)\.so\.(\d{3}\.\d{2,3}(?:\.\d{2})?)$")


def firmware_of(paths: Iterable[str]) -> dict[str, frozenset[str]]:
    """Driver version → names of its GSP firmware files, of the paths that are /nvidia/VERSION/gsp….bin."""
    by_version: dict[str, set[str]] = {}
    for path in paths:
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "nvidia" and parts[3].startswith("gsp") and parts[3].endswith(".bin"):
            by_version.setdefault(parts[2], set()).add(parts[3])
    return {version: frozenset(names) for version, names in sorted(by_version.items())}


class GpuTree(Protocol):
    """Where files come from. Paths are absolute guest paths; klibs go by name."""

    def sizes(self) -> Mapping[str, int]:
        """Path → bytes of every regular file (and of every link to one)."""

    def open(self, path: str) -> BinaryIO | None:
        """The file at a path, links followed; seekable. None where there is none."""

    def elf(self, path: str) -> ElfFacts | None:
        """The facts of the x86-64 ELF file at a path; None for any other, and one that can't be read."""

    def klibs(self) -> Mapping[str, int]:
        """Name → bytes of each klib in the boot file system."""

    def open_klib(self, name: str) -> BinaryIO | None:
        """A klib's bytes."""

    def kernel(self) -> BinaryIO | None:
        """The kernel's bytes, if there is one."""

    @property
    def boot_size(self) -> int | None:
        """Bytes of the boot file system; None where there is none yet."""


@dataclass(frozen=True, kw_only=True)
class Library:
    """A packed driver library. `version` is the driver's, None where nothing says; `marked`: a stand-in of ours."""

    path: str
    version: str | None
    marked: bool
    stub: bool


@dataclass(kw_only=True)
class GpuInventory:
    """What the check needs to know of a tree, each thing found out once."""

    tree: GpuTree
    program: str = ""

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Path → bytes."""
        return self.tree.sizes()

    @cached_property
    def firmware(self) -> Mapping[str, frozenset[str]]:
        """Driver version → names of its firmware files below /nvidia/VERSION."""
        return firmware_of(self.sizes)

    @cached_property
    def elves(self) -> Mapping[str, ElfFacts]:
        """The x86-64 ELF files, by path."""
        return {path: facts for path in self.sizes if (facts := self.tree.elf(path)) is not None}

    @cached_property
    def code(self) -> Mapping[str, tuple[GpuCode, ...] | FatbinError]:
        """GPU code by path, of the files that hold some, or what is wrong with it."""
        return {path: code for path in self.elves if (code := self.code_of(path))}

    def code_of(self, path: str) -> tuple[GpuCode, ...] | FatbinError:
        """The GPU code in one file; none where there is no such file."""
        stream = self.tree.open(path)
        if stream is None:
            return ()
        with stream:
            try:
                return read_gpu_code(stream)
            except FatbinError as problem:
                return problem

    def named(self, name: str) -> tuple[str, ...]:
        """Paths of the files called `name`, or `name` and a version."""
        bare = re.compile(re.escape(name) + r"(?:\.\d+)*$")
        return tuple(sorted(path for path in self.sizes if bare.match(path.rpartition("/")[2])))

    def libraries(self, name: str) -> tuple[Library, ...]:
        """Every packed file that a loader could take for driver library `name`: lib….so.1 and its real names."""
        return tuple(self._library(name, path) for path in self.named(f"{name}.so"))

    def _library(self, name: str, path: str) -> Library:
        inside = _all(self.tree.open(path), _IN_LIBRARY)  # one pass: a real libcuda has 30 MB
        marked = STAND_IN_MARK.decode() in inside
        version = self._driver_version(name, path, inside - set(_MARKS))
        # NVIDIA's stubs hold no driver version, and the one of NVML a warning; they lie in directories of that name.
        # None is that large; a real library that names its version nowhere would be.
        bare = version is None and not marked and name in _WITH_STUBS and self.sizes[path] < _STUB_SIZE
        stub = "/stubs/" in path or _NVML_STUB.decode() in inside or (bare and path in self.elves)
        return Library(path=path, version=version, marked=marked, stub=stub)

    def _driver_version(self, name: str, path: str, inside: frozenset[str]) -> str | None:
        """By the versions named `inside`, of which NVIDIA's files have several: the firmware's goes first."""
        directory, _, own = path.rpartition("/")
        real = _REAL_NAME.match(own)
        beside = [
            match[2]
            for other in self.sizes
            if other.rpartition("/")[0] == directory
            and (match := _REAL_NAME.match(other.rpartition("/")[2])) is not None
            and match[1] == name
            and self.sizes[other] == self.sizes[path]
        ]
        for version in [*self.firmware, *([real[2]] if real else []), *beside]:
            if version in inside:
                return version
        if inside:
            return max(inside)
        return real[2] if real else beside[0] if len(beside) == 1 else None

    def klib_drivers(self, name: str) -> frozenset[str]:
        """Versions of NVIDIA's driver that a klib names."""
        return _all(self.tree.open_klib(name), _DRIVER)

    def klib_nanos(self, name: str) -> frozenset[str]:
        """Nanos versions that a klib names."""
        return _all(self.tree.open_klib(name), _NANOS)

    @cached_property
    def kernel_nanos(self) -> frozenset[str]:
        """Nanos versions that the kernel names."""
        return _all(self.tree.kernel(), _NANOS)

    def glibc(self, path: str) -> str | None:
        """The version that a C library or loader gives for itself."""
        return min(_all(self.tree.open(path), _GLIBC), default=None)


def _pieces(stream: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Overlapping pieces, and whether it is the last."""
    tail, piece = b"", stream.read(_CHUNK)
    while piece:
        following = stream.read(_CHUNK)
        yield tail + piece, not following
        tail, piece = piece[-_OVERLAP:], following


def _all(stream: BinaryIO | None, pattern: re.Pattern[bytes]) -> frozenset[str]:
    """What the pattern's group matched anywhere in the stream, which is closed."""
    if stream is None:
        return frozenset()
    with stream:
        return frozenset(
            match[1].decode("ascii", "replace")
            for piece, last in _pieces(stream)
            for match in pattern.finditer(piece)
            # What a piece's end may have cut is whole in the next one.
            if last or match.end() < len(piece)
        )
