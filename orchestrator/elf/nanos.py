"""How Nanos's kernel loads an ELF file, where that differs from Linux: what such a file loses, by the kernel's version.

The kernel itself loads two files: the program, and the loader that it names (PT_INTERP). Libraries are mapped by that
loader, privately (mmap), and come to no harm. Each fault below was measured on Nanos 0.1.51, built from its sources
(docs/elf-layouts.md has the table), and is tested for by the very condition in the kernel's code:

- `faulting_map` (src/unix/exec.c) maps a segment's pages from the page cache, shared by all who map them, and has the
  rest of its last page zeroed (`pending_fault_complete`, src/unix/mmap.c). lld since 18, and mold, pad the relro
  segment to a page's end in memory but not in the file, so that page of the file also holds the next segment's start.
- A segment without bytes in the file gets as many pages as its size needs, counted from the start of its first page.
- Two segments in one page: `allocate_vmap` refuses the second.
- The program headers are looked for in the first page alone (`ELF_PROGRAM_LOAD_MIN_SIZE`), and the program is told
  that they lie as far behind its lowest address as they lie behind the file's start (`build_exec_stack`).
- A PIE is placed at 4 MiB and a random number of pages, whatever alignment it asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.elf.closure import GuestLoader
from orchestrator.elf.facts import ElfFacts, Segment
from orchestrator.errors import Finding, error

PAGE: Final = 4096
MEASURED: Final = "0.1.51"
"""The version that was measured, and that an image counts as having when it doesn't say which it has."""
_PIE_BASE: Final = 4 << 20
_PIE_RANDOM: Final = 4 << 20
_LIMIT: Final = 3 << 30
_GNU_LD: Final = (
    "link it with GNU ld: -Clinker-features=-lld or -Clink-arg=-fuse-ld=bfd for rustc, -fuse-ld=bfd for gcc and clang;"
    ' where it cannot be linked again, "ManifestPassthrough": {"static_map_program": "t"}'
)
_LINK_AGAIN: Final = "link it again; a tool that edits programs, such as patchelf, may have moved them"

Version = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """The kernel of an image. `version` None: it doesn't say. `static_map`: it reads programs as a whole, before they
    start (root attributes static_map_program, ltrace); `random`: it places PIEs at random (no attribute noaslr)."""

    version: Version | None = None
    static_map: bool = False
    random: bool = True

    @classmethod
    def of(cls, attributes: Mapping[str, object]) -> Kernel:
        """The kernel that an image's root attributes speak of; ops and the native packer write NANOS_VERSION."""
        environment = attributes.get("environment")
        text = environment.get("NANOS_VERSION") if isinstance(environment, dict) else None
        match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", text) if isinstance(text, str) else None
        return cls(
            version=(int(match[1]), int(match[2]), int(match[3])) if match else None,
            static_map="static_map_program" in attributes or "ltrace" in attributes,
            random="noaslr" not in attributes,
        )

    @property
    def words(self) -> str:
        """For messages."""
        return "Nanos " + (".".join(map(str, self.version)) if self.version else MEASURED)


@dataclass(frozen=True, kw_only=True)
class LoadProblem:
    """What a file loses when this kernel loads it. `code` is stable; `message` goes after the file's path."""

    code: str
    message: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class _Fault:
    """One difference: since which version, and in which it is mended (None: in none; the newest was 0.1.55); whether it
    is one for a program's loader too. Only 0.1.51 was run; of the others the sources were read.
    """

    find: Callable[[ElfFacts, Kernel], Iterator[LoadProblem]]
    loader: bool = True
    since: Version = (0, 1, 48)  # it maps programs page by page; before, it read them as a whole
    mended: Version | None = None

    def concerns(self, kernel: Kernel) -> bool:
        if kernel.version is None:
            return True
        return self.since <= kernel.version and (self.mended is None or kernel.version < self.mended)


def check_kernel_loading(loader: GuestLoader, attributes: Mapping[str, object]) -> Iterator[Finding]:
    """Errors: what the two files that an image's kernel loads, the program and its loader, lose by that; `attributes`
    are the image's root attributes."""
    kernel = Kernel.of(attributes)
    for path in (loader.program, loader.interpreter):
        facts = loader.facts(path) if path is not None else None
        if isinstance(facts, ElfFacts) and facts.native:
            for problem in load_problems(facts, kernel, loader=path != loader.program):
                yield error(problem.code, f"{path}: {problem.message}", problem.remedy)


def load_problems(facts: ElfFacts, kernel: Kernel, *, loader: bool = False) -> Iterator[LoadProblem]:
    """What goes wrong when `kernel` itself loads this file: a program, or a program's loader."""
    for fault in _FAULTS:
        if fault.concerns(kernel) and (fault.loader or not loader):
            yield from fault.find(facts, kernel)


def _shared_page(facts: ElfFacts, kernel: Kernel) -> Iterator[LoadProblem]:
    if kernel.static_map:  # a last page with .bss is copied then
        return
    for first in facts.segments:
        end = first.offset + first.file_size
        page_end = _page_up(end)
        if not first.file_size or first.memory_size <= first.file_size:
            continue
        for other in facts.segments:
            start = max(other.offset, end)
            lost = min(other.offset + other.file_size, page_end) - start
            if other is first or lost <= 0:
                continue
            yield LoadProblem(
                code="elf-page-shared",
                message=f"its segments at {first.address:#x} and {other.address:#x} share a page of the file, and"
                f" {kernel.words} zeroes it behind the first one's end: the second loses {lost} bytes, from"
                f" {other.address + start - other.offset:#x} on (lld since 18 and mold lay files out like this)",
                remedy=_GNU_LD,
            )


