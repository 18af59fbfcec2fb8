"""System calls that a rehearsed program is refused outright, whatever else the guest's rules say.

Two kinds: what would lead out of the place it runs in (mounts, namespaces, other processes, the kernel itself), and
what holds memory that nobody counts. Nanos has none of them, and answers most with ENOSYS, as is done here.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

_REFUSED: Final = {
    "shmget shmat shmctl": (29, 30, 31),
    "semget semop semctl shmdt msgget msgsnd msgrcv msgctl": (64, 65, 66, 67, 68, 69, 70, 71),
    "ptrace": (101,),
    "syslog": (103,),
    "uselib personality ustat sysfs": (134, 135, 136, 139),
    "vhangup modify_ldt pivot_root _sysctl": (153, 154, 155, 156),
    "adjtimex chroot acct settimeofday mount umount2": (159, 161, 163, 164, 165, 166),
    "swapon swapoff reboot sethostname setdomainname iopl ioperm": (167, 168, 169, 170, 171, 172, 173),
    "create_module init_module delete_module get_kernel_syms query_module": (174, 175, 176, 177, 178),
    "quotactl nfsservctl lookup_dcookie remap_file_pages semtimedop": (179, 180, 212, 216, 220),
    "clock_settime mq_open mq_unlink": (227, 240, 241),
    "mq_timedsend mq_timedreceive mq_notify mq_getsetattr kexec_load": (242, 243, 244, 245, 246),
    "add_key request_key keyctl migrate_pages unshare move_pages": (248, 249, 250, 256, 272, 279),
    "perf_event_open fanotify_init fanotify_mark": (298, 300, 301),
    "name_to_handle_at open_by_handle_at clock_adjtime setns": (303, 304, 305, 308),
    "process_vm_readv process_vm_writev kcmp finit_module": (310, 311, 312, 313),
    "seccomp memfd_create kexec_file_load bpf userfaultfd": (317, 319, 320, 321, 323),
    "pidfd_send_signal io_uring_setup io_uring_enter io_uring_register": (424, 425, 426, 427),
    "open_tree move_mount fsopen fsconfig fsmount fspick pidfd_open": (428, 429, 430, 431, 432, 433, 434),
    # Its flags lie in memory, which another thread may change after they were looked at. glibc, and all that use
    # it, take clone where there is no clone3.
    "clone3": (435,),
    "pidfd_getfd process_madvise mount_setattr quotactl_fd": (438, 440, 442, 443),
    "landlock memfd_secret process_mrelease": (444, 445, 446, 447, 448),
    "statmount listmount open_tree_attr": (457, 458, 467),
}
_THE_USER: Final = (102, 104, 107, 108)
"""getuid, getgid, geteuid, getegid. The guest's only user is root. In a container the program has another id."""

REFUSALS: Final = (
    *((number, errno.ENOSYS) for numbers in _REFUSED.values() for number in numbers),
    *((number, 0) for number in _THE_USER),
)
"""(number of a system call, the error that it returns; 0: it returns 0 without being made)."""

_OPEN, _OPENAT, _CLONE, _SOCKET, _SOCKETPAIR = 2, 257, 56, 41, 53
_MAKING: Final = 0o100 | 0o20000000  # O_CREAT | __O_TMPFILE: else open has no mode
_SETID: Final = 0o6000
_DEVICE: Final = 0o020000  # in the type of character and block devices, and of nothing else that mknod makes
_NEW_NAMESPACES: Final = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_MODES: Final = {85: 1, 90: 1, 91: 1, 83: 1, 133: 1, 258: 2, 259: 2, 268: 2, 452: 2}
"""Calls with a mode, and which argument it is: creat, chmod, fchmod, mkdir, mknod, mkdirat, mknodat, fchmodat(2)."""
_MAKING_NODES: Final = {133: 1, 259: 2}

_LD, _JEQ, _JSET, _RET = 0x20, 0x15, 0x45, 0x06
_ERRNO: Final = 0x00050000
_NUMBER: Final = (_LD, 0, 0, 0)
_Line = tuple[int, int, int, int]


def refusals() -> bytes:
    """BPF: those calls are refused, and so are set-id modes, devices, new namespaces and foreign families of sockets.

    Begins and ends with the call's number in the accumulator; other calls pass through it.
    """
    lines: list[_Line] = []
    for number, error in REFUSALS:
        lines += [(_JEQ, number, 0, 1), (_RET, _ERRNO | error, 0, 0)]
    for number, index in _MODES.items():
        lines += _when(number, [*_if_any(index, _SETID, errno.EPERM)])
    for number, index in _MAKING_NODES.items():
        lines += _when(number, [*_if_any(index, _DEVICE, errno.EPERM)])
    for number, index in ((_OPEN, 1), (_OPENAT, 2)):
        mode = _if_any(index + 1, _SETID, errno.EPERM)
        lines += _when(number, [_argument(index), (_JSET, _MAKING, 0, len(mode)), *mode])
    lines += _when(_CLONE, [*_if_any(0, _NEW_NAMESPACES, errno.EPERM)])
    lines += _when(_SOCKETPAIR, [_argument(0), (_JEQ, 1, 1, 0), (_RET, _ERRNO | errno.EOPNOTSUPP, 0, 0)])
    # Netlink has one protocol in the guest, of routes; each of Linux's others is a door of its own.
    routes = [_argument(2), (_JEQ, 0, 1, 0), (_RET, _ERRNO | errno.EPROTONOSUPPORT, 0, 0)]
    lines += _when(_SOCKET, [_argument(0), (_JEQ, 16, 0, len(routes)), *routes])
    return b"".join(struct.pack("<HBBI", code, yes, no, k) for code, k, yes, no in lines)


def _argument(index: int) -> _Line:
    return (_LD, 16 + 8 * index, 0, 0)  # the low word


def _if_any(index: int, bits: int, error: int) -> list[_Line]:
    return [_argument(index), (_JSET, bits, 0, 1), (_RET, _ERRNO | error, 0, 0)]


def _when(number: int, lines: list[_Line]) -> list[_Line]:
    return [(_JEQ, number, 0, len(lines) + 1), *lines, _NUMBER]
