"""The launcher's bytes: what becomes the program of a rehearsal. The source is launcher.asm beside this file."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

FOLDER: Final = "/.rehearse"
"""Where the launcher and the supervisor's socket lie in the file tree that the program sees."""
_BASE: Final = 0x400000
_SIZES_AT: Final = 64 + 32  # p_filesz and p_memsz of the only program header
_PARAMETERS: Final = 48

# A test assembles launcher.asm and compares.
CODE: Final = bytes.fromhex(
    """
    7f454c4602010100000000000000000002003e00010000007800400000000000400000000000000000000000000000000000000040003800
    0100400000000000010000000700000000000000000000000000400000000000000040000000000000000000000000000000000000000000
    0010000000000000c60425d002400001b829000000bf01000000be0500080031d2e8330100004989c4b82a0000004c89e7bee8024000ba14
    000000e819010000b839000000e80f0100004885c074434889c7b83d000000bedc02400031d24531d2e8f3000000b8010000004c89e7bed8
    024000ba0c0000000f0531c04c89e7bee4024000ba010000000f0531ffe9f6000000b89d000000bf26000000be0100000031d24531d24531
    c0e8ab000000b83d010000bf01000000be08000000ba00034000e89200000089042558024000b82e0000004c89e7be0002400031d2e87700
    0000b82f0000004c89e7be60024000ba00000040e860000000b8210000008b3c25b8024000be01000000e84a000000b8210000008b3c25bc
    024000be02000000e834000000b850000000488b3c2528034000e822000000b83b000000488b3c2510034000488b342518034000488b1425
    20034000e8000000000f05fe0425d00240004885c07801c3890425d4024000b8010000004c89e7becc024000ba0c0000000f05bf7d000000
    b8e70000000f0590000000000000000000000000000000003802400000000000010000000000000048024000000000001800000000000000
    0000000000000000c0024000000000000c000000000000001400000000000000010000000100000000000000000000000000000000000000
    000000000000000098024000000000000100000000000000a80240000000000018000000000000000000000000000000e402400000000000
    01000000000000000000000000000000000000000000000000000000000000004c0000000000000000000000460000000000000000000000
    5300000000000000000000000000000001002f2e72656865617273652f736f636b65740090909090
    """
)

STEPS: Final = (
    "", "", "make a socket", "reach the supervisor", "fork", "give up new privileges", "install the filter",
    "send the filter's listener", "hear the go", "set stdout", "set stderr", "enter the working directory",
    "start the program",
)  # fmt: skip
"""What the launcher was doing, by the number in its message of failure (from 2)."""


def launcher(
    *, filter_program: bytes, path: bytes, arguments: Sequence[bytes], environment: Mapping[bytes, bytes], cwd: bytes
) -> bytes:
    """An executable for x86-64 that runs `path` with exactly these `arguments` (argv[0] first) and `environment`.

    `filter_program` is classic BPF, 8 bytes an instruction.
    """
    start = _BASE + len(CODE) + _PARAMETERS
    variables = [name + b"=" + value for name, value in environment.items()]
    texts = [path, cwd, *arguments, *variables]
    pointers = 8 * (len(arguments) + len(variables) + 2)
    address, places = start + len(filter_program) + pointers, []
    for text in texts:
        places.append(address)
        address += len(text) + 1
    argv = [*places[2 : 2 + len(arguments)], 0]
    envp = [*places[2 + len(arguments) :], 0]
    argv_at = start + len(filter_program)
    header = struct.pack("<6Q", len(filter_program) // 8, start, places[0], argv_at, argv_at + 8 * len(argv), places[1])
    tail = header + filter_program + struct.pack(f"<{len(argv) + len(envp)}Q", *argv, *envp)
    tail += b"".join(text + b"\0" for text in texts)
    size = len(CODE) + len(tail)
    return CODE[:_SIZES_AT] + struct.pack("<2Q", size, size) + CODE[_SIZES_AT + 16 :] + tail
