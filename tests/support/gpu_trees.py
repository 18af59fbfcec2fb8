"""Stand-in GPU assets: what the vendor's archive holds, as real ELF files that say they are stand-ins.

The libraries have the right names, sonames and version strings and load; every call of theirs says that there is no
device. The klib and the firmware are ELF files of the right machines with nothing in them.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

DRIVER = "580.65.06"
"""A driver of the branch that CUDA 13.0 came with."""
MARK = "GEVULOT-ORCHESTRATOR-STAND-IN"
FIRMWARE = ("gsp_tu10x.bin", "gsp_ga10x.bin")
LIBRARIES = ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler")
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
EXPORTS = {
    "libcuda": ("cuInit", "cuDriverGetVersion", "cuDeviceGet", "cuDeviceGetCount", "cuGetProcAddress_v2"),
    "libnvidia-ml": ("nvmlInit_v2", "nvmlShutdown", "nvmlSystemGetDriverVersion"),
    "libnvidia-ptxjitcompiler": ("__cuda_CallJitEntryPoint", "nvPTXCompilerCreate"),
}
_RISCV = 243


def make_gpu_assets(
    directory: Path,
    version: str = DRIVER,
    *,
    libraries: Iterable[str] = tuple(EXPORTS),
    firmware: Iterable[str] = FIRMWARE,
    nanos: str | None = None,
) -> Path:
    """Write gpu_nvidia, lib*.so.VERSION and nvidia/VERSION/gsp_*.bin into `directory` (made if need be); gives it back.

    `nanos` is a Nanos version to be found in the klib. Needs gcc.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in libraries:
        make_driver_library(directory / f"{name}.so.{version}", version)
    make_klib(directory / "gpu_nvidia", nanos)
    top = directory / "nvidia" / version
    top.mkdir(parents=True, exist_ok=True)
    for name in firmware:
        (top / name).write_bytes(firmware_bytes(version))
    return directory


def make_driver_library(target: Path, version: str, *, stand_in: bool = True) -> Path:
    """One driver library, lib….so.VERSION, by its name; without the stand-in's mark it passes for a real one."""
    name = target.name.partition(".so")[0]
    functions = "\n".join(f"int {function}(void) {{ return {NO_DEVICE}; }}" for function in EXPORTS[name])
    mark = f'__attribute__((used)) static const char mark[] = "{MARK}: {name} {version}";' if stand_in else ""
    source = f'{mark}\n__attribute__((used)) static const char version[] = "{version}";\n{functions}\n'
    compile_source(target, source, "-shared", "-fPIC", f"-Wl,-soname,{name}.so.1")
    return target


def make_klib(target: Path, nanos: str | None = None, *, padding: int = 0) -> Path:
    """A klib: a shared object without a C library; `padding` bytes larger, `nanos` the Nanos version to put into it."""
    lines = [f'__attribute__((used)) static const char mark[] = "{MARK}: klib {target.name}";', "int init(void *md) {"]
    lines.append("    return md == 0;\n}")
    if nanos is not None:
        lines.append(f'__attribute__((used)) static const char nanos_version[] = "Nanos {nanos}";')
    if padding:
        lines.append(f"__attribute__((used)) static const char padding[{padding}] = {{1}};")
    compile_source(target, "\n".join(lines) + "\n", "-shared", "-fPIC", "-nostdlib")
    return target


def firmware_bytes(version: str) -> bytes:
    """A firmware file: as the real ones, a 64-bit RISC-V ELF file with a section named for the driver's version."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, _RISCV, 1) + bytes(28)
    head += struct.pack("<HHHHHH", 64, 56, 0, 64, 0, 0)
    return head + f"{MARK}: GSP firmware {version}\0{version}\0".encode()


def compile_source(target: Path, source: str, *flags: str) -> None:
    """gcc, C source on its standard input."""
    command = [
        "gcc",
        "-x",
        "c",
        "-",
        "-x",
        "none",
        "-O1",
        "-fno-builtin",
        "-Wl,--build-id=none",
        "-o",
        str(target),
        *flags,
    ]
    subprocess.run(command, input=source.encode(), check=True)


def fatbin(*entries: tuple[str, int, str, tuple[int, int]]) -> bytes:
    """A fat binary of entries (kind, sm number, suffix, PTX version), as nvcc lays it out, without any code."""
    body = b""
    for kind, sm, suffix, version in entries:
        flags = 0x11 | {"": 0, "a": 0x100000, "f": 0x200000}[suffix]
        text = f".version {version[0]}.{version[1]}\n.target sm_{sm}{suffix}\n.address_size 64\n".encode()
        data = text if kind == "ptx" else b"\x7fELF" + bytes(60)
        data += bytes(-len(data) % 8)
        numbers = (1, *reversed(version)) if kind == "ptx" else (2, 8, 1)
        head = (numbers[0], 0x101, 64, len(data), 0, 0, numbers[1], numbers[2], sm, 0, 0, flags, 0, 0)
        body += struct.pack("<HHIQIIHHIIIQQQ", *head) + data
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def make_gpu_program(
    target: Path,
    *entries: tuple[str, int, str, tuple[int, int]],
    needs: Iterable[Path] = (),
    second: tuple[tuple[str, int, str, tuple[int, int]], ...] = (),
) -> Path:
    """A program of this machine with a fat binary of `entries` in it (and a `second`), linked to `needs`."""
    data = fatbin(*entries) + (fatbin(*second) if second else b"")
    code = ", ".join(str(byte) for byte in data)
    source = f'__attribute__((used, section(".nv_fatbin"))) static const unsigned char code[] = {{{code}}};\n'
    compile_source(
        target,
        source + "int main(void) { return 0; }\n",
        *("-Wl,--no-as-needed", *(str(library) for library in needs)),
    )
    return target
