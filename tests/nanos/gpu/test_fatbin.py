"""The fat binary reader against cuobjdump, and against bytes that nobody's compiler made."""

from __future__ import annotations

import io
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.nanos.gpu.fatbin import FatbinError, lz4_start, read_gpu_code
from tests.support.cuda import cuda_tree
from tests.support.gpu_trees import make_gpu_program

pytestmark = pytest.mark.slow  # compiles with CUDA of PyPI, a download of hundreds of MB
SOURCE = """#include <cuda_runtime.h>
__global__ void k(int *p) { p[threadIdx.x] = threadIdx.x * 3; }
int main() { int *p; cudaMalloc(&p, 128); k<<<1, 32>>>(p); return (int)cudaDeviceSynchronize(); }
"""


def gencode(*pairs: str) -> tuple[str, ...]:
    return tuple(f"-gencode=arch=compute_{pair.split(':')[0]},code={pair.split(':')[1]}" for pair in pairs)


MIXED = gencode("86:sm_86", "90a:sm_90a", "100f:sm_100f", "100a:[sm_100a,compute_100a]", "80:compute_80")
LISTS: dict[str, tuple[str, ...]] = {
    **{f"sm_{n}": (f"-arch=sm_{n}",) for n in ("75", "80", "86", "87", "88", "89", "90", "90a")},
    **{f"sm_{n}": (f"-arch=sm_{n}",) for n in ("100", "100a", "100f", "103a", "110f", "120", "120a", "121f")},
    "PTX only": gencode("80:compute_80", "90a:compute_90a", "120f:compute_120f"),
    "SASS only": gencode("75:sm_75", "86:sm_86"),
    "all": ("-arch=all",),
    "all-major": ("-arch=all-major",),
    "mixed": MIXED,
    "mixed, rdc": (*MIXED, "-rdc=true"),
    "object": (*MIXED, "-rdc=true", "-c"),
    "shared runtime": (*MIXED, "-cudart", "shared"),
    "lto": ("-dlto", "-arch=sm_86", "-c"),
    **{f"compressed for {mode}": (*MIXED, f"--compress-mode={mode}") for mode in ("none", "size", "speed", "balance")},
    "fatbinary compresses all": (*MIXED, "-Xfatbin", "-compress-all"),
}


@pytest.mark.parametrize("name", LISTS)
def test_agrees_with_cuobjdump(tmp_path: Path, name: str) -> None:
    cuda = cuda_tree()
    (tmp_path / "k.cu").write_text(SOURCE)
    command: list[str | Path] = [cuda / "bin/nvcc", *LISTS[name], "-o", "made", "k.cu"]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    listing = subprocess.run(
        [cuda / "bin/cuobjdump", "--list-elf", "--list-ptx", "made"], cwd=tmp_path, capture_output=True, text=True
    )
    # cuobjdump leaves the f of a family's cubin out.
    expected = Counter(
        (kind, target.removesuffix("f") if kind == "ELF" else target)
        for kind, target in re.findall(r"^(ELF|PTX) file +\d+: .*?\.sm_(\d+[af]?)\.", listing.stdout, re.MULTILINE)
    )
    with (tmp_path / "made").open("rb") as stream:
        code = read_gpu_code(stream)
    entries = Counter(
        ("PTX", f"{entry.sm}{entry.suffix}")
        if entry.kind == "ptx"
        else ("ELF", f"{entry.sm}{entry.suffix}".rstrip("f"))
        for entry in code
        if entry.kind != "lto"
    )
    assert entries == expected and entries
    assert {entry.ptx_version for entry in code if entry.kind == "ptx"} <= {(9, 0)}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("program") / "prog"
    entries = [("sass", 86, "", (0, 0)), ("ptx", 90, "a", (8, 0))]
    return make_gpu_program(path, *entries).read_bytes()


@given(data=st.data())
def test_damaged_bytes_are_one_error(program: bytes, data: st.DataObject) -> None:
    damaged = bytearray(program)
    start = program.index(b"\x50\xed\x55\xba")
    places = st.one_of(
        st.integers(start, start + 200), st.integers(0, 63), st.integers(len(program) - 1900, len(program) - 1)
    )
    for place in data.draw(st.lists(places, max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for given_bytes in (bytes(damaged), bytes(damaged[:cut])):
        try:
            read_gpu_code(io.BytesIO(given_bytes))
        except FatbinError as problem:
            assert problem.message


@given(st.binary(max_size=400), st.integers(0, 500))
def test_any_lz4_stays_within_its_limit(data: bytes, limit: int) -> None:
    assert len(lz4_start(data, limit)) <= limit
