"""GPU trees with one thing wrong each: its own finding, and no other. The right ones: none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from orchestrator.errors import Severity
from orchestrator.nanos.gpu.compatibility import check_tree
from orchestrator.nanos.gpu.directory import DirectoryTree, check_assets
from tests.support.gpu_trees import (
    compile_source,
    firmware_bytes,
    make_driver_library,
    make_gpu_assets,
    make_gpu_program,
    make_klib,
)

LIBRARIES = "lib/x86_64-linux-gnu"
LOADER = "lib64/ld-linux-x86-64.so.2"
SASS_86 = ("sass", 86, "", (0, 0))
SASS_80 = ("sass", 80, "", (0, 0))
SASS_90 = ("sass", 90, "", (0, 0))
PTX_80 = ("ptx", 80, "", (8, 0))


@dataclass
class Made:
    """A tree on the disk: the guest's root, and what goes into the boot file system."""

    root: Path
    boot: Path
    version: str
    families: tuple[str, ...] = ("ampere", "ada", "hopper")
    boot_size: int = 12 * 1024 * 1024
    codes: list[str] = field(default_factory=list)

    def library(self, name: str) -> Path:
        return self.root / LIBRARIES / name

    def driver_library(self, name: str, version: str, *, stand_in: bool = True, place: str = LIBRARIES) -> None:
        """Put a driver library of a version in as NAME.so.1, and nothing of its other names."""
        for old in (self.root / LIBRARIES).glob(f"{name}.so.*"):
            old.unlink()
        (self.root / place).mkdir(parents=True, exist_ok=True)
        made = make_driver_library(self.boot.parent / f"{name}.so.{version}", version, stand_in=stand_in)
        made.rename(self.root / place / f"{name}.so.1")

    def program(
        self,
        *entries: tuple[str, int, str, tuple[int, int]],
        cudart: str = "libcudart.so.12",
        second: tuple[tuple[str, int, str, tuple[int, int]], ...] = (),
    ) -> None:
        needs = [self.library(cudart)] if cudart else []
        make_gpu_program(self.root / "prog", *entries, needs=needs, second=second)

    def cudart(self, version: str) -> None:
        for old in (self.root / LIBRARIES).glob("libcudart.so*"):
            old.unlink()
        name = f"libcudart.so.{version.partition('.')[0]}"
        target = self.library(name)
        compile_source(
            target, "int cudaRuntimeGetVersion(void) { return 0; }", "-shared", "-fPIC", f"-Wl,-soname,{name}"
        )
        shutil.copy(target, self.library(f"libcudart.so.{version}"))

    def findings(self) -> dict[Severity, list[str]]:
        klibs = {path.name: path for path in self.boot.iterdir() if path.name != "kernel"}
        tree = DirectoryTree(
            root=self.root, klib_files=klibs, kernel_file=self.boot / "kernel", boot_size=self.boot_size
        )
        codes: dict[Severity, list[str]] = {}
        for finding in check_tree(tree, program="/prog", families=self.families):
            assert finding.message and finding.remedy
            codes.setdefault(finding.severity, []).append(finding.code)
        return codes


def make_tree(directory: Path, version: str = "535.113.01", cuda: str = "12.2.140") -> Made:
    """A right tree, as the guide lays it out."""
    root, boot = directory / "root", directory / "boot"
    boot.mkdir(parents=True)
    assets = make_gpu_assets(root / LIBRARIES, version, nanos="0.1.51")
    (assets / "gpu_nvidia").rename(boot / "gpu_nvidia")
    (assets / "nvidia").rename(root / "nvidia")
    for library in list(assets.iterdir()):
        shutil.copy(library, assets / (library.name.partition(".so")[0] + ".so.1"))
    (boot / "kernel").write_bytes(b"\x7fELF Nanos 0.1.51 \0" + bytes(1000))
    (root / "lib64").mkdir()
    shutil.copy(f"/{LOADER}", root / LOADER)
    shutil.copy(f"/{LIBRARIES}/libc.so.6", root / LIBRARIES)
    made = Made(root=root, boot=boot, version=version)
    made.cudart(cuda)
    made.program(SASS_80, SASS_90, PTX_80, cudart=f"libcudart.so.{cuda.partition('.')[0]}")
    return made


def _other_glibc(made: Made) -> None:
    path = made.library("libc.so.6")
    data = path.read_bytes()
    mark = data.index(b"release version 2.") + len(b"release version 2.")
    path.write_bytes(data[:mark] + b"17" + data[mark + 2 :])


