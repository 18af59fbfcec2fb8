"""One C program asks 266 small questions; a rehearsal answers them as the real kernel did.

probe/nanos-0.1.51.txt is what the kernel, built from its sources, answered in QEMU 7.2 (TCG) with 2 processors and
1024 MiB, in three runs (it stopped in two); 30 questions it never reached.
"""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.run.sandbox.rehearsal import Options, rehearse
from tests.support.packed import Packed

PROBE = Path(__file__).parent / "probe"
ROW = re.compile(r"(\w+) +(ok|FAIL|SIGNAL)\b *(.*?) *")
DIFFERENT = {
    "io_uring": "a ring's requests would get round the filter, so there is none in a rehearsal",
    "mmap_hugetlb": "huge pages are this machine's to give, and it has none set aside",
}
"""Each question that is answered otherwise than by Nanos, with the reason."""


def answers(text: str) -> dict[str, tuple[str, str]]:
    """Question → outcome and detail. Lines of the kernel itself stand between them."""
    found = (ROW.fullmatch(line) for line in text.splitlines())
    return {row[1]: (row[2], row[3]) for row in reversed([each for each in found if each])}


def test_a_rehearsal_answers_as_the_kernel_does(packed: Packed, place: str) -> None:
    libgcc = "/lib/x86_64-linux-gnu/libgcc_s.so.1"  # pthread_cancel loads it
    files: dict[str, bytes | Path] = {
        libgcc: Path(libgcc),
        "/etc/passwd": b"root:x:0:0:root:/root:/bin/nobash\n",
        "/etc/resolv.conf": b"nameserver  8.8.8.8\n",
        "/proc/sys/kernel/hostname": b"uniboot",
    }
    image = packed.image((PROBE / "probe.c").read_text(), "-w", "-O1", at="/probe", extra=files)
    done = rehearse(image, Options(engine=place, memory=1024, cpus=2))
    ours = answers(done.run.output["stdout"].decode())
    kernels = answers((PROBE / "nanos-0.1.51.txt").read_text(errors="replace"))
    assert len(ours) == 266 and len(kernels) == 236
    different = {name: (kernel, ours[name]) for name, kernel in kernels.items() if ours[name] != kernel}
    assert different.keys() <= DIFFERENT.keys(), different
    assert "page fault in the kernel" in str(done.run.errors[0])
    assert not done.ok