def _missing_page(facts: ElfFacts, kernel: Kernel) -> Iterator[LoadProblem]:
    if kernel.static_map:
        return
    for segment in facts.segments:
        inside = segment.address % PAGE
        if not segment.file_size and inside + segment.memory_size > _page_up(segment.memory_size):
            yield LoadProblem(
                code="elf-bss-cut",
                message=f"its segment at {segment.address:#x} has no bytes in the file and starts within a page:"
                f" {kernel.words} maps one page too few for its {segment.memory_size} bytes",
                remedy=_GNU_LD,
            )


def _overlap(facts: ElfFacts, kernel: Kernel) -> Iterator[LoadProblem]:
    taken: list[tuple[int, int]] = []
    for segment in facts.segments:
        start, end = _mapped(segment, kernel)
        if any(start < other_end and other_start < end for other_start, other_end in taken):
            yield LoadProblem(
                code="elf-segments-overlap",
                message=f"its segment at {segment.address:#x} lies in a page of another one:"
                f" {kernel.words} maps no page twice and says 'failed to allocate vmap'",
                remedy="link it so that every segment starts on a page of its own (the linkers' default)",
            )
        taken.append((start, end))


def _mapped(segment: Segment, kernel: Kernel) -> tuple[int, int]:
    """The addresses that the kernel maps for a segment."""
    start = segment.address - segment.address % PAGE
    if not segment.file_size and not kernel.static_map:
        return start, start + _page_up(segment.memory_size)
    return start, max(_page_up(segment.address + segment.file_size), _page_up(segment.address + segment.memory_size))


def _too_high(facts: ElfFacts, kernel: Kernel) -> Iterator[LoadProblem]:
    end = max((segment.address + segment.memory_size for segment in facts.segments), default=0)
    if facts.type == "ET_DYN":
        end += _PIE_BASE + (_PIE_RANDOM if kernel.random else 0)
    if end <= _LIMIT:
        return
    yield LoadProblem(
        code="elf-too-high",
        message=f"its memory may reach {end / (1 << 30):.1f} GiB; {kernel.words} loads programs below 3 GiB",
        remedy="allocate large tables when the program runs, or link it to a lower address",
    )


def _headers_late(facts: ElfFacts, kernel: Kernel) -> Iterator[LoadProblem]:
    end = facts.headers[1]
    if end > PAGE and not kernel.static_map:
        yield LoadProblem(
            code="elf-headers-late",
            message=f"its program headers end at byte {end}; {kernel.words} reads the file's first {PAGE}",
            remedy=_LINK_AGAIN,
        )


def _headers_elsewhere(facts: ElfFacts, kernel: Kernel) -> Iterator[LoadProblem]:
    start, end = facts.headers
    lowest = min((segment.address for segment in facts.segments), default=0)
    holder = next((s for s in facts.segments if s.offset <= start and end <= s.offset + s.file_size), None)
    # Only a C library asks where they are: the loader's, and a static program's, for PT_DYNAMIC and PT_TLS.
    if holder is not None and holder.address - holder.offset != lowest and (facts.interpreter or facts.tls):
        yield LoadProblem(
            code="elf-headers-elsewhere",
            message=f"its program headers lie at {holder.address + start - holder.offset:#x};"
            f" {kernel.words} tells the program {lowest + start:#x}",
            remedy=_LINK_AGAIN,
        )


def _read_only_bss(facts: ElfFacts, kernel: Kernel) -> Iterator[LoadProblem]:
    for segment in facts.segments:
        tail = (segment.address + segment.file_size) % PAGE
        if segment.file_size and segment.memory_size > segment.file_size and tail and not segment.writable:
            yield LoadProblem(
                code="elf-bss-read-only",
                message=f"its segment at {segment.address:#x} cannot be written to and has .bss:"
                f" {kernel.words} zeroes that through the program's own mapping, and faults",
                remedy="link it with the linkers' default layout, where .bss is in a writable segment",
            )


def _alignment(facts: ElfFacts, kernel: Kernel) -> Iterator[LoadProblem]:
    wanted = facts.alignment
    if facts.type != "ET_DYN" or wanted <= PAGE or (not kernel.random and _PIE_BASE % wanted == 0):
        return
    yield LoadProblem(
        code="elf-alignment",
        message=f"it holds a variable that is aligned to {wanted} bytes, which {kernel.words} does not heed:"
        f" it places a position-independent program at any multiple of {PAGE}",
        remedy='"ManifestPassthrough": {"noaslr": "t"} places it at 4 MiB; or link it with -no-pie',
    )


def _page_up(value: int) -> int:
    return -(-value // PAGE) * PAGE


_FAULTS: Final = (
    # 0.1.52 ("fix initialization of BSS areas") gives such a page a copy of its own, and zeroes that, through the
    # kernel's own mapping.
    _Fault(find=_shared_page, mended=(0, 1, 52)),
    _Fault(find=_missing_page),
    _Fault(find=_overlap),
    _Fault(find=_too_high, loader=False),
    _Fault(find=_headers_late),
    _Fault(find=_headers_elsewhere, loader=False),
    _Fault(find=_read_only_bss, mended=(0, 1, 52)),
    _Fault(find=_alignment, loader=False),
)
