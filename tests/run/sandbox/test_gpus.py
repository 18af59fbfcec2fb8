"""GPUs of the machine: found with their driver's libraries, which stand in for the packed ones; none is said so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import EngineError
from orchestrator.run.sandbox.gpus import host_gpus, swap_driver_libraries
from tests.support.cli import orchestrator, with_devices
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


_MACHINE = """
mount -t tmpfs none /usr/local
mkdir -p /usr/local/nvidia/lib64
cp {library} /usr/local/nvidia/lib64/libcuda.so.1
mount -t tmpfs none /proc/driver
mkdir /proc/driver/nvidia
echo 'ModifyDeviceFiles: 1' > /proc/driver/nvidia/params
mount -t tmpfs none /mnt
cp -a /dev/null /dev/zero /dev/random /dev/urandom /dev/tty /dev/full /mnt
mknod -m 666 /mnt/nvidiactl c 1 5
mount --bind /mnt /dev
"""
"""A driver of ours: its node is a second /dev/zero, which tells by EROFS, ENOSYS and its number how it was reached."""

_DRIVER = r"""
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MUST(what) do { if (!(what)) { printf("not so: %s (%s)\n", #what, strerror(errno)); exit(1); } } while (0)

int main(void) {
  char text[64] = "", name[64];
  struct stat status;
  FILE *params = fopen("/proc/driver/nvidia/params", "r");
  MUST(params && fgets(text, sizeof text, params) && !strcmp(text, "ModifyDeviceFiles: 1\n"));
  MUST(!stat("/dev/nvidiactl", &status) && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 5));
  snprintf(name, sizeof name, "/proc/self/task/%d/comm", (int)syscall(SYS_gettid));
  int comm = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  MUST(comm >= 0 && write(comm, "cuda", 4) == 4);
  int node = open("/dev/nvidiactl", O_RDWR);
  MUST(node >= 0 && read(node, text, 8) == 8 && text[0] == 0);
  MUST(ioctl(node, 0xc00846d6, text) == -1 && errno == ENOTTY);
  MUST(ioctl(comm, 0xc00846d6, text) == -1 && errno == ENOSYS);
  MUST(open("/dev/null.not", O_RDWR | O_CREAT, 0666) == -1);
  MUST(open("/proc/self/comm", O_WRONLY) == -1);
  MUST(mkdir("/dev/char", 0777) == -1);
  puts("worked");
  return 0;
}
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="device nodes are made by root alone")
def test_a_program_works_its_driver_through_the_nodes_of_this_machine(packed: Packed) -> None:
    """What NVIDIA's libcuda 580 does first, in its order, as seen on a machine with an H100."""
    library = packed.program("int cuInit(unsigned flags) { return (int)flags; }", "-shared", "-fPIC")
    image = packed.image(_DRIVER)
    done = with_devices(
        _MACHINE.format(library=library), "rehearse", image, "--gpus", "--engine", "none", "--trace", "--json"
    )
    assert done.code == 0, (done.stdout, done.stderr)
    document = done.json()
    assert document["stdout"] == "worked\n" and document["swapped"] == ["libcuda.so.1"]
    assert not document["violations"]  # what a driver does there is no fault of the program


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
