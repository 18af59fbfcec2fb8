"""The filter: which system calls the supervisor is asked about. Classic BPF for x86-64."""

from __future__ import annotations

import struct
from typing import Final

from orchestrator.rehearse import forbidden

ARCH_X86_64: Final = 0xC000003E
CLONE_THREAD_FLAGS: Final = 0x10100  # CLONE_THREAD | CLONE_VM: a thread has both
WRITING: Final = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY | O_RDWR | O_CREAT | O_TRUNC
_ALLOW: Final = 0x7FFF0000
_NOTIFY: Final = 0x7FC00000
_ERRNO: Final = 0x00050000
_ENOSYS: Final = 38
_X32: Final = 0x40000000
_LD, _AND, _JEQ, _JGE, _JSET, _RET = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06

OPEN, CONNECT, SOCKET, GETSOCKNAME, GETPEERNAME = 2, 42, 41, 51, 52
CLONE, FORK, VFORK, EXECVE, EXECVEAT, CLONE3 = 56, 57, 58, 59, 322, 435
CREAT, OPENAT, OPENAT2, EXIT_GROUP = 85, 257, 437, 231
PATH_CHANGES: Final = {
    76: ("truncate", -1, 0),
    82: ("rename", -1, 1),
    83: ("mkdir", -1, 0),
    84: ("rmdir", -1, 0),
    87: ("unlink", -1, 0),
    88: ("symlink", -1, 1),
    258: ("mkdirat", 0, 1),
    263: ("unlinkat", 0, 1),
    264: ("renameat", 2, 3),
    266: ("symlinkat", 1, 2),
    316: ("renameat2", 2, 3),
}
"""Calls that change a path: name, argument with the directory's descriptor (-1 = none), argument with the path."""


def _instruction(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, k)


def _argument(index: int) -> int:
    return 16 + 8 * index  # the low word


def filter_program(*, every_open: bool, sockets_are_bridged: bool) -> bytes:
    """The instructions. `every_open` asks about reading too; bridged sockets need their connect and names asked."""
    asked = [SOCKET, FORK, VFORK, EXECVE, EXECVEAT, CLONE3, CREAT, EXIT_GROUP, *PATH_CHANGES]
    if sockets_are_bridged:
        asked += [CONNECT, GETSOCKNAME, GETPEERNAME]
    code = [
        _instruction(_LD, 4),
        _instruction(_JEQ, ARCH_X86_64, 1, 0),
        _instruction(_RET, _ERRNO | _ENOSYS),
        _instruction(_LD, 0),
        _instruction(_JGE, _X32, 0, 1),
        _instruction(_RET, _ERRNO | _ENOSYS),
        forbidden.refusals(),
        # glibc asks for openat first; programs that try openat2 fall back to it.
        _instruction(_JEQ, OPENAT2, 0, 1),
        _instruction(_RET, _ERRNO | _ENOSYS),
    ]
    for number in asked:
        code += [_instruction(_JEQ, number, 0, 1), _instruction(_RET, _NOTIFY)]
    code += [
        _instruction(_JEQ, CLONE, 0, 5),
        _instruction(_LD, _argument(0)),
        _instruction(_AND, CLONE_THREAD_FLAGS),
        _instruction(_JEQ, CLONE_THREAD_FLAGS, 0, 1),
        _instruction(_RET, _ALLOW),
        _instruction(_RET, _NOTIFY),
    ]
    for number, flags in ((OPEN, 1), (OPENAT, 2)):
        if every_open:
            code += [_instruction(_JEQ, number, 0, 1), _instruction(_RET, _NOTIFY)]
        else:
            code += [
                _instruction(_JEQ, number, 0, 4),
                _instruction(_LD, _argument(flags)),
                _instruction(_JSET, WRITING, 0, 1),
                _instruction(_RET, _NOTIFY),
                _instruction(_RET, _ALLOW),
            ]
    return b"".join([*code, _instruction(_RET, _ALLOW)])
