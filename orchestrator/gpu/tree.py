"""A tree of GPU files as the check sees it: an image, a staged directory, or the GPU assets before a build."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO, Final, Protocol

from orchestrator.elf.facts import ElfError, ElfFacts, is_elf, read_elf
from orchestrator.gpu.fatbin import FatbinError, GpuCode, read_gpu_code

DRIVER_LIBRARIES: Final = ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler")
_WITH_STUBS: Final = ("libcuda", "libnvidia-ml")
"""Those that CUDA's toolkit has stubs of."""
_STUB_SIZE: Final = 1024 * 1024
STAND_IN_MARK: Final = b"GEVULOT-ORCHESTRATOR-STAND-IN"
_CHUNK: Final = 1024 * 1024
_OVERLAP: Final = 256
_DRIVER: Final = re.compile(rb"(?<![\d.])([3-9]\d\d\.\d{2,3}(?:\.\d{2})?)(?![\d.])")
_NANOS: Final = re.compile(rb"(?i)nanos[ _/-]?(?:version)?[ :=v]{0,3}(\d\.\d{1,3}\.\d{1,3})")
_GLIBC: Final = re.compile(rb"GNU C Library[^\0\n]{0,80}? (?:stable|development) release version (\d\.\d{2})")
_LOADER_GLIBC: Final = re.compile(rb"\0ld\.so \([^)\0]{0,80}\) (?:stable|development) release version (\d\.\d{2})")
_REAL_NAME: Final = re.compile(r"^(lib[a-z-]+)\.so\.(\d{3}\.\d{2,3}(?:\.\d{2})?)$")


class Tree(Protocol):
    """Where files come from. Paths are absolute guest paths; klibs go by name."""

    def sizes(self) -> Mapping[str, int]:
        """Path → bytes of every regular file (and of every link to one)."""

    def open(self, path: str) -> BinaryIO | None:
        """The file at a path, links followed; seekable. None where there is none."""

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
class Look:
    """What the check needs to know of a tree, each thing found out once."""

    tree: Tree
    program: str = ""
    _scans: dict[tuple[str, bytes], frozenset[str]] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Path → bytes."""
        return self.tree.sizes()

    @cached_property
    def firmware(self) -> Mapping[str, frozenset[str]]:
        """Driver version → names of its firmware files below /nvidia/VERSION."""
        found: dict[str, set[str]] = {}
        for path in self.sizes:
            parts = path.split("/")
            if len(parts) == 4 and parts[1] == "nvidia" and parts[3].startswith("gsp") and parts[3].endswith(".bin"):
                found.setdefault(parts[2], set()).add(parts[3])
        return {version: frozenset(names) for version, names in sorted(found.items())}

    @cached_property
    def elves(self) -> Mapping[str, ElfFacts]:
        """The x86-64 ELF files, by path."""
        found = {}
        for path in self.sizes:
            stream = self.tree.open(path)
            if stream is None:
                continue
            with stream:
                if is_elf(stream.read(4)):
                    try:
                        facts = read_elf(stream)
                    except ElfError:
                        continue  # the checks of the program and its libraries say so
                    if facts.native:
                        found[path] = facts
        return found

    @cached_property
    def code(self) -> Mapping[str, tuple[GpuCode, ...] | FatbinError]:
        """GPU code by path, of the files that hold some, or what is wrong with it."""
        found: dict[str, tuple[GpuCode, ...] | FatbinError] = {}
        for path in self.elves:
            stream = self.tree.open(path)
            if stream is None:
                continue
            with stream:
                try:
                    entries = read_gpu_code(stream)
                except FatbinError as problem:
                    found[path] = problem
                    continue
            if entries:
                found[path] = entries
        return found

    def named(self, name: str) -> tuple[str, ...]:
        """Paths of the files called `name`, or `name` and a version."""
        bare = re.compile(re.escape(name) + r"(?:\.\d+)*$")
        return tuple(sorted(path for path in self.sizes if bare.match(path.rpartition("/")[2])))

    def libraries(self, name: str) -> tuple[Library, ...]:
        """Every packed file that a loader could take for driver library `name`: lib….so.1 and its real names."""
        return tuple(self._library(name, path) for path in self.named(f"{name}.so"))

    def _library(self, name: str, path: str) -> Library:
        marked = bool(_first(self.tree.open(path), re.compile(re.escape(STAND_IN_MARK) + rb"()")))
        version = self._driver_version(name, path)
        # NVIDIA's stubs hold no driver version, and the one of NVML a warning; they lie in directories of that name.
        warned = _first(self.tree.open(path), re.compile(rb"(You should always run with libnvidia-ml\.so)"))
        lies = "/stubs/" in path
        facts = self.elves.get(path)
        # No linkable stub is that large; a real library that names its version nowhere would be.
        bare = version is None and facts is not None and not marked and name in _WITH_STUBS
        bare = bare and self.sizes[path] < _STUB_SIZE
        return Library(path=path, version=version, marked=marked, stub=lies or bool(warned) or bare)

    def _driver_version(self, name: str, path: str) -> str | None:
        inside = _all(self.tree.open(path), _DRIVER)
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
        if len(inside) == 1:
            return next(iter(inside))
        return (real[2] if real else beside[0] if len(beside) == 1 else None) if not inside else sorted(inside)[-1]

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
        found = _all(self.tree.open(path), _GLIBC) | _all(self.tree.open(path), _LOADER_GLIBC)
        return sorted(found)[0] if found else None


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    tail = b""
    while piece := stream.read(_CHUNK):
        yield tail + piece
        tail = piece[-_OVERLAP:]


def _all(stream: BinaryIO | None, pattern: re.Pattern[bytes]) -> frozenset[str]:
    """What the pattern's group matched anywhere in the stream, which is closed."""
    if stream is None:
        return frozenset()
    with stream:
        return frozenset(
            match[1].decode("ascii", "replace")
            for piece in _pieces(stream)
            for match in pattern.finditer(piece)
            # What a piece's end may have cut is whole in the next one.
            if match.end() < len(piece) or len(piece) < _CHUNK
        )


def _first(stream: BinaryIO | None, pattern: re.Pattern[bytes]) -> bool:
    if stream is None:
        return False
    with stream:
        return any(pattern.search(piece) for piece in _pieces(stream))
