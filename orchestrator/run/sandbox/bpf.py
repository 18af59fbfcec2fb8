"""The filter: what the kernel answers for the guest, and what the supervisor is asked about. Classic BPF for x86-64.

A call with one answer, whatever its arguments, costs nothing: the kernel keeps a bitmap of those that a filter always
allows (since Linux 5.11), and finds the others in a few comparisons.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from orchestrator.guest.table import ArgumentRule, Guest, call_numbers
from orchestrator.run.sandbox import forbidden

_CLONE_THREAD_FLAGS: Final = 0x10100  # CLONE_THREAD | CLONE_VM: a thread has both
_ARCH_X86_64: Final = 0xC000003E
_AT_EMPTY_PATH: Final = 0x1000
_ALLOW: Final = 0x7FFF0000
_NOTIFY: Final = 0x7FC00000
_ERRNO: Final = 0x00050000
_ENOSYS: Final = 38
_LD, _AND, _JA, _JEQ, _JGE, _JSET, _RET = 0x20, 0x54, 0x05, 0x15, 0x35, 0x45, 0x06
_LONGEST_JUMP: Final = 255
_LINUX_ONLY: Final = ("restart_syscall",)
"""The kernel's own: it resumes a sleep that was interrupted."""


class _Instruction(NamedTuple):
    code: int
    k: int
    yes: int = 0
    no: int = 0


_Block = tuple[_Instruction, ...]


_ENGINES_REFUSE: Final = """
    _sysctl acct add_key adjtimex bpf cachestat chroot clock_adjtime create_module delete_module fanotify_init
    fanotify_mark finit_module fsconfig fsmount fsopen fspick get_kernel_syms get_mempolicy init_module io_pgetevents
    ioperm iopl kcmp kexec_file_load kexec_load keyctl landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lookup_dcookie mbind memfd_secret migrate_pages mount mount_setattr move_mount move_pages
    mseal name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open personality pidfd_getfd pivot_root
    pkey_alloc pkey_free pkey_mprotect process_mrelease process_vm_readv process_vm_writev ptrace query_module quotactl
    quotactl_fd reboot request_key set_mempolicy_home_node setdomainname sethostname setns swapoff swapon sysfs syslog
    umount2 unshare uselib userfaultfd ustat vhangup vmsplice"""
"""What container engines' own profiles refuse (EPERM mostly), in one version or another. An error of a filter goes
before a question to the supervisor, so there the answer must be an error of ours; and nobody hears of the call."""


def filter_program(guest: Guest, asked: Iterable[str], *, in_container: bool) -> bytes:
    """The instructions, 8 bytes each. `asked`: the calls that the supervisor answers; the rest is as `guest` says."""
    numbers = call_numbers()
    named = _blocks(guest, frozenset(asked), numbers)
    if in_container:
        named |= dict.fromkeys(set(_ENGINES_REFUSE.split()) - guest.calls, _return(_ERRNO | _ENOSYS))
    blocks = {numbers[name]: block for name, block in named.items()}
    code: list[_Instruction] = [
        _Instruction(_LD, 4),
        _Instruction(_JEQ, _ARCH_X86_64, 1, 0),
        _Instruction(_RET, _ERRNO | _ENOSYS),
        _Instruction(_LD, 0),
        *(_Instruction(*line) for line in forbidden.refusals()),
        *_tree(_segments(blocks)),
    ]
    return b"".join(
        struct.pack("<HBBI", instruction.code, instruction.yes, instruction.no, instruction.k) for instruction in code
    )


def _blocks(guest: Guest, asked: frozenset[str], numbers: Mapping[str, int]) -> dict[str, _Block]:
    """What is done about each call that has a name."""
    allow, notify, refuse = _return(_ALLOW), _return(_NOTIFY), _return(_ERRNO | _ENOSYS)
    blocks = {name: refuse if name in guest.quiet else notify for name in numbers}
    blocks |= dict.fromkeys((*guest.calls, *_LINUX_ONLY), allow)
    blocks |= {name: _return(_ERRNO) for row in guest.ignored for name in row.calls}  # errno 0: the call returns 0
    blocks |= dict.fromkeys(asked, notify)
    blocks |= {row.call: _decided(row) for row in guest.arguments}
    blocks |= {
        # Its flags lie in memory, where they could change after a look. The C library takes clone where it isn't there.
        "clone3": refuse,
        "clone": _when_equal(0, _CLONE_THREAD_FLAGS, _CLONE_THREAD_FLAGS),
        "newfstatat": _when_equal(3, _AT_EMPTY_PATH, _AT_EMPTY_PATH),
        "ioctl": (_load(1), *_any_of(guest.descriptor_ioctls, _ALLOW), *notify),
        "sendto": (_load(4), *_any_of([0], _ALLOW), *notify),  # no address: a connected socket
    }
    return blocks


def _decided(row: ArgumentRule) -> _Block:
    action = _NOTIFY if row.named else _ERRNO | (row.errno or 0)
    if row.bits:
        test = (_Instruction(_JSET, row.bits, 0, 1), *_return(action), *_return(_ALLOW))
    else:
        test = (_Instruction(_AND, row.mask), *_any_of(row.allowed, _ALLOW), *_return(action))
    return (_load(row.argument), *test)


def _return(action: int) -> _Block:
    return (_Instruction(_RET, action),)


def _load(argument: int) -> _Instruction:
    return _Instruction(_LD, 16 + 8 * argument)  # the low word


def _any_of(values: Sequence[int], action: int) -> _Block:
    return tuple(instruction for value in values for instruction in (_Instruction(_JEQ, value, 0, 1), *_return(action)))


def _when_equal(argument: int, mask: int, value: int) -> _Block:
    return (_load(argument), _Instruction(_AND, mask), *_any_of([value], _ALLOW), *_return(_NOTIFY))


def _segments(blocks: Mapping[int, _Block]) -> list[tuple[int, _Block]]:
    """First number and block of every run of calls that are treated alike; what has no name (x32 too) is ENOSYS."""
    nothing = _return(_ERRNO | _ENOSYS)
    segments: list[tuple[int, _Block]] = []
    for number in range(max(blocks) + 2):
        block = blocks.get(number, nothing)
        if not segments or segments[-1][1] != block:
            segments.append((number, block))
    return segments


def _tree(segments: Sequence[tuple[int, _Block]]) -> _Block:
    """A search by halves for the call's number, which is loaded."""
    if len(segments) == 1:
        return segments[0][1]
    half = len(segments) // 2
    below, above = _tree(segments[:half]), _tree(segments[half:])
    first = segments[half][0]
    if len(below) <= _LONGEST_JUMP:
        return (_Instruction(_JGE, first, len(below), 0), *below, *above)
    return (_Instruction(_JGE, first, 0, 1), _Instruction(_JA, len(below)), *below, *above)
