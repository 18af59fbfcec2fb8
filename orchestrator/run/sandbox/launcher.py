"""The launcher's bytes: what becomes the program of a rehearsal. The source is launcher.asm beside this file."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FOLDER: Final = "/.rehearse"
"""Where the launcher and the supervisor's socket lie in the file tree that the program sees."""
_BASE: Final = 0x400000
_SIZES_AT: Final = 64 + 32  # p_filesz and p_memsz of the only program header
_PARAMETERS: Final = 56

# `make check` assembles launcher.asm and compares.
CODE: Final = bytes.fromhex(
    """
    7f454c4602010100000000000000000002003e00010000007800400000000000400000000000000000000000000000000000000040003800
    0100400000000000010000000700000000000000000000000000400000000000000040000000000000000000000000000000000000000000
    0010000000000000c60425b80340000141bc0300000048833c24017532b829000000bf01000000be0500080031d2e8080200004989c4b82a
    0000004c89e7bef0034000ba1b000000e8ee010000eb1eb8480000004489e7be02000000ba01000000e8d5010000fe0425b80340004531ed
    b89d000000bf180000004489ee0f0541ffc54183fd4072e8b89d000000bf1c000000beef0000000f05b89d000000bf2f000000be04000000
    31d24531d24531c00f05b87e000000bfd0034000bed8034000e8750100004531edb89d000000bf170000004489ee0f0583f801b8ffffffff
    0f846401000041ffc54183fd4072dab839000000e8420100004885c074544989c5b89d000000bf0400000031f60f054c89efb83d000000be
    c403400031d24531d2e815010000b8010000004c89e7bec0034000ba0c0000000f0531c04c89e7becc034000ba010000000f0531ffe91801
    00004c8b2c2540044000498b7d004885ff7811b8a0000000498d75080f054983c518ebe6b89d000000bf26000000be0100000031d24531d2
    4531c0e8ab000000b83d010000bf01000000be08000000ba10044000e89200000089042540034000b82e0000004c89e7bee802400031d2e8
    77000000b82f0000004c89e7be48034000ba00000040e860000000b8210000008b3c25a0034000be01000000e84a000000b8210000008b3c
    25a4034000be02000000e834000000b850000000488b3c2538044000e822000000b83b000000488b3c2520044000488b342528044000488b
    142530044000e8000000000f05fe0425b80340004885c07801c3890425bc034000b8010000004c89e7beb4034000ba0c0000000f05bf7d00
    0000b8e70000000f059090909090909000000000000000000000000000000000200340000000000001000000000000003003400000000000
    18000000000000000000000000000000a8034000000000000c00000000000000140000000000000001000000010000000000000000000000
    0000000000000000000000000000000080034000000000000100000000000000900340000000000018000000000000000000000000000000
    cc0340000000000001000000000000000000000000000000000000000000000000000000000000004c000000000000000000000046000000
    0000000000000000530000000000000000000000000000002205082000000000000000000000000000000000000000000000000000000000
    01002f2e72656865617273652f736f636b65742f736f636b6574009090909090
    """
)

STEPS: Final = (
    "", "", "make a socket", "reach the supervisor", "drop its capabilities", "fork", "give up new privileges",
    "install the filter", "send the filter's listener", "hear the go", "set stdout", "set stderr",
    "enter the working directory", "start the program",
)  # fmt: skip
"""What the launcher was doing, by the number in its message of failure (from 2)."""


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """What the launcher becomes: `path` with exactly these `arguments` (argv[0] first) and `environment`, in `cwd`,
    under a filter (classic BPF, 8 bytes an instruction) and `limits` (RLIMIT_… to the most)."""

    filter_program: bytes
    path: bytes
    arguments: Sequence[bytes]
    environment: Mapping[bytes, bytes]
    cwd: bytes
    limits: Mapping[int, int]


def launcher(started: LaunchSettings) -> bytes:
    """An executable for x86-64 that drops every capability and becomes the program."""
    start = _BASE + len(CODE) + _PARAMETERS
    variables = [name + b"=" + value for name, value in started.environment.items()]
    texts = [started.path, started.cwd, *started.arguments, *variables]
    limits = struct.pack("<q", -1)
    for which, most in started.limits.items():
        limits = struct.pack("<3Q", which, most, most) + limits
    pointers = 8 * (len(started.arguments) + len(variables) + 2)
    limits_at = start + len(started.filter_program)
    argv_at = limits_at + len(limits)
    address, addresses = argv_at + pointers, []
    for text in texts:
        addresses.append(address)
        address += len(text) + 1
    argv = [*addresses[2 : 2 + len(started.arguments)], 0]
    envp = [*addresses[2 + len(started.arguments) :], 0]
    count = len(started.filter_program) // 8
    header = struct.pack("<7Q", count, start, addresses[0], argv_at, argv_at + 8 * len(argv), addresses[1], limits_at)
    tail = header + started.filter_program + limits + struct.pack(f"<{len(argv) + len(envp)}Q", *argv, *envp)
    tail += b"".join(text + b"\0" for text in texts)
    size = len(CODE) + len(tail)
    return CODE[:_SIZES_AT] + struct.pack("<2Q", size, size) + CODE[_SIZES_AT + 16 :] + tail
