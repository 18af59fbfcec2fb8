"""Arguments that a rehearsed program is refused, whatever the guest's rules say of the call.

They would lead out of the sandbox. Calls that would (mounts, namespaces, other processes, the kernel itself),
or that hold memory which nobody counts, are none that Nanos has: the filter lets none of those through.
"""

from __future__ import annotations

import errno
from typing import Final

_OPEN, _OPENAT, _CLONE, _SOCKET, _SOCKETPAIR = 2, 257, 56, 41, 53
_MAKING: Final = 0o100 | 0o20000000  # O_CREAT | __O_TMPFILE: else open has no mode
_SETID: Final = 0o6000
_NEW_NAMESPACES: Final = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_MODES: Final = {85: 1, 83: 1, 258: 2}
"""Calls with a mode that are made, and which argument it is: creat, mkdir, mkdirat. Those of chmod's kind do nothing in
the guest, those of mknod's it lacks: the filter never lets them through."""

_LD, _JEQ, _JSET, _RET = 0x20, 0x15, 0x45, 0x06
_ERRNO: Final = 0x00050000
_NUMBER: Final = (_LD, 0, 0, 0)
Line = tuple[int, int, int, int]


def refusals() -> tuple[Line, ...]:
    """BPF as (code, k, yes, no): set-id modes, new namespaces and foreign families of sockets are refused.

    Begins and ends with the call's number in the accumulator; other calls pass through it.
    """
    lines: list[Line] = []
    for number, index in _MODES.items():
        lines += _when(number, [*_if_any(index, _SETID, errno.EPERM)])
    for number, index in ((_OPEN, 1), (_OPENAT, 2)):
        mode = _if_any(index + 1, _SETID, errno.EPERM)
        lines += _when(number, [_argument(index), (_JSET, _MAKING, 0, len(mode)), *mode])
    lines += _when(_CLONE, [*_if_any(0, _NEW_NAMESPACES, errno.EPERM)])
    lines += _when(_SOCKETPAIR, [_argument(0), (_JEQ, 1, 1, 0), (_RET, _ERRNO | errno.EAFNOSUPPORT, 0, 0)])
    # Netlink has one protocol in the guest, of routes; each of Linux's others is a door of its own.
    routes = [_argument(2), (_JEQ, 0, 1, 0), (_RET, _ERRNO | errno.EPROTONOSUPPORT, 0, 0)]
    lines += _when(_SOCKET, [_argument(0), (_JEQ, 16, 0, len(routes)), *routes])
    return tuple(lines)


def _argument(index: int) -> Line:
    return (_LD, 16 + 8 * index, 0, 0)  # the low word


def _if_any(index: int, bits: int, error: int) -> list[Line]:
    return [_argument(index), (_JSET, bits, 0, 1), (_RET, _ERRNO | error, 0, 0)]


def _when(number: int, lines: list[Line]) -> list[Line]:
    return [(_JEQ, number, 0, len(lines) + 1), *lines, _NUMBER]
