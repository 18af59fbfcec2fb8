"""Stand-ins for the GPU assets (klib, NVIDIA's libraries, firmware), which can't be had here: real ELF files with the
real names and sonames, and the project's stand-in mark in each."""

from __future__ import annotations

import subprocess
from pathlib import Path

MARK = "GEVULOT-ORCHESTRATOR-STAND-IN"
DRIVER = "580.65.06"
"""A driver of the branch that CUDA 13.0 came with."""
LIBRARIES = ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler")
FIRMWARE = ("gsp_ga10x.bin", "gsp_tu10x.bin")


def make_gpu_assets(directory: Path, version: str = DRIVER) -> Path:
    """The files of one driver version in `directory`, laid out as in the vendor's archive below its top folder."""
    firmware = directory / "nvidia" / version
    firmware.mkdir(parents=True)
    for name in FIRMWARE:
        (firmware / name).write_bytes(f"{MARK} GSP firmware {version}\0".encode())
    for name in LIBRARIES:
        _compile(directory / f"{name}.so.{version}", name, version, "-shared", "-fPIC", f"-Wl,-soname,{name}.so.1")
    _compile(directory / "gpu_nvidia", "klib gpu_nvidia", version, "-c")
    return directory


def _compile(output: Path, name: str, version: str, *options: str) -> None:
    source = f'const char stand_in[] = "{MARK} {name} {version}"; const char *mark(void) {{ return stand_in; }}\n'
    subprocess.run(["gcc", "-x", "c", *options, "-o", str(output), "-"], input=source.encode(), check=True)
