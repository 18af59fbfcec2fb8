"""The image as the checks see it: its ELF files, its loader, its attributes, and the marks found in its bytes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, Final, cast

from orchestrator.elf.closure import GuestLoader, Link
from orchestrator.elf.facts import ElfFacts
from orchestrator.elf.imports import imported_names
from orchestrator.image.reader import Image
from orchestrator.image.tree import Directory, File, Symlink
from orchestrator.nanos.gpu.tree import STAND_IN_MARK, firmware_of
from orchestrator.nanos.verify.stored import CHUNK, elf_files, marked_files, search
from orchestrator.verification import StandIn

# The shim's two kinds, by what only one of them contains (docs/facts/gevulot.md, 1: a gRPC service, a file name).
DEVNET_MARK: Final = b"vm_service.VMService"
LOCAL_MARK: Final = b"task_result.json"
# ops puts glibc's DNS module, from Nanos's common files, into every image: static ones and musl's as well, and it may
# come from another glibc than the base's. Only glibc's own name lookups ever open it.
DNS_MODULE: Final = "/lib/x86_64-linux-gnu/libnss_dns.so.2"
KERNEL: Final = "boot:/kernel"
"""Where the kernel lies, as `StandIn.path` says it."""
_IS_C_LIBRARY: Final = re.compile(r".*/(libc|libm|libpthread|libdl|ld-linux-x86-64)\.so\.\d+$")


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What a look at every stored byte found. `shims` maps an ELF file's path to devnet, local or both."""

    stand_ins: tuple[StandIn, ...] = ()
    shims: dict[str, frozenset[str]] = field(default_factory=dict)


