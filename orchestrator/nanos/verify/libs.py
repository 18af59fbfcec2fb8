"""What `inspect IMAGE libs` shows: for each packed ELF file, where each of its needs is found in the guest."""

from __future__ import annotations

from orchestrator.elf.facts import ElfFacts
from orchestrator.image.reader import Image
from orchestrator.image_kind import LibraryRow
from orchestrator.nanos.verify.subject import Subject


def library_report(image: Image) -> tuple[LibraryRow, ...]:
    """A row for every packed ELF file of the node's machine, the program first, then by path."""
    subject = Subject(image)
    needs: dict[str, dict[str, str | None]] = {}
    for link in subject.links:
        needs.setdefault(subject.real_path(link.by), {}).setdefault(link.name, link.path)
    program = subject.real_path(subject.program)
    rows = []
    for path in sorted(subject.elf_paths, key=lambda path: (path != program, path)):
        facts = subject.loader.facts(path)
        if isinstance(facts, ElfFacts) and facts.native:
            needed = tuple((name, needs.get(path, {}).get(name)) for name in facts.needed)
            rows.append(LibraryRow(path=path, interpreter=facts.interpreter, needed=needed))
    return tuple(rows)
