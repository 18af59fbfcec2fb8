"""The guest's table: whole, and used by `verify` and docs as by `rehearse`."""

from __future__ import annotations

import struct

import pytest

from orchestrator.guest.page import markdown
from orchestrator.guest.table import Guest, call_numbers, guest_of
from orchestrator.run.sandbox.bpf import filter_program
from tests.support.cli import orchestrator
from tests.support.packed import Packed

ALLOW, NOTIFY, ERRNO, ENOSYS = 0x7FFF0000, 0x7FC00000, 0x50000, 38
X86_64, I386 = 0xC000003E, 0x40000003


@pytest.fixture
def guest() -> Guest:
    """The only version that has a table."""
    return guest_of("0.1.51")


def test_every_name_is_a_call(guest: Guest) -> None:
    known = call_numbers().keys()
    assert guest.calls <= known
    assert guest.quiet <= known - guest.calls
    for row in guest.ignored:
        assert set(row.calls) <= guest.calls
    assert {row.call for row in guest.arguments} <= guest.calls
    assert len(guest.calls) == 187  # handlers that the kernel registers


@pytest.mark.parametrize(("version", "table"), [("0.1.51", "0.1.51"), ("0.1.54", "0.1.51"), ("0.1.40", "0.1.51"),
                                                (None, "0.1.51"), ("nightly", "0.1.51")])  # fmt: skip
def test_the_nearest_version_is_taken(version: str | None, table: str) -> None:
    assert guest_of(version).version == table


def test_what_was_mended_stops_no_newer_guest(guest: Guest) -> None:
    assert guest.stop("unlink-open", "0.1.52") is not None
    assert guest.stop("unlink-open", "0.1.53") is None
    assert guest.stop("statfs", "0.1.53") is not None


def test_the_document_has_every_row(guest: Guest) -> None:
    text = markdown(guest)
    for words in ("`memfd_create`", "statfs of /workspace", "`madvise`", "`/proc/meminfo`", "MADV_DONTNEED", "EINVAL"):
        assert words in text
    for row in text.splitlines():
        assert not row.startswith("|") or row.endswith(" |")


def test_verify_notes_what_is_answered_differently(packed: Packed) -> None:
    source = "#include <sys/statvfs.h>\n#include <sys/mman.h>\n"
    image = packed.image(f'{source}int main(void) {{ struct statvfs s; return statvfs("/", &s) + madvise(0, 0, 4); }}')
    said = orchestrator("verify", image, "--json").stdout
    assert "program uses statvfs, which Nanos answers differently" in said
    assert "program uses madvise, which Nanos answers differently" in said


def run(program: bytes, number: int, *arguments: int, machine: int = X86_64) -> int:
    """What a filter returns for a call: a small interpreter of classic BPF."""
    data = struct.pack("<iIQ6Q", number, machine, 0, *(arguments + (0,) * 6)[:6])
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    value, at = 0, 0
    while True:
        operation, yes, no, k = code[at]
        at += 1
        match operation:
            case 0x20:
                value = struct.unpack_from("<I", data, k)[0]
            case 0x54:
                value &= k
            case 0x05:
                at += k
            case 0x06:
                return int(k)
            case _:
                holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[operation]
                at += yes if holds else no


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("read", (), ALLOW),
        ("restart_syscall", (), ALLOW),
        ("openat", (), NOTIFY),
        ("newfstatat", (3, 0, 0, 0x1000), ALLOW),
        ("newfstatat", (3, 0, 0, 0x100), NOTIFY),
        ("rseq", (), ERRNO | ENOSYS),
        ("clone3", (), ERRNO | ENOSYS),
        ("memfd_create", (), NOTIFY),
        ("chmod", (), ERRNO),
        ("madvise", (), ERRNO),
        ("clone", (0x10100,), ALLOW),
        ("clone", (0x100,), NOTIFY),
        ("futex", (0, 129), ALLOW),
        ("futex", (0, 134), NOTIFY),
        ("mmap", (0, 0, 0, 0x22), ALLOW),
        ("mmap", (0, 0, 0, 0x122), NOTIFY),
        ("prctl", (15,), ALLOW),
        ("prctl", (22,), ERRNO),
        ("lseek", (0, 0, 3), ERRNO | 22),
        ("sendto", (3, 0, 0, 0, 0), ALLOW),
        ("sendto", (3, 0, 0, 0, 0x7000), NOTIFY),
    ],
)
def test_the_filter(guest: Guest, name: str, arguments: tuple[int, ...], answer: int) -> None:
    asked = ("openat", "newfstatat", "clone", "sendto", "execve")
    program = filter_program(guest, asked, in_container=False)
    assert run(program, call_numbers()[name], *arguments) == answer


def test_nothing_that_the_guest_lacks_gets_through(guest: Guest) -> None:
    for in_container in (False, True):
        program = filter_program(guest, ("execve",), in_container=in_container)
        assert len(program) // 8 < 4096
        lacking = [number for name, number in call_numbers().items() if name not in guest.calls | {"restart_syscall"}]
        for number in [*lacking, 1000, 0x40000000, 0x40000001, 0xFFFFFFFF]:
            signed = number - (1 << 32) if number >= 1 << 31 else number
            assert run(program, signed) in (NOTIFY, ERRNO | ENOSYS)
        assert run(program, 0, machine=I386) == ERRNO | ENOSYS
        mount = ERRNO | ENOSYS if in_container else NOTIFY
        assert run(program, call_numbers()["mount"]) == mount  # an engine's own EPERM would go before a question
