"""Images started by QEMU, as a user does it: the stub's line, what doesn't boot, what doesn't end; the image stays."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from orchestrator import stub_kernel as stub
from orchestrator.doctor import check_host
from orchestrator.engine.select import EngineSurvey
from orchestrator.errors import VerificationError
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.nanos.machine import boot, command, explain
from orchestrator.run.qemu.accelerator import TCG, Accelerator, choose, failure
from orchestrator.run.qemu.machine import QemuMachine
from tests.support.cli import OUTCOME, ROOT, orchestrator
from tests.support.receipts import receipt_text

ENDLESS = b"\xeb\xfe"  # jmp to itself


def make_image(path: Path, boot_img: bytes = b"") -> Path:
    with ImageWriter(path, BootFiles(boot_img=boot_img or stub.stub_boot_image(), kernel=stub.stub_kernel())) as writer:
        writer.add_file("/prog", 4, [b"prog"])
        writer.finish({"program": "/prog"})
    return path


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A stub image with commas and spaces in its name; it must be the same afterwards."""
    path = make_image(tmp_path / "a, b.img")
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before


def make_receipt(image: Path, checksum: str = "") -> Path:
    receipt = image.with_suffix(".receipt.json")
    resources = {"cpus": 2, "memory": 64, "gpus": 0}
    # `later`: what a version after this one writes besides.
    checksum = checksum or blake3(image.read_bytes()).hexdigest()
    receipt.write_text(receipt_text("prog", checksum, resources=resources, later={"x": [1]}))
    return receipt


def test_the_stubs_line_is_read_and_it_is_no_success_of_the_program(image: Path) -> None:
    done = orchestrator("boot", image, "--accel", "tcg", "--memory", "64", "--timeout", "100")
    assert done.code == 7
    assert stub.MESSAGE in done.stdout
    assert "the stub kernel ran: it is not Nanos" in done.stderr


def test_a_smoke_test_passes_and_stands_in_the_receipt(image: Path) -> None:
    receipt = make_receipt(image)
    before = json.loads(receipt.read_text())
    done = orchestrator("boot", image, "--smoke", "--json", "--timeout", "100")
    assert done.code == 0, done.stderr
    document = done.json()
    assert document["ok"] and document["recorded"] and stub.MESSAGE in document["log"]
    assert (document["end"], document["exit_code"]) == ("stub", None)
    assert document.keys() > OUTCOME
    kept = json.loads(receipt.read_text())
    assert {key: value for key, value in kept.items() if key != "smoke"} == before
    assert kept["smoke"]["passed"] is True
    assert "not Nanos" in kept["smoke"]["reason"]
    assert kept["smoke"]["accel"] == document["accel"]


def test_a_receipt_of_another_image_is_left_alone(image: Path) -> None:
    receipt = make_receipt(image, "0" * 64)
    before = receipt.read_bytes()
    done = orchestrator("boot", image, "--smoke", "--accel", "tcg", "--timeout", "100")
    assert (done.code, receipt.read_bytes()) == (0, before)
    assert "is of another image" in done.stderr


def test_no_boot_code_is_said_before_anything_starts(tmp_path: Path) -> None:
    image = make_image(tmp_path / "none.img")
    with image.open("r+b") as file:
        file.write(bytes(440))
    done = orchestrator("boot", image)
    assert done.code == 6
    assert "has no boot code" in done.stderr


def test_a_truncated_image_is_refused(image: Path) -> None:
    short = image.with_name("short.img")
    short.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    done = orchestrator("boot", short, "--json")
    assert done.code == 6
    assert done.json()["error"]


def test_one_that_never_ends_is_stopped(tmp_path: Path) -> None:
    image = make_image(tmp_path / "endless.img", ENDLESS + stub.stub_boot_image()[len(ENDLESS) :])
    began = time.monotonic()
    done = orchestrator("boot", image, "--smoke", "--timeout", "4")
    assert done.code == 7
    assert "did not end within 4 s, and was stopped" in done.stderr
    assert "smoke test failed" in done.stdout
    assert time.monotonic() - began < 60


def test_an_interrupted_boot_leaves_no_machine(tmp_path: Path) -> None:
    image = make_image(tmp_path / "endless.img", ENDLESS + stub.stub_boot_image()[len(ENDLESS) :])
    arguments: list[str | Path] = [sys.executable, "-m", "orchestrator", "boot", image, "--accel", "tcg"]
    with subprocess.Popen(arguments, cwd=ROOT) as running:
        deadline = time.monotonic() + 60
        while not machines(image) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert machines(image)
        running.send_signal(2)
        assert running.wait(60) == 130
    assert not machines(image)


def machines(image: Path) -> list[str]:
    """Command lines of running QEMUs with this image."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if line.startswith(("qemu-system", "/usr/bin/qemu-system")) and str(image) in line:
            lines.append(line)
    return lines


def test_the_probe_runs_emulated() -> None:
    assert failure("qemu-system-x86_64", TCG) == ""
    assert "invalid accelerator" in failure("qemu-system-x86_64", Accelerator(name="warp", cpu="max"))


def test_auto_boots_with_what_the_probe_found(image: Path) -> None:
    done = orchestrator("boot", image, "--smoke", "--json", "--timeout", "100")
    assert done.json()["accel"] == choose("qemu-system-x86_64").name
    asked = orchestrator("boot", image, "--smoke", "--accel", "kvm", "--timeout", "100")
    assert asked.code == (0 if choose("qemu-system-x86_64").name == "kvm" else 3), asked.stderr


@pytest.mark.parametrize(("works", "status", "accel"), [(True, "ok", "kvm"), (False, "absent", "tcg")])
def test_doctor_says_of_kvm_what_boot_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool, status: str, accel: str
) -> None:
    """Also where /dev/kvm is there and does not work, as in some nested machines."""
    qemu = tmp_path / "qemu-system-x86_64"
    qemu.write_text(f"#!/bin/sh\ncase $* in *--version*) echo QEMU 1;; *) exit {85 if works else 1};; esac\n")
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("orchestrator.doctor.candidates", lambda: EngineSurvey(findings=(), answering=()))
    (kvm,) = [check for check in check_host().checks if check.name == "kvm"]
    assert (kvm.status, choose(str(qemu)).name) == (status, accel)


def test_exit_statuses() -> None:
    ends = {status: explain(status, 9) for status in (1, 0, 7, 255, None, -9)}
    assert {status: (outcome.ok, outcome.end, outcome.exit_code) for status, outcome in ends.items()} == {
        1: (True, "exit", 0),
        0: (True, "powered-off", None),
        7: (False, "exit", 3),
        255: (False, "guest", 0x7F),
        None: (False, "timeout", None),
        -9: (False, "emulator", None),
    }
    assert ends[255].reason == "the kernel halted"


def test_the_nodes_devices(tmp_path: Path) -> None:
    machine = QemuMachine(image=tmp_path / "x.img", memory=300, cpus=3, workspace=tmp_path, vsock=7)
    line = " ".join(command("qemu", machine, TCG))
    for words in ("q35", "-smp 3 -m 300M", "scsi-hd", "snapshot=on", "isa-debug-exit", "virtio-rng-pci", "-nic none",
                  "mount_tag=0", "vhost-vsock-pci,guest-cid=7"):  # fmt: skip
        assert words in line


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.img").write_bytes(bytes(4096))
    with pytest.raises(VerificationError):
        boot(QemuMachine(image=tmp_path / "x.img"), lambda _data: None)
