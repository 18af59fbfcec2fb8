"""GPUs of the machine: found with their driver's libraries, which stand in for the packed ones; none is said so."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import EngineError
from orchestrator.run.sandbox.gpus import host_gpus, swap_driver_libraries
from tests.support.cli import orchestrator
from tests.support.packed import Packed


def test_a_machine_without_a_gpu_says_so(packed: Packed) -> None:
    if any(Path("/dev").glob("nvidia[0-9]")):
        pytest.skip("this machine has a GPU")
    done = orchestrator("rehearse", packed.image("int main(void) { return 0; }"), "--gpus")
    assert done.code == 3
    assert "no NVIDIA GPU" in done.stderr and "without --gpus" in done.stderr


def test_devices_and_the_drivers_libraries_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, libraries = tmp_path / "dev", tmp_path / "lib"
    monkeypatch.setattr("orchestrator.run.sandbox.gpus._DEVICES", nodes)
    monkeypatch.setattr("orchestrator.run.sandbox.gpus._FOLDERS", (tmp_path / "absent", libraries))
    nodes.mkdir()
    libraries.mkdir()
    (nodes / "nvidia0").symlink_to("/dev/null")
    (nodes / "nvidia.txt").write_text("no device")
    with pytest.raises(EngineError, match=r"no libcuda\.so\.1"):
        host_gpus()
    (libraries / "libcuda.so.550.54.15").write_text("driver")
    (libraries / "libcuda.so.1").symlink_to("libcuda.so.550.54.15")
    (libraries / "libcudart.so.12").write_text("no part of the driver")
    gpus = host_gpus()
    assert gpus.devices == (str(nodes / "nvidia0"),)
    assert [library.name for library in gpus.libraries] == ["libcuda.so.1", "libcuda.so.550.54.15"]


def test_the_machines_libraries_take_the_place_of_the_packed_ones(tmp_path: Path) -> None:
    tree, host = tmp_path / "tree", tmp_path / "libcuda.so.1"
    packed = tree / "lib/x86_64-linux-gnu"
    packed.mkdir(parents=True)
    for name in ("libcuda.so.1", "libcuda.so.535.113.01", "libnvidia-ml.so.1", "libcudart.so.12"):
        (packed / name).write_text("packed")
    host.write_text("host")
    assert swap_driver_libraries(tree, [host]) == ("libcuda.so.1",)
    assert {path.name: path.read_text() for path in packed.iterdir()} == {
        "libcuda.so.1": "host",
        "libcudart.so.12": "packed",
    }


def test_a_link_in_the_image_leads_into_the_image(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    tree.mkdir()
    outside.mkdir()
    (tree / "lib").symlink_to(outside)
    (tmp_path / "libcuda.so.1").write_text("host")
    swap_driver_libraries(tree, [tmp_path / "libcuda.so.1"])
    assert not list(outside.iterdir())
    assert (tree / str(outside).lstrip("/") / "x86_64-linux-gnu/libcuda.so.1").read_text() == "host"
