"""The CUDA toolkit from Python packages: an index on this machine that pip really asks, wheels made here."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from orchestrator.digest import file_digests
from orchestrator.errors import InputError
from orchestrator.inputs.access import Access
from orchestrator.inputs.cuda import add_toolkit
from orchestrator.inputs.store import Store
from orchestrator.project.build_step import Build
from orchestrator.project.project import Project

EPOCH = 1_577_836_800
EXTRAS = ("cccl", "crt", "cudart", "nvcc", "nvvm")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing on the test's output."""


def wheel(index: Path, name: str, version: str, files: dict[str, bytes], needs: tuple[str, ...] = ()) -> None:
    package = name.replace("-", "_")
    info = f"{package}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    lines += [
        f'Provides-Extra: {extra}\nRequires-Dist: {need}; extra == "{extra}"\n' for need in needs for extra in EXTRAS
    ]
    (index / name).mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(index / name / f"{package}-{version}-py3-none-manylinux2014_x86_64.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/METADATA", "".join(lines))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-manylinux2014_x86_64\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    directory = tmp_path / "index"
    nvcc = {
        "nvidia/cu13/bin/nvcc": b"nvcc", "nvidia/cu13/nvvm/bin/cicc": b"cicc", "nvidia/cu13/.metadata/x": b"",
        "nvidia/cu13/../../../../etc/passwd": b"no",
    }  # fmt: skip
    runtime = {"nvidia/cu13/include/cuda.h": b"h", "nvidia/cu13/lib/libcudart.so.13": b"runtime"}
    wheel(directory, "nvidia-cuda-nvcc", "13.0.88", nvcc)
    wheel(directory, "nvidia-cuda-runtime", "13.0.96", runtime)
    wheel(directory, "cuda-toolkit", "13.0.2", {}, ("nvidia-cuda-nvcc==13.0.*", "nvidia-cuda-runtime==13.0.*"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=directory))
    Thread(target=server.serve_forever, daemon=True).start()
    yield directory, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def base_tar(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("./etc/hostname")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"name"))
    return path


def test_the_layout_is_nvidias_and_the_bytes_are_the_same_each_time(tmp_path: Path, index: tuple[Path, str]) -> None:
    access = Access(store=Store(tmp_path / "cache"), mirrors={"pypi:": index[1]})
    digests = []
    for name in ("one.tar", "two.tar"):
        tar = base_tar(tmp_path / name)
        packages = add_toolkit(access, "13.0.2", tar, (), EPOCH)
        digests.append(file_digests(tar).sha256)
    assert digests[0] == digests[1]
    assert [package.partition(" ")[0] for package in packages] == [
        "pypi:cuda-toolkit=13.0.2", "pypi:nvidia-cuda-nvcc=13.0.88", "pypi:nvidia-cuda-runtime=13.0.96",
    ]  # fmt: skip
    with tarfile.open(tmp_path / "one.tar") as archive:
        members = {member.name.removeprefix("./"): member for member in archive}
        library = archive.extractfile("./usr/local/cuda-13.0/targets/x86_64-linux/lib/libcudart.so.13.0.96")
        assert library is not None and library.read() == b"runtime"
    home = "usr/local/cuda-13.0"
    links = {name: member.linkname for name, member in members.items() if member.issym()}
    assert links == {
        "usr/local/cuda": "cuda-13.0",
        f"{home}/include": "targets/x86_64-linux/include",
        f"{home}/lib64": "targets/x86_64-linux/lib",
        f"{home}/targets/x86_64-linux/lib/libcudart.so": "libcudart.so.13.0.96",
        f"{home}/targets/x86_64-linux/lib/libcudart.so.13": "libcudart.so.13.0.96",
    }
    assert members[f"{home}/bin/nvcc"].mode == members[f"{home}/nvvm/bin/cicc"].mode == 0o755
    assert members[f"{home}/targets/x86_64-linux/include/cuda.h"].mode == 0o644
    assert "etc/hostname" in members and not any(".." in name or "metadata" in name for name in members)


def test_what_a_lock_names_is_taken_or_refused(tmp_path: Path, index: tuple[Path, str]) -> None:
    access = Access(store=Store(tmp_path / "cache"), mirrors={"pypi:": index[1]})
    packages = add_toolkit(access, "13.0.2", base_tar(tmp_path / "first.tar"), (), EPOCH)
    wheel(index[0], "nvidia-cuda-nvcc", "13.0.99", {"nvidia/cu13/bin/nvcc": b"newer"})
    assert add_toolkit(access, "13.0.2", base_tar(tmp_path / "again.tar"), packages, EPOCH) == packages
    newer = add_toolkit(access, "13.0.2", base_tar(tmp_path / "newer.tar"), (), EPOCH)
    assert newer[1].startswith("pypi:nvidia-cuda-nvcc=13.0.99 ")
    wheel(index[0], "nvidia-cuda-nvcc", "13.0.88", {"nvidia/cu13/bin/nvcc": b"other bytes"})
    with pytest.raises(InputError) as caught:
        add_toolkit(access, "13.0.2", base_tar(tmp_path / "other.tar"), packages, EPOCH)
    assert "the index has other files now" in (caught.value.remedy or "")


def test_a_version_that_is_not_there_and_one_without_a_compiler(tmp_path: Path, index: tuple[Path, str]) -> None:
    access = Access(store=Store(tmp_path / "cache"), mirrors={"pypi:": index[1]})
    tar = base_tar(tmp_path / "base.tar")
    with pytest.raises(InputError, match=r"failed to download CUDA 13\.9\.9") as caught:
        add_toolkit(access, "13.9.9", tar, (), EPOCH)
    assert "13.9.9 is a release" in (caught.value.remedy or "")
    with pytest.raises(InputError, match=r"have no nvcc"):
        add_toolkit(access, "12.2.2", tar, (), EPOCH)


@pytest.mark.parametrize(("version", "made"), [("13.0.2", "13.0.2"), ("12.2.2", None)])
def test_cuda_13_has_a_way_without_a_registry(version: str, made: str | None) -> None:
    base = Project(name="p", build=Build(run="make", program="p"), cuda=version).program_base
    assert base.image.endswith(f"cuda:{version}-devel-ubuntu22.04")
    assert (base.bootstrap.cuda if base.bootstrap else None) == made
