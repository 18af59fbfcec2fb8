"""Checks of the program and its libraries: what the guest's kernel and loader would say at start-up."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.elf.closure import Link
from orchestrator.elf.facts import ElfFacts
from orchestrator.elf.imports import imported_names
from orchestrator.elf.nanos import check_kernel_loading
from orchestrator.errors import Finding, error, note, warning
from orchestrator.guest.imports import import_notes
from orchestrator.guest.model import guest_of
from orchestrator.image.tree import File
from orchestrator.nanos.verify.subject import DNS_MODULE, KERNEL, Subject

_SHOWN_DIRECTORIES = 6
_SHOWN_STRANGERS = 3


def check_program(subject: Subject) -> Iterator[Finding]:
    """There, a file, and a program for the node's machine."""
    path = subject.program
    if not path:
        yield error("program-missing", "the manifest names no program: Nanos halts at once", "set build.program")
        return
    node = subject.rootfs.lookup(path)
    if not isinstance(node, File):
        what = "is not in the image" if node is None else "is not a regular file"
        yield error("program-not-found", f"program {path} {what}", "make Program match the path given to ops")
        return
    start = subject.rootfs.read_at(node, 0, 2)
    facts = subject.loader.facts(path)
    if start == b"#!":
        yield error("program-is-script", f"program {path} is a script", "Nanos runs ELF programs only")
    elif not isinstance(facts, ElfFacts):
        yield error("program-not-elf", f"program {path}: {facts}", "Nanos runs ELF programs only")
    elif not facts.native:
        yield error(
            "program-wrong-machine",
            f"program {path} is for {facts.machine}, {facts.bits} bits",
            "compile it for x86-64, which Gevulot's nodes use",
        )
    elif facts.type not in ("ET_EXEC", "ET_DYN"):
        yield error("program-not-linked", f"program {path} is of type {facts.type}, not a linked program")
    elif facts.exec_stack:
        yield warning(
            "program-exec-stack",
            f"program {path} asks for an executable stack, which Nanos does not provide: code on the stack, such as"
            " GCC's nested functions, ends it with a fault",
            "link with -z noexecstack if it runs none",
        )

    if isinstance(facts, ElfFacts):
        yield from _answered_otherwise(subject)


def _answered_otherwise(subject: Subject) -> Iterator[Finding]:
    """Functions that the program uses and the guest's kernel answers otherwise than Linux."""
    stream = subject.open(subject.program)
    if stream is None:
        return
    claimed = subject.environment.get("NANOS_VERSION")
    guest = guest_of(claimed)
    with stream:
        imports = imported_names(stream)
    for row in import_notes(guest, claimed or guest.version, imports):
        names = ", ".join(row.functions)
        yield note("program-guest-differs", f"program uses {names}, which Nanos answers differently: {row.says}")


def check_interpreter(subject: Subject) -> Iterator[Finding]:
    """The loader, at the very path that the program names."""
    path = subject.loader.interpreter
    if path is None:
        return
    facts = subject.loader.facts(path)
    if facts is None:
        yield error(
            "interpreter-missing",
            f"the program's loader {path} is not in the image: Nanos says 'couldn't find program interpreter'",
            "set stage.libraries: auto",
        )
    elif not isinstance(facts, ElfFacts) or not facts.native:
        yield error(
            "interpreter-not-elf", f"the program's loader {path} is not an x86-64 ELF file", "stage the base's own"
        )


def check_loading(subject: Subject) -> Iterator[Finding]:
    """The program and its loader survive how Nanos's kernel, which loads these two itself, maps their segments."""
    yield from check_kernel_loading(subject.loader, subject.attributes)


def check_libraries(subject: Subject) -> Iterator[Finding]:
    """Every DT_NEEDED of every packed ELF file resolves inside the image."""
    missing: dict[str, dict[str, Link]] = {}
    for link in subject.required_links:
        if link.path is None:
            missing.setdefault(link.name, {}).setdefault(link.by, link)
    for name, askers in sorted(missing.items()):
        first = next(iter(askers.values()))
        needed_by = ", ".join(sorted(askers))
        if first.broken:
            yield error(
                "library-broken",
                f"{name}, needed by {needed_by}: {first.broken} is not a library that the loader can load",
                "stage the library itself, not a linker script or a program",
            )
            continue
        folders = ", ".join(first.searched[:_SHOWN_DIRECTORIES]) or "nowhere: the program has no loader"
        yield error(
            "library-missing",
            f"{name}, needed by {needed_by}, is not where the guest's loader looks ({folders})",
            _library_remedy(subject, name),
        )
    if subject.strangers:
        told = "; ".join(f"{path} {why}" for path, why in list(subject.strangers.items())[:_SHOWN_STRANGERS])
        more = len(subject.strangers) - _SHOWN_STRANGERS
        yield note(
            "elf-not-followed",
            f"not checked, because the program cannot load them: {told}{f'; {more} more' if more > 0 else ''}",
        )
    yield from _dns_module(subject)