def _stub_nvml(made: Made) -> None:
    warning = 'const char *w = "You should always run with libnvidia-ml.so that is installed with your driver";'
    target = made.library("libnvidia-ml.so.1")
    compile_source(target, warning + "int nvmlInit_v2(void) { return 9; }", "-shared", "-fPIC")


def _no(pattern: str) -> Callable[[Made], None]:
    def inner(made: Made) -> None:
        for path in list(made.root.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return inner


def _put_stub(made: Made) -> None:
    for old in (made.root / LIBRARIES).glob("libcuda.so.*"):
        old.unlink()
    source = "int cuInit(unsigned flags) { return flags ? 34 : 34; }"
    compile_source(made.library("libcuda.so.1"), source, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")


def _cudart_13(made: Made) -> None:
    made.cudart("13.0.96")
    made.program(SASS_80, SASS_90, cudart="libcudart.so.13")


def _static_cudart_13(made: Made) -> None:
    _no(f"{LIBRARIES}/libcudart*")(made)
    made.program(SASS_80, SASS_90, ("ptx", 90, "", (9, 0)), cudart="")


def _no_ptx_compiler(made: Made) -> None:
    made.program(SASS_86, ("ptx", 86, "", (8, 2)))
    _no(f"{LIBRARIES}/libnvidia-ptx*")(made)


def _firmware(made: Made, version: str) -> None:
    (made.root / "nvidia" / version).mkdir()
    (made.root / "nvidia" / version / "gsp_ga10x.bin").write_bytes(firmware_bytes(version))


def _cut(made: Made) -> None:
    path = made.root / "prog"
    data = bytearray(path.read_bytes())
    at = data.index(b"\x50\xed\x55\xba")
    data[at + 8 : at + 16] = b"\xff" * 7 + b"\x00"
    path.write_bytes(data)


def _blackwell(made: Made) -> None:
    made.families = ("blackwell",)


BROKEN: dict[str, tuple[Callable[[Made], object], str]] = {
    "libcuda of another driver": (lambda m: m.driver_library("libcuda", "535.104.05"), "gpu-version-mismatch"),
    "libnvidia-ml of another driver": (lambda m: m.driver_library("libnvidia-ml", "550.54.15"), "gpu-version-mismatch"),
    "PTX compiler of another driver": (
        lambda m: m.driver_library("libnvidia-ptxjitcompiler", "525.60.13"),
        "gpu-version-mismatch",
    ),
    "libcuda of cuda-compat": (lambda m: m.driver_library("libcuda", "550.54.15"), "gpu-compat-library"),
    "libcuda in compat": (
        lambda m: m.driver_library("libcuda", "525.60.13", place="usr/local/cuda/compat"),
        "gpu-compat-library",
    ),
    "stub libcuda": (_put_stub, "gpu-stub-library"),
    "stub libcuda by its place": (
        lambda m: m.driver_library("libcuda", "535.113.01", place="usr/local/cuda/lib64/stubs"),
        "gpu-stub-library",
    ),
    "stub libnvidia-ml": (_stub_nvml, "gpu-stub-library"),
    "no libcuda": (_no(f"{LIBRARIES}/libcuda.so.*"), "gpu-driver-library-missing"),
    "no firmware": (_no("nvidia"), "gpu-firmware-missing"),
    "no firmware for the families": (_no("nvidia/*/gsp_ga10x.bin"), "gpu-firmware-family"),
    "firmware of two drivers": (
        lambda m: _firmware(m, "550.54.15"),
        "gpu-firmware-versions",
    ),
    "no GPU klib": (lambda m: (m.boot / "gpu_nvidia").unlink(), "gpu-klib-missing"),
    "klib of another Nanos": (lambda m: make_klib(m.boot / "gpu_nvidia", "0.1.53"), "gpu-klib-nanos"),
    "klib of another driver": (
        lambda m: (m.boot / "gpu_nvidia").write_bytes(b"\x7fELF NVRM version 515.65.01 \0"),
        "gpu-klib-driver",
    ),
    "klib too large": (
        lambda m: make_klib(m.boot / "gpu_nvidia", "0.1.51", padding=12 * 1024 * 1024),
        "gpu-boot-space",
    ),
    "no CUDA runtime": (_no(f"{LIBRARIES}/libcudart.so*"), "gpu-cudart-missing"),
    "CUDA runtime too new": (
        _cudart_13,
        "gpu-runtime-too-new",
    ),
    "CUDA runtime too new, linked in": (
        _static_cudart_13,
        "gpu-runtime-too-new",
    ),
    "no code for Hopper": (lambda m: m.program(SASS_86), "gpu-code-missing"),
    "Hopper's own PTX of another card": (
        lambda m: m.program(SASS_86, ("ptx", 100, "a", (8, 0))),
        "gpu-code-missing",
    ),
    "PTX too new": (lambda m: m.program(SASS_86, ("ptx", 90, "", (8, 4))), "gpu-ptx-too-new"),
    "no PTX compiler": (
        _no_ptx_compiler,
        "gpu-ptx-compiler-missing",
    ),
    "glibc of another base": (_other_glibc, "gpu-glibc-mixed"),
    "code cut short": (_cut, "gpu-code-damaged"),
    "Blackwell on an old driver": (_blackwell, "gpu-driver-too-old"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_tree_is_refused_with_its_own_finding(tmp_path: Path, name: str) -> None:
    made = make_tree(tmp_path)
    change, code = BROKEN[name]
    change(made)
    assert set(made.findings().get(Severity.ERROR, [])) == {code}


@pytest.mark.parametrize(
    ("driver", "cuda", "families"),
    [
        ("535.113.01", "12.2.140", ("ampere", "ada", "hopper")),
        ("535.113.01", "12.3.101", ("ada",)),  # minor version compatibility: a newer runtime of the same major version
        ("530.30.02", "12.4.127", ()),
        ("580.65.06", "13.0.96", ("ampere", "hopper")),
        ("580.65.06", "12.2.140", ("blackwell",)),  # by its PTX
        ("595.10", "13.0.96", ("ampere",)),  # a driver newer than the tables
    ],
)
def test_right_trees_have_no_finding(tmp_path: Path, driver: str, cuda: str, families: tuple[str, ...]) -> None:
    made = replace(make_tree(tmp_path, driver, cuda), families=families)
    assert made.findings() == {}


def test_without_families_one_that_the_firmware_serves_will_do(tmp_path: Path) -> None:
    made = replace(make_tree(tmp_path), families=())
    made.program(SASS_90)
    assert made.findings() == {}
    made.program(("sass", 61, "", (0, 0)))
    assert made.findings() == {Severity.ERROR: ["gpu-code-missing"]}


def test_a_card_of_a_family_left_out_is_a_warning(tmp_path: Path) -> None:
    made = replace(make_tree(tmp_path), families=("ampere",))
    made.program(SASS_86)
    assert made.findings() == {Severity.WARNING: ["gpu-card-not-served"]}


def test_a_source_file_without_code_for_a_family_is_a_warning(tmp_path: Path) -> None:
    made = replace(make_tree(tmp_path), families=("hopper",))
    made.program(SASS_90, second=(SASS_86,))
    assert made.findings() == {Severity.WARNING: ["gpu-part-not-served"]}


def test_gpu_code_without_any_driver_is_a_warning(tmp_path: Path) -> None:
    made = make_tree(tmp_path)
    shutil.rmtree(made.root / "nvidia")
    (made.boot / "gpu_nvidia").unlink()
    assert made.findings() == {Severity.WARNING: ["gpu-driver-missing"]}


def test_a_link_to_the_host_is_no_file_of_the_tree(tmp_path: Path) -> None:
    made = make_tree(tmp_path)
    real = made.library("libcuda.so.1").rename(tmp_path / "libcuda.so.1")
    for path in (made.root / LIBRARIES).glob("libcuda.so.*"):
        path.unlink()
    made.library("libcuda.so.1").symlink_to(real)
    assert made.findings() == {Severity.ERROR: ["gpu-driver-library-missing"]}


def test_drivers_before_530_have_other_firmware(tmp_path: Path) -> None:
    made = replace(make_tree(tmp_path, "525.60.13", "12.0.107"), families=("ada",))
    assert made.findings() == {Severity.ERROR: ["gpu-firmware-family"]}
    (made.root / "nvidia/525.60.13/gsp_ga10x.bin").rename(made.root / "nvidia/525.60.13/gsp_ad10x.bin")
    assert made.findings() == {}


def test_assets_are_checked_before_a_build(tmp_path: Path) -> None:
    assets = make_gpu_assets(tmp_path / "assets")
    assert check_assets(assets, ("ampere", "ada", "hopper", "blackwell", "turing")) == ()
    shutil.rmtree(assets / "nvidia")
    make_driver_library(assets / "libcuda.so.575.51.03", "575.51.03")
    codes = {finding.code for finding in check_assets(assets, ("ampere",))}
    assert codes == {"gpu-firmware-missing", "gpu-version-mismatch"}