class Subject:
    """An open image with everything the checks ask for, computed once."""

    def __init__(
        self,
        image: Image,
        project_runtime: str | None = None,
        gpu_families: tuple[str, ...] = (),
        libraries: str | None = None,
        unmarked: Collection[str] = (),
    ) -> None:
        self.image = image
        self.rootfs = image.rootfs
        self.attributes = image.rootfs.attributes
        self.project_runtime = project_runtime
        self.gpu_families = gpu_families
        self.libraries = libraries
        self._unmarked = unmarked

    @cached_property
    def program(self) -> str:
        """The program's guest path ("" when the manifest names none)."""
        value = self.attributes.get("program")
        return value if isinstance(value, str) else ""

    @cached_property
    def environment(self) -> dict[str, str]:
        """The guest's environment, as far as it is text."""
        value = self.attributes.get("environment")
        return {k: v for k, v in value.items() if isinstance(v, str)} if isinstance(value, dict) else {}

    @cached_property
    def kernel_name(self) -> str:
        """`Nanos 0.1.51` as the image says it of itself; `Nanos` where it names no release."""
        version = self.environment.get("NANOS_VERSION", "")
        return f"Nanos {version}" if version[:1].isdigit() else "Nanos"

    def open(self, path: str) -> BinaryIO | None:
        """The regular file at a guest path, links followed."""
        node = self.rootfs.lookup(path)
        return cast("BinaryIO", self.rootfs.open_file(node)) if isinstance(node, File) else None

    def real_path(self, path: str) -> str:
        """`path` without symbolic links; as it is where there is nothing."""
        resolved = self.rootfs.resolve(path)
        return path if resolved is None else resolved[0]

    def is_stand_in(self, path: str) -> bool:
        """Whether the file says of itself that it is a stand-in; files of the boot file system are `boot:PATH`."""
        return any(stand_in.path == path for stand_in in self.marks.stand_ins)

    @cached_property
    def files(self) -> list[tuple[str, File]]:
        """Every regular file with its path, in the image's order."""
        return [(path, node) for path, node in self.rootfs.walk() if isinstance(node, File)]

    @cached_property
    def elf_paths(self) -> tuple[str, ...]:
        """Every packed file that starts as an ELF file does, sorted."""
        return tuple(sorted(elf_files(self.rootfs, self.files)))

    @cached_property
    def loader(self) -> GuestLoader:
        """The guest's dynamic loader over the packed tree."""
        return GuestLoader(self.open, program=self.program, environment=self.environment)

    @cached_property
    def program_facts(self) -> ElfFacts | None:
        """The program's ELF facts, or None when it is not there or can't be read."""
        facts = self.loader.facts(self.program) if self.program else None
        return facts if isinstance(facts, ElfFacts) else None

    @cached_property
    def loadable(self) -> bool:
        """Whether libraries can be looked for at all: a program of the node's machine, and its loader if it has one."""
        program = self.program_facts
        if program is None or not program.native or program.type not in ("ET_EXEC", "ET_DYN"):
            return False
        loader = self.loader.facts(program.interpreter) if program.interpreter is not None else program
        return isinstance(loader, ElfFacts) and loader.native

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """The needs of the program, and then those of every packed ELF file that it does not reach by itself."""
        opened = {path: self.loader.open_by_name(path) for path in self._unreached if path not in self.strangers}
        met = self._met_elsewhere(opened)
        links = list(self.loader.program_links)
        for path, its in opened.items():
            links += (link for link in its if link.path is not None or (path, link.by, link.name) not in met)
        return tuple(links)

    def _met_elsewhere(self, opened: Mapping[str, tuple[Link, ...]]) -> set[tuple[str, str, str]]:
        """(a file, who asks, for what): needs that the file can't meet when it is opened itself, but another one that
        loads it can, by a DT_RPATH, which counts for all that it leads to: the libraries in a Python wheel have none of
        their own (auditwheel's numpy.libs).
        """
        unmet = {path: {(link.by, link.name) for link in its if link.path is None} for path, its in opened.items()}
        met: set[tuple[str, str, str]] = set()
        for opener, its in opened.items():
            answered = {(self.real_path(link.by), link.name) for link in its if link.path is not None}
            for path in {self.real_path(link.path) for link in its if link.path is not None} & unmet.keys() - {opener}:
                met |= {(path, by, name) for by, name in unmet[path] if (self.real_path(by), name) in answered}
        return met

    @cached_property
    def _reached(self) -> frozenset[str]:
        """The program and all that it loads at its start, by real path."""
        paths = {self.real_path(link.path) for link in self.loader.program_links if link.path is not None}
        return frozenset({*paths, self.real_path(self.program)})

    @cached_property
    def _unreached(self) -> tuple[str, ...]:
        """Other files that a loader could take. GSP firmware, for one, is ELF for another machine; object files, kernel
        modules and cores are nothing that a loader sees."""
        return tuple(path for path in self.elf_paths if path not in self._reached and self._linked(path) is not None)

    def _linked(self, path: str) -> ElfFacts | None:
        facts = self.loader.facts(path)
        if not isinstance(facts, ElfFacts) or not facts.native or not facts.for_linux:
            return None
        return facts if facts.type in ("ET_EXEC", "ET_DYN") else None

    @cached_property
    def strangers(self) -> dict[str, str]:
        """Packed ELF files that the program's loader refuses, and why: "is made for another C library, …"."""
        refusals = {path: self.loader.refuses(facts) for path in self._unreached if (facts := self._linked(path))}
        return {path: why for path, why in refusals.items() if why}

    def importers(self, functions: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Function → the packed ELF files that import it, those of the C library left out."""
        paths_by_name: dict[str, list[str]] = {}
        for path in self.elf_paths:
            if path in self.strangers or self._linked(path) is None or _IS_C_LIBRARY.match(path):
                continue
            stream = self.open(path)
            if stream is None:
                continue
            with stream:
                for name in imported_names(stream, functions):
                    paths_by_name.setdefault(name, []).append(path)
        return {name: tuple(paths) for name, paths in paths_by_name.items()}

    @cached_property
    def symlinks(self) -> dict[str, Symlink]:
        """Every symbolic link by its path, sorted."""
        links = [(path, node) for path, node in self.rootfs.walk() if isinstance(node, Symlink)]
        return dict(sorted(links, key=itemgetter(0)))

    @cached_property
    def mount_points(self) -> frozenset[str]:
        """Where something is mounted when the guest runs."""
        value = self.attributes.get("mounts")
        targets = value.values() if isinstance(value, dict) else ()
        return frozenset(target.partition(":")[0].rstrip("/") for target in targets if isinstance(target, str))

    @cached_property
    def required_links(self) -> tuple[Link, ...]:
        """`links` without those of the DNS module that ops adds by itself, unless the program is linked to it."""
        wanted = {link.path for link in self.loader.program_links}
        return tuple(link for link in self.links if link.by != DNS_MODULE or DNS_MODULE in wanted)

    @cached_property
    def firmware(self) -> dict[str, frozenset[str]]:
        """NVIDIA driver version → its GSP firmware files below /nvidia/VERSION."""
        return firmware_of(path for path, _ in self.files)

    @cached_property
    def klibs(self) -> dict[str, File]:
        """The files in the boot file system's /klib, all of which the kernel loads."""
        directory = self.image.bootfs.lookup("/klib") if self.image.bootfs is not None else None
        nodes = directory.children if isinstance(directory, Directory) else {}
        return {name: node for name, node in sorted(nodes.items()) if isinstance(node, File)}

    @cached_property
    def marks(self) -> Marks:
        """One look at every stored byte of both file systems, but for large files that need none again."""
        elves, bootfs = set(self.elf_paths), self.image.bootfs
        # Of an ELF file the shim's marks are wanted, too, which no receipt names.
        again = [(p, file) for p, file in self.files if file.size <= CHUNK or p in elves or p not in self._unmarked]
        boot = [] if bootfs is None else [(path, node) for path, node in bootfs.walk() if isinstance(node, File)]
        in_boot = dict(marked_files(bootfs, boot, lambda _: _WANTED[:1])) if bootfs is not None else {}
        in_root = dict(marked_files(self.rootfs, again, lambda path: _WANTED if path in elves else _WANTED[:1]))
        stand_ins = [
            StandIn(path=prefix + path, text=_own_words(marks[STAND_IN_MARK]))
            for prefix, marked in (("boot:", in_boot), ("", in_root))
            for path, marks in sorted(marked.items(), key=itemgetter(0))
            if STAND_IN_MARK in marks
        ]
        shims = {
            path: frozenset(kind for mark, kind in _KINDS.items() if mark in marks)
            for path, marks in sorted(in_root.items(), key=itemgetter(0))
            if marks.keys() & _KINDS.keys()
        }
        if self.image.is_stub and not any(stand_in.path == KERNEL for stand_in in stand_ins):
            stand_ins.insert(0, StandIn(path=KERNEL, text="a stub kernel, which prints one line and stops"))
        return Marks(stand_ins=tuple(stand_ins), shims=shims)


_KINDS: Final = {DEVNET_MARK: "devnet", LOCAL_MARK: "local"}
_WANTED: Final = (STAND_IN_MARK, *_KINDS)


def stand_in_file(path: Path, shown: str) -> StandIn | None:
    """What a file of this host says of itself if it only stands in for the real one; `shown` is its path for people.

    For what goes into a build without going into the image: the ops binary.
    """
    with path.open("rb") as stream:
        marks = search(iter(lambda: stream.read(CHUNK), b""), (STAND_IN_MARK,))
    return StandIn(path=shown, text=_own_words(marks[STAND_IN_MARK])) if marks else None


def _own_words(data: bytes) -> str:
    line = data.replace(b"\n", b"\0").split(b"\0")[0]
    return "".join(c for c in line.decode("utf-8", "replace") if c.isprintable()).lstrip(": ").strip()