def _dns_module(subject: Subject) -> Iterator[Finding]:
    """A DNS module that can't be loaded costs name lookups, which a node without a network doesn't offer anyway."""
    lost = {link.name for link in subject.links if link.path is None} - {
        link.name for link in subject.required_links if link.path is None
    }
    if lost:
        yield note(
            "dns-module-unusable",
            f"{DNS_MODULE}, from Nanos's common files, needs {', '.join(sorted(lost))}, not packed:"
            " the program cannot look up host names",
        )


def _library_remedy(subject: Subject, name: str) -> str:
    elsewhere = sorted(path for path, _ in subject.rootfs.walk() if path.rpartition("/")[2] == name)
    if elsewhere and subject.loader.directories:
        return f"it is at {elsewhere[0]}; stage it in {subject.loader.directories[0]}, or set LD_LIBRARY_PATH in Env"
    if name.startswith(("libcuda.so", "libnvidia-ml.so")):
        return "it belongs to the driver: it comes from gpu-assets"
    package = "add the package that has it to build.packages"
    if subject.libraries == "auto":
        return f"{package}, and its name to stage.extra"
    setting = "it is none: " if subject.libraries == "none" else ""
    return f"{setting}set stage.libraries: auto, which stages what every packed ELF file needs, and {package}"


def check_versions(subject: Subject) -> Iterator[Finding]:
    """Every symbol version that is asked of a packed library is defined by it, as with `GLIBC_2.38 not found`."""
    loader = subject.loader
    told: set[tuple[str, str, str]] = set()
    for link in subject.required_links:
        asker = loader.facts(link.by)
        library = loader.facts(link.path) if link.path is not None else None
        if not isinstance(asker, ElfFacts) or not isinstance(library, ElfFacts) or not library.versions_defined:
            continue  # a library without versions satisfies any
        absent = [v for v in asker.versions_needed.get(link.name, ()) if v not in library.versions_defined]
        key = (link.by, link.name, " ".join(absent))
        if not absent or key in told:
            continue
        told.add(key)
        yield error(
            "symbol-version-missing",
            f"version {', '.join(absent)} not found in {link.path} (required by {link.by})",
            "take the library and what needs it from the same base, or build the program on an older base",
        )


def check_shim(subject: Subject) -> Iterator[Finding]:
    """Which kind of Gevulot shim is packed, and whether the project's runtime speaks to it."""
    wanted = subject.project_runtime
    shims = subject.marks.shims
    if not shims:
        yield note("shim-none", "no Gevulot shim was found in the program or beside it: a node cannot give it tasks")
    for path, kinds in sorted(shims.items()):
        if len(kinds) > 1:
            yield note("shim-both", f"{path} holds both kinds of the Gevulot shim")
            continue
        (kind,) = kinds
        speaks = "vsock, for a Devnet node" if kind == "devnet" else "task files, for shim-executor"
        if wanted is not None and kind != wanted:
            yield error(
                "shim-runtime-mismatch",
                f"the shim in {path} speaks {speaks}, but the project's runtime is {wanted}",
                "leave gevulot.ref out, so that it follows runtime, or change runtime",
            )
        else:
            yield note(f"shim-{kind}", f"the shim in {path} speaks {speaks}")


def check_stand_ins(subject: Subject) -> Iterator[Finding]:
    """Files that say of themselves that they only stand in for the real ones."""
    for stand_in in subject.marks.stand_ins:
        if stand_in.path == KERNEL and subject.image.is_stub:
            continue  # the check of the kernel says so already
        yield warning("stand-in", f"{stand_in.path} is a stand-in{f': {stand_in.text}' if stand_in.text else ''}")
