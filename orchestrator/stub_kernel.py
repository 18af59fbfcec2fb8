"""The stub kernel: a boot image and a kernel file of our own, for where the vendor's release can't be had.

A machine that boots it prints one line to COM1 and stops (QEMU with isa-debug-exit ends with status
STUB_EXIT_STATUS). It runs no program, and images say so. The sources are stub_boot.asm and stub_kernel.asm beside this
file; `make check` assembles them and compares the bytes.
"""

from __future__ import annotations

import struct
from typing import Final

MARKER: Final = b"gevulot-orchestrator-stub-kernel"
MESSAGE: Final = "gevulot-orchestrator stub kernel: NOT Nanos; the program was not run"
STUB_EXIT_STATUS: Final = 181  # (0x5a << 1) | 1, isa-debug-exit's way of passing on a byte
_STAGE2_SIZE: Final = 512

# (machine code, assembly), 16 bits, at 0000:7c00.
_CODE: Final = (
    ("fa", "cli"),
    ("fc", "cld"),
    ("31c0", "xor ax, ax"),
    ("8ed8", "mov ds, ax"),
    ("8ed0", "mov ss, ax"),
    ("bc007c", "mov sp, 0x7c00"),
    ("ea107c0000", "jmp 0:serial"),
    ("baf903", "serial: mov dx, COM1 + 1"),
    ("30c0", "xor al, al"),
    ("ee", "out dx, al"),
    ("bafb03", "mov dx, COM1 + 3"),
    ("b080", "mov al, 0x80"),
    ("ee", "out dx, al"),
    ("baf803", "mov dx, COM1"),
    ("b001", "mov al, 1"),
    ("ee", "out dx, al"),
    ("42", "inc dx"),
    ("30c0", "xor al, al"),
    ("ee", "out dx, al"),
    ("bafb03", "mov dx, COM1 + 3"),
    ("b003", "mov al, 3"),
    ("ee", "out dx, al"),
    ("4a", "dec dx"),
    ("b007", "mov al, 7"),
    ("ee", "out dx, al"),
    ("bafc03", "mov dx, COM1 + 4"),
    ("b003", "mov al, 3"),
    ("ee", "out dx, al"),
    ("be6d7c", "mov si, message"),
    ("ac", "next: lodsb"),
    ("84c0", "test al, al"),
    ("740f", "jz drain"),
    ("88c4", "mov ah, al"),
    ("b320", "mov bl, 0x20"),
    ("e81d00", "call wait_for"),
    ("88e0", "mov al, ah"),
    ("baf803", "mov dx, COM1"),
    ("ee", "out dx, al"),
    ("ebec", "jmp next"),
    ("b340", "drain: mov bl, 0x40"),
    ("e81000", "call wait_for"),
    ("ba0105", "mov dx, DEBUG_EXIT"),
    ("b05a", "mov al, DEBUG_VALUE"),
    ("ee", "out dx, al"),
    ("ba0406", "mov dx, PM1A_CONTROL"),
    ("b80020", "mov ax, 0x2000"),
    ("ef", "out dx, ax"),
    ("f4", "stop: hlt"),
    ("ebfd", "jmp stop"),
    ("31c9", "xor cx, cx"),
    ("bafd03", "mov dx, COM1 + 5"),
    ("ec", ".again: in al, dx"),
    ("84d8", "test al, bl"),
    ("e1fb", "loopz .again"),
    ("c3", "ret"),
)

_KERNEL_CODE: Final = (
    ("fa", "cli"),
    ("f4", ".stop: hlt"),
    ("ebfd", "jmp .stop"),
)


def stub_boot_image() -> bytes:
    """boot.img: the boot sector with its region record, and a stage 2 that is only a marker (1024 bytes)."""
    code = bytes.fromhex("".join(machine for machine, _ in _CODE)) + b"\r\n" + MESSAGE.encode() + b"\r\n\0"
    region = struct.pack("<QQI", 0x8000, _STAGE2_SIZE, 12)
    sector = code.ljust(426, b"\0") + region + bytes(64) + b"\x55\xaa"
    stage2 = MARKER + b": this is no second stage; see the boot sector"
    return sector + stage2.ljust(_STAGE2_SIZE, b"\0")


def stub_kernel() -> bytes:
    """kernel.img: a valid ELF64 executable for x86-64 that halts at once (192 bytes)."""
    code = bytes.fromhex("".join(machine for machine, _ in _KERNEL_CODE))
    code += MARKER + b": NOT Nanos; the program is not run\0"
    base, start = 0x400000, 64 + 56
    size = start + len(code)
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 64, 0, 0,
    )  # fmt: skip
    program = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return header + program + code
