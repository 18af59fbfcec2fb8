"""The native packer on a container's tar stream: the same image whatever the order, and clear ends for bad streams."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import BuildStepError, EngineError, InputError
from orchestrator.image.reader import open_image
from orchestrator.image.tree import Directory, File, Symlink
from orchestrator.nanos.packers.native import GuestPlan, NativeJob, pack_native
from orchestrator.staged import OpenArchive
from orchestrator.stub_kernel import stub_kernel

Member = tuple[str, bytes | None, str]
"""Path below /stage, a file's bytes (None: a directory, or with `link` a symbolic link), a link's text."""

TREE: list[Member] = [
    ("bin", None, ""),
    ("bin/prog", b"\x7fELF and more", ""),
    ("data", None, ""),
    ("data/now", None, "v1"),
    ("data/v1", b"\0" * 5000 + b"end", ""),
]


def archive(members: Sequence[Member], *extra: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data, link in members:
            member = tarfile.TarInfo(f"stage/{path}")
            if data is not None:
                member.size = len(data)
            else:
                member.type = tarfile.SYMTYPE if link else tarfile.DIRTYPE
                member.linkname = link
            tar.addfile(member, io.BytesIO(data or b""))
        for member in extra:
            tar.addfile(member)
    return buffer.getvalue()


def container(data: bytes) -> OpenArchive:
    @contextmanager
    def open_archive(path: str) -> Iterator[BinaryIO]:
        assert path == "/stage"
        yield io.BytesIO(data)

    return open_archive


@pytest.fixture
def job(tmp_path: Path) -> NativeJob:
    return make_job(tmp_path)


def make_job(folder: Path, **changes: object) -> NativeJob:
    release = folder / "release"
    release.mkdir(exist_ok=True)
    (release / "kernel.img").write_bytes(stub_kernel())
    values: dict[str, object] = {
        "attributes": {"program": "/bin/prog"}, "extra_files": {"etc/passwd": b"root\n", "data/v1": b"not ours"},
        "mount_points": ("workspace",), "klibs": (), "staged_klibs": False, "tfs_version": 5, "uefi": False,
        "minimum_size": 0,
    }  # fmt: skip
    return NativeJob(guest=GuestPlan(**(values | changes)), nanos=release, common=None, spool=folder)  # type: ignore[arg-type]


def packed(job: NativeJob, data: bytes, target: Path) -> bytes:
    target.touch()
    pack_native(job, container(data), target)
    return target.read_bytes()


def test_the_tree_and_what_ops_adds(job: NativeJob, tmp_path: Path) -> None:
    packed(job, archive(TREE), tmp_path / "x.img")
    with open_image(tmp_path / "x.img") as image:
        nodes = dict(image.rootfs.walk())
        contents = {
            path: b"".join(image.rootfs.read(node)) if isinstance(node, File) else getattr(node, "target", "")
            for path, node in nodes.items()
        }
        assert image.rootfs.attributes["program"] == "/bin/prog"
    assert contents["/data/v1"] == b"\0" * 5000 + b"end"  # the project's own file wins over an added one
    assert contents["/etc/passwd"] == b"root\n"
    assert isinstance(nodes["/data/now"], Symlink)
    assert contents["/data/now"] == "v1"
    assert isinstance(nodes["/workspace"], Directory)


@given(st.permutations(TREE))
def test_the_order_of_the_stream_changes_no_byte(members: list[Member]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = make_job(folder)
        assert packed(job, archive(members), folder / "a.img") == packed(job, archive(TREE), folder / "b.img")


def test_a_device_is_an_error_of_the_build(job: NativeJob, tmp_path: Path) -> None:
    device = tarfile.TarInfo("stage/dev0")
    device.type = tarfile.CHRTYPE
    with pytest.raises(BuildStepError, match="/dev0 in the staged tree is a device"):
        packed(job, archive(TREE, device), tmp_path / "x.img")


@pytest.mark.parametrize("cut", [300, 700, 1100, 2600, 7000])
def test_a_stream_that_ends_early_is_the_engines_fault(job: NativeJob, tmp_path: Path, cut: int) -> None:
    with pytest.raises(EngineError, match="the engine's archive"):
        packed(job, archive(TREE)[:cut], tmp_path / "x.img")


def test_a_klib_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(BuildStepError, match="klib gpu_nvidia is in neither"):
        packed(make_job(tmp_path, klibs=("gpu_nvidia",)), archive(TREE), tmp_path / "x.img")


def test_a_release_without_a_kernel(job: NativeJob, tmp_path: Path) -> None:
    (job.nanos / "kernel.img").unlink()
    with pytest.raises(InputError, match=r"has no kernel\.img"):
        packed(job, archive(TREE), tmp_path / "x.img")
