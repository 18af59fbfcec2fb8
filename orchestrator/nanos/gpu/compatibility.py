"""Whether the GPU parts of a tree fit together: what otherwise only shows in the guest, as errors 222, 35, 999 or
"API mismatch". Every finding says what it is, why it matters and what to change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from orchestrator.errors import Finding, Severity, error, warning
from orchestrator.families import FAMILIES, Capability, Family
from orchestrator.nanos.gpu.fatbin import FatbinError, GpuCode
from orchestrator.nanos.gpu.tables import (
    BOOT_OVERHEAD,
    DRIVER_CUDA,
    MINIMUM_DRIVER,
    dotted,
    driver_branch,
    driver_cuda,
    firmware_files,
    ptx_cuda,
)  # fmt: skip
from orchestrator.nanos.gpu.tree import DRIVER_LIBRARIES, GpuInventory, GpuTree, Library

GPU_KLIB: Final = "gpu_nvidia"
_SECTOR: Final = 512
_SAME_ASSETS: Final = "take library, klib and firmware from the same gpu-assets; never CUDA's stubs"


def check_tree(tree: GpuTree, *, program: str = "", families: Sequence[str] = ()) -> Iterator[Finding]:
    """Everything that can be known about the GPU parts of a whole tree.

    `families`: the GPU families the project names; without any, one that the packed firmware serves must do.
    Of a tree with neither the GPU klib nor firmware nothing is said but that its program's GPU code is of no use.
    """
    check = _Check(look=GpuInventory(tree=tree), program=program, names=tuple(families))
    klib = GPU_KLIB in tree.klibs()
    if not klib and not check.look.firmware:
        yield from check.useless_code()
        return
    yield from check.assets(klib)
    if not klib:
        return
    yield from check.klib()
    yield from check.boot_space()
    yield from check.glibc()
    yield from check.missing_libraries()
    yield from check.runtime()
    yield from check.gpu_code()


def check_asset_tree(tree: GpuTree, *, families: Sequence[str] = ()) -> Iterator[Finding]:
    """What can be known of the GPU assets alone, before anything is built."""
    check = _Check(look=GpuInventory(tree=tree), program="", names=tuple(families))
    yield from check.assets(GPU_KLIB in tree.klibs())
    yield from check.klib()
    yield from check.boot_space()
    if not check.libraries["libcuda"]:
        yield error(
            "gpu-driver-library-missing",
            "the GPU assets have no libcuda.so.VERSION: without it, a CUDA program finds no device",
            "add NVIDIA's user libraries of the klib's driver version to gpu-assets",
        )


@dataclass(kw_only=True)
class _Check:
    look: GpuInventory
    program: str
    names: tuple[str, ...]

    @cached_property
    def libraries(self) -> dict[str, tuple[Library, ...]]:
        """Driver libraries that programs find: `lib….so.1` and the files of a whole version."""
        return {name: self.look.libraries(name) for name in DRIVER_LIBRARIES}

    @cached_property
    def driver(self) -> str | None:
        """The driver's version: the firmware's, else libcuda's."""
        versions = [*self.look.firmware, *(lib.version for lib in self.libraries["libcuda"] if lib.version)]
        return versions[0] if versions else None

    @cached_property
    def branch(self) -> int | None:
        """The driver's branch, as far as it can be known."""
        return driver_branch(self.driver) if self.driver else None

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """Those named; else those that firmware and driver serve."""
        if self.names:
            return tuple(FAMILIES[name] for name in self.names if name in FAMILIES)
        return tuple(
            family
            for family in FAMILIES.values()
            if self.cards(family) and (self.branch is None or family.minimum_driver <= self.branch)
        )

    def cards(self, family: Family) -> tuple[Capability, ...]:
        """The family's capabilities whose firmware is packed."""
        packed = frozenset().union(*self.look.firmware.values())
        return tuple(card for card in family.cards if packed.intersection(firmware_files(card, self.branch)))

    def assets(self, klib: bool) -> Iterator[Finding]:
        """Klib, firmware and driver libraries: all there, and of one version."""
        firmware = self.look.firmware
        if klib and not firmware:
            yield error(
                "gpu-firmware-missing",
                "klib gpu_nvidia is packed, but no firmware /nvidia/VERSION/gsp*.bin: the GPU does not start",
                "add the gpu-assets' nvidia directory to the manifest's Dirs",
            )
        if not klib:
            yield error(
                "gpu-klib-missing",
                f"GPU firmware {', '.join(firmware) or '(none)'} is packed, but not klib gpu_nvidia:"
                " the kernel has no driver for the GPU",
                'put "gpu_nvidia" into the manifest\'s Klibs, at the top level (not in RunConfig)',
            )
        if len(firmware) > 1:
            yield error(
                "gpu-firmware-versions",
                f"firmware of several driver versions is packed ({', '.join(firmware)}): the klib loads only one",
                "keep the directory of the klib's driver version",
            )
        yield from self._family_parts()
        for name in DRIVER_LIBRARIES:
            yield from self._driver_library(name)

    def _family_parts(self) -> Iterator[Finding]:
        for name in self.names:
            family = FAMILIES.get(name)
            if family is None:
                continue
            if self.look.firmware and not self.cards(family):
                names = {file for card in family.cards for file in firmware_files(card, self.branch)}
                files = " or ".join(sorted(names))
                yield error(
                    "gpu-firmware-family",
                    f"gpu-families names {name}, but its firmware {files} is not packed: such a GPU does not start",
                    f"add it to /nvidia/{self.driver}, or leave {name} out of gpu-families",
                )
            if self.branch is not None and self.branch < family.minimum_driver:
                yield error(
                    "gpu-driver-too-old",
                    f"gpu-families names {name}, which driver {self.driver} does not know",
                    f"take gpu-assets of driver {family.minimum_driver} or newer, or leave {name} out of gpu-families",
                )

    def _driver_library(self, name: str) -> Iterator[Finding]:
        for library in self.libraries[name]:
            if library.stub:
                yield error(
                    "gpu-stub-library",
                    f"{library.path} is CUDA's stub, which is only for linking: every call to it fails in the guest",
                    f"take {name}.so.1 from gpu-assets, not from the toolkit's lib64/stubs",
                )
            elif library.version is None:
                if not library.marked and self.look.firmware:
                    yield warning(
                        "gpu-version-mismatch",
                        f"{library.path} does not mention the firmware's driver version"
                        f" ({', '.join(self.look.firmware)}): the driver rejects a library of another version",
                        _SAME_ASSETS,
                    )
            elif self.driver is not None and library.version != self.driver:
                yield self._mismatch(name, library)

    def _mismatch(self, name: str, library: Library) -> Finding:
        others = {lib.version for other in DRIVER_LIBRARIES if other != name for lib in self.libraries[other]}
        newer = (driver_branch(library.version or "") or 0) > (self.branch or 0)
        if "/compat/" in library.path or (name == "libcuda" and newer and self.driver in others):
            return error(
                "gpu-compat-library",
                f"{library.path} is from cuda-compat, for driver {library.version}: the guest's driver {self.driver}"
                " rejects it (API mismatch)",
                "take libcuda.so.1 from gpu-assets; leave CUDA's compat directory out of the search",
            )
        return error(
            "gpu-version-mismatch",
            f"{library.path} is from driver {library.version}, firmware and klib are from {self.driver}:"
            " the driver rejects it (API mismatch)",
            _SAME_ASSETS,
        )

    def klib(self) -> Iterator[Finding]:
        """The klib's driver and its Nanos, where it names them."""
        drivers = self.look.klib_drivers(GPU_KLIB)
        if drivers and self.look.firmware and not drivers & set(self.look.firmware):
            yield error(
                "gpu-klib-driver",
                f"klib gpu_nvidia is of driver {', '.join(sorted(drivers))}, the firmware of"
                f" {', '.join(self.look.firmware)}: the klib looks for its own version's and finds none",
                _SAME_ASSETS,
            )
        klib, kernel = self.look.klib_nanos(GPU_KLIB), self.look.kernel_nanos
        if klib and kernel and not klib & kernel:
            yield error(
                "gpu-klib-nanos",
                f"klib gpu_nvidia was built for Nanos {', '.join(sorted(klib))}, the kernel is"
                f" {', '.join(sorted(kernel))}: the kernel halts on a missing symbol, or misbehaves",
                "take the klib built for that release, or set nanos.version to the klib's",
            )

    def boot_space(self) -> Iterator[Finding]:
        """Kernel and klibs against the boot file system's size."""
        size = self.look.tree.boot_size
        if size is None:
            return
        kernel = self.look.tree.kernel()
        used = [*self.look.tree.klibs().values()]
        if kernel is not None:
            with kernel:
                used.append(kernel.seek(0, 2))
        total = sum(-(-length // _SECTOR) * _SECTOR for length in used)
        if total > size - BOOT_OVERHEAD:
            yield error(
                "gpu-boot-space",
                f"kernel and klibs take {total} bytes, the boot file system holds {size - BOOT_OVERHEAD}:"
                " the image cannot be packed, or starts without the klib",
                "strip the klib's debug symbols (strip --strip-debug), or pack fewer klibs",
            )

    def glibc(self) -> Iterator[Finding]:
        """The C library and its loader are two halves of one: they must be of one build."""
        program = self.look.elves.get(self.program)
        loader = program.interpreter if program is not None else None
        if loader is None or loader not in self.look.sizes:
            return
        own = self.look.glibc(loader)
        for path in self.look.named("libc.so.6"):
            other = self.look.glibc(path)
            if own and other and own != other:
                yield error(
                    "gpu-glibc-mixed",
                    f"{path} is of glibc {other}, the loader {loader} of {own}: the program dies before main",
                    "stage both from the base that the program was linked in; do not put a C library into gpu-assets",
                )

    def missing_libraries(self) -> Iterator[Finding]:
        """libcuda, and the CUDA runtime where it is linked dynamically."""
        wants = {path: [n for n in f.needed if n.startswith("libcudart.so")] for path, f in self.look.elves.items()}
        names = {path.rpartition("/")[2] for path in self.look.sizes}
        for path, needed in wants.items():
            for name in needed:
                if name not in names:
                    yield error(
                        "gpu-cudart-missing",
                        f"{path} needs {name}, which is not packed, so it does not start",
                        f"add {name} to stage.extra, or link with nvcc -cudart static",
                    )
        if self.libraries["libcuda"]:
            return
        uses = bool(self.look.code) or any(wants.values())
        if self.program in self.look.elves:
            yield (error if uses else warning)(
                "gpu-driver-library-missing",
                "no libcuda.so.1 is packed: without it, a CUDA program finds no device",
                "add libcuda.so.1 to stage.extra",
            )

    def runtime(self) -> Iterator[Finding]:
        """The CUDA runtime's major version against the driver."""
        if self.branch is None:
            return
        for path, major in self._runtimes():
            least = MINIMUM_DRIVER.get(major)
            newest = driver_cuda(max(DRIVER_CUDA))
            if (least is not None and self.branch < least) or (least is None and major > newest[0]):
                yield error(
                    "gpu-runtime-too-new",
                    f"{path} is of CUDA {major}, which driver {self.driver} does not support: every call fails with"
                    " error 35, insufficient driver",
                    f"build with CUDA {dotted(driver_cuda(self.branch))} or older"
                    + (f", or take gpu-assets of driver {least} or newer" if least else ""),
                )

    def _runtimes(self) -> Iterator[tuple[str, int]]:
        dynamic = False
        for path in self.look.named("libcudart.so"):
            soname = self.look.elves[path].soname if path in self.look.elves else None
            major = _major(soname or path.rpartition("/")[2])
            if major is not None:
                dynamic = True
                yield path, major
        if dynamic:
            return
        for path, code in self.look.code.items():  # linked statically: the PTX tells the toolkit
            if not isinstance(code, FatbinError):
                versions = [ptx_cuda(entry.ptx_version)[0] for entry in code if entry.ptx_version]
                if versions and max(versions) in MINIMUM_DRIVER:
                    yield path, max(versions)

    def gpu_code(self) -> Iterator[Finding]:
        """The code in each file against each family."""
        for path, code in self.look.code.items():
            if isinstance(code, FatbinError):
                yield error("gpu-code-damaged", f"{path}: {code.message}", "build the program again")
                continue
            if not any(entry.kind in ("sass", "ptx") for entry in code):
                continue
            if self.names:
                for family in self.families:
                    findings = list(self._family_code(path, code, family))
                    yield from findings or self._parts(path, code, family)
            else:
                yield from self._any_family(path, code)

    def useless_code(self) -> Iterator[Finding]:
        """GPU code in the program of an image without a GPU driver; it may have another way, so no error."""
        if self.look.tree.elf(self.program) is not None and self.look.code_of(self.program):
            yield warning(
                "gpu-driver-missing",
                f"{self.program} holds GPU code, but neither klib gpu_nvidia nor firmware is packed: it finds no GPU",
                "set `cuda` and `resources: {gpus: 1}` in project.yaml, or ignore this if it does not need a GPU",
            )

    def _any_family(self, path: str, code: Sequence[GpuCode]) -> Iterator[Finding]:
        by_family = [list(self._family_code(path, code, family)) for family in self.families]
        if by_family and all(any(f.severity is Severity.ERROR for f in findings) for findings in by_family):
            # One that says what to change about the code beats one that says there is none.
            yield max((f for findings in by_family for f in findings), key=lambda f: f.code != "gpu-code-missing")

    def _parts(self, path: str, code: Sequence[GpuCode], family: Family) -> Iterator[Finding]:
        """Of the program alone: the parts (nvcc makes one of each source file) that no card of the family runs.

        A library may well hold kernels for one family only, and choose among them.
        """
        numbers = (
            sorted({entry.container for entry in code if entry.kind in ("sass", "ptx")}) if path == self.program else []
        )
        cards = self.cards(family) or family.cards
        lost = [
            number
            for number in numbers
            if not any(self._fit([e for e in code if e.container == number], card) in ("sass", "ptx") for card in cards)
        ]
        if lost:
            yield warning(
                "gpu-part-not-served",
                f"{len(lost)} of the {len(numbers)} parts of {path}'s GPU code hold nothing for {family.name}: their"
                " kernels fail there with error 209",
                f"give nvcc {_gencode(cards[0])} for every source file, or link with -rdc=true",
            )

    def _family_code(self, path: str, code: Sequence[GpuCode], family: Family) -> Iterator[Finding]:
        cards = self.cards(family) or family.cards
        fits = {card: self._fit(code, card) for card in cards}
        if any(fit in ("sass", "ptx") for fit in fits.values()):
            lost = [card for card, fit in fits.items() if fit not in ("sass", "ptx")]
            if lost and self.names:
                yield warning(
                    "gpu-card-not-served",
                    f"{path} holds no code for {family.name} cards of {_capabilities(lost)}",
                    f"add {_gencode(lost[0])} to nvcc's options, if they matter",
                )
            if "sass" not in fits.values() and not self.libraries["libnvidia-ptxjitcompiler"]:
                yield error(
                    "gpu-ptx-compiler-missing",
                    f"{path} holds only PTX for {family.name}, and the compiler for it, libnvidia-ptxjitcompiler.so.1,"
                    " is not packed: loading it fails with error 221",
                    f"add libnvidia-ptxjitcompiler.so.1 to stage.extra, or SASS ({_gencode(cards[-1])})",
                )
        elif "too new" in fits.values():
            yield self._too_new(path, code, family, cards[-1])
        else:
            has = ", ".join(sorted({entry.name for entry in code if entry.kind != "lto"}))
            yield error(
                "gpu-code-missing",
                f"{path} holds {has}, which no {family.name} GPU ({_capabilities(cards)}) can run: every kernel fails"
                " with error 209",
                f"add {_gencode(cards[0])} to nvcc's options, or leave {family.name} out of gpu-families",
            )

    def _too_new(self, path: str, code: Iterable[GpuCode], family: Family, card: tuple[int, int]) -> Finding:
        version = max(entry.ptx_version for entry in code if entry.ptx_version)
        most = dotted(driver_cuda(self.branch or 0))
        return error(
            "gpu-ptx-too-new",
            f"{path} has for {family.name} only PTX {dotted(version)}, newer than CUDA {most}, the last that driver"
            f" {self.driver} compiles: error 222, unsupported PTX version",
            f"add SASS ({_gencode(card)}), or build with CUDA {most}",
        )

    def _fit(self, code: Iterable[GpuCode], card: tuple[int, int]) -> str:
        """How a card runs the code: sass, ptx, "too new" (PTX that the driver refuses), or "" (not at all)."""
        best = ""
        for entry in code:
            if not runs_on(entry, card):
                continue
            if entry.kind == "sass":
                return "sass"
            known = self.branch is not None and entry.ptx_version is not None
            new = known and ptx_cuda(entry.ptx_version or (0, 0)) > driver_cuda(self.branch or 0)
            best = "ptx" if not new else best or "too new"
        return best


def runs_on(code: GpuCode, card: tuple[int, int]) -> bool:
    """Whether a card of this compute capability takes the code, the driver's age apart."""
    made_for = divmod(code.sm, 10)
    if code.kind not in ("sass", "ptx"):
        return False
    if code.suffix == "a":
        return made_for == card
    same_major = made_for[0] == card[0] and made_for[1] <= card[1]
    return same_major if code.kind == "sass" or code.suffix == "f" else made_for <= card


def _major(name: str) -> int | None:
    number = name.partition(".so.")[2].partition(".")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 3 else None


def _capabilities(cards: Iterable[tuple[int, int]]) -> str:
    return "compute capability " + ", ".join(dotted(card) for card in cards)


def _gencode(card: tuple[int, int]) -> str:
    number = f"{card[0]}{card[1]}"
    return f"-gencode arch=compute_{number},code=sm_{number}"
