"""Which files a program's libraries resolve to, by the guest loader's rules, over any tree of files.

glibc's order (ld.so(8), elf/dl-load.c): DT_RPATH of the asking object and of those that loaded it, LD_LIBRARY_PATH,
DT_RUNPATH of the asking object, /etc/ld.so.cache, the built-in directories. musl's: LD_LIBRARY_PATH, then RPATH or
RUNPATH of the asking object and of those that loaded it, then its path file or the built-in directories.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from orchestrator.elf.facts import ElfError, ElfFacts, default_directories, is_musl_name, read_elf
from orchestrator.elf.ld_cache import read_ld_cache

Lookup = Callable[[str], BinaryIO | None]
"""A seekable stream over the regular file at an absolute path (links followed), or None."""

# musl answers to these names itself (ldso/dynlink.c, `reserved`): it is the C library.
_MUSL_OWN: Final = frozenset({"libc", "libpthread", "librt", "libm", "libdl", "libutil", "libxnet"})
# What only glibc's libraries need, and only musl's (Alpine's name for it first).
_GLIBCS: Final = re.compile(r"(libc\.so\.6|ld-linux.*)$")
_MUSLS: Final = re.compile(r"(libc\.musl-.*|ld-musl-.*|libc\.so)$")
_HWCAPS: Final = ("", "glibc-hwcaps/x86-64-v2", "glibc-hwcaps/x86-64-v3", "glibc-hwcaps/x86-64-v4")
# A static program has no loader to ask: what it opens by name may lie in any of the usual places.
_ANY_DIRECTORIES: Final = (
    "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib",
)  # fmt: skip
_CACHE: Final = "/etc/ld.so.cache"
_MAX_PATH_FILE: Final = 64 * 1024
_MAX_DIRECTORIES: Final = 256  # of one path list; keeps a hostile file from making the search endless


@dataclass(frozen=True, kw_only=True)
class Link:
    """One need: the file `by` asks for `name`, and gets `path`; or None, after looking in `searched`.

    `broken` is the path of a file of that name which the loader would try and fail on ("" = there is none).
    """

    by: str
    name: str
    path: str | None
    searched: tuple[str, ...] = ()
    broken: str = ""


@dataclass(frozen=True, kw_only=True)
class _Object:
    """A loaded file, and the one that asked for it."""

    path: str
    facts: ElfFacts
    loader: _Object | None = None


_Loaded = dict[str, Link]
"""What answers to each name so far; a name that nothing answers to is kept as well."""


class GuestLoader:
    """The loader of one image: knows the program, its interpreter, the environment; loads from `lookup`."""

    def __init__(self, lookup: Lookup, *, program: str, environment: Mapping[str, str]) -> None:
        self._lookup = lookup
        self._cache: dict[str, ElfFacts | ElfError | None] = {}
        self.program = program
        facts = self.facts(program)
        self._main = _Object(path=program, facts=facts) if isinstance(facts, ElfFacts) else None
        self.interpreter = self._main.facts.interpreter if self._main else None
        self.musl = self.interpreter is not None and is_musl_name(self.interpreter)
        self.directories = self._default_directories()
        self._library_path = _split(environment.get("LD_LIBRARY_PATH", "").replace(";", ":"))
        self._ld_cache = {} if self.musl else self._read_ld_cache()
        self._loaded: _Loaded = {}
        self.program_links = self._load(self._main, self._loaded) if self._main else ()

    def facts(self, path: str) -> ElfFacts | ElfError | None:
        """The facts of the file at `path`; the error when it is no readable ELF file; None when there is none."""
        if path not in self._cache:
            self._cache[path] = self._read_facts(path)
        return self._cache[path]

    def open_by_name(self, path: str) -> tuple[Link, ...]:
        """All needs, direct and indirect, of a file that the running program opens (dlopen) by its path."""
        facts = self.facts(path)
        if not isinstance(facts, ElfFacts):
            return ()
        return self._load(_Object(path=path, facts=facts, loader=self._main), dict(self._loaded))

    def refuses(self, facts: ElfFacts) -> str:
        """Why the program could not load this file, whatever lies beside it: "is …"; "" when it could."""
        if self.interpreter is None:
            return ""
        mine = posixpath.basename(self.interpreter)
        if facts.interpreter is not None and posixpath.basename(facts.interpreter) != mine:
            return f"is a program for another loader, {facts.interpreter}"
        other = next((name for name in facts.needed if (_GLIBCS if self.musl else _MUSLS).match(name)), None)
        return f"is made for another C library, {other}" if other else ""

    def loaded(self, name: str) -> str | None:
        """The path of what answers to `name` once the program has started, if something does."""
        link = self._loaded.get(name)
        return link.path if link is not None else None

    def open_from(self, by: str, name: str) -> Link:
        """What the file at `by`, which the program has loaded, gets when it opens (dlopen) `name`."""
        facts = self.facts(by)
        if name in self._loaded or not isinstance(facts, ElfFacts):
            return self._loaded.get(name, Link(by=by, name=name, path=None))
        return self._find(_Object(path=by, facts=facts, loader=self._main), name)[0]

    def _read_facts(self, path: str) -> ElfFacts | ElfError | None:
        stream = self._lookup(path)
        if stream is None:
            return None
        with stream:
            try:
                return read_elf(stream)
            except ElfError as error:
                return error

    def _read_ld_cache(self) -> dict[str, str]:
        stream = self._lookup(_CACHE)
        if stream is None:
            return {}
        with stream:
            return read_ld_cache(stream)

    def _default_directories(self) -> tuple[str, ...]:
        if self.interpreter is None:
            return _ANY_DIRECTORIES
        if self.musl:
            name = posixpath.basename(self.interpreter).split(".so")[0]
            stream = self._lookup(f"/etc/{name}.path")
            if stream is not None:
                with stream:
                    text = stream.read(_MAX_PATH_FILE).decode("utf-8", "surrogateescape")
                return tuple(part for part in re.split("[:\n]", text) if part)
        stream = self._lookup(self.interpreter)
        if stream is None:
            return ()
        with stream:
            return default_directories(stream)

    def _load(self, start: _Object, loaded: _Loaded) -> tuple[Link, ...]:
        """Breadth first, as the loaders do: the first to answer to a name serves all who ask for it."""
        links: list[Link] = []
        queue = [start]
        for asker in queue:
            for name in asker.facts.needed:
                if self._is_loader(name):
                    links.append(Link(by=asker.path, name=name, path=self.interpreter))
                    continue
                if name not in loaded:
                    link, library = self._find(asker, name)
                    loaded[name] = link
                    if library is not None:
                        loaded.setdefault(library.facts.soname or name, link)
                        queue.append(library)
                links.append(replace(loaded[name], by=asker.path, name=name))
        return tuple(links)

    def _is_loader(self, name: str) -> bool:
        if self.interpreter is None:
            return False
        if self.musl and name.partition(".")[0] in _MUSL_OWN:
            return True
        facts = self.facts(self.interpreter)
        own = facts.soname if isinstance(facts, ElfFacts) else None
        return name in (self.interpreter, own, posixpath.basename(self.interpreter))

    def _find(self, by: _Object, name: str) -> tuple[Link, _Object | None]:
        if "/" in name:
            candidates = [posixpath.join("/", self._expand(name, by.path))]
            searched: tuple[str, ...] = ()
        else:
            searched, candidates = self._candidates(by, name)
        for path in candidates:
            facts = self.facts(path)
            if isinstance(facts, ElfFacts) and facts.native and facts.type == "ET_DYN":
                library = _Object(path=path, facts=facts, loader=by)
                return Link(by=by.path, name=name, path=path), library
            if facts is not None and not (isinstance(facts, ElfFacts) and not facts.native):
                # A file for another machine is passed over; one that is no library at all ends the search.
                return Link(by=by.path, name=name, path=None, searched=searched, broken=path), None
        return Link(by=by.path, name=name, path=None, searched=searched), None

    def _candidates(self, by: _Object, name: str) -> tuple[tuple[str, ...], list[str]]:
        """(directories, files in them) in the loader's order."""
        inherited = self._inherited(by)
        if self.musl:
            before, after = [*self._library_path, *inherited], list(self.directories)
            searched = tuple(dict.fromkeys([*before, *after]))
            return searched, [posixpath.join(directory, name) for directory in searched]
        before = [*inherited, *self._library_path, *self._paths(by.facts.runpath, by.path)]
        after = [] if by.facts.no_default_directories else list(self.directories)
        cached = [self._ld_cache[name]] if name in self._ld_cache else []
        return tuple(dict.fromkeys([*before, *after])), [*_files(before, name), *cached, *_files(after, name)]

    def _inherited(self, by: _Object) -> list[str]:
        """RPATH directories (musl: RUNPATH too) of the asking object and of all who led to it."""
        if by.facts.runpath and not self.musl:
            return []
        directories: list[str] = []
        asker: _Object | None = by
        while asker is not None:
            directories += self._paths(asker.facts.rpath or (asker.facts.runpath if self.musl else ""), asker.path)
            asker = asker.loader
        if self._main is not None:
            directories += self._paths(self._main.facts.rpath, self._main.path)
        return directories

    def _paths(self, text: str, path: str) -> tuple[str, ...]:
        return _split(self._expand(text, path))

    def _expand(self, text: str, path: str) -> str:
        library = self.directories[0].lstrip("/") if self.directories else "lib64"
        for token, value in (("ORIGIN", posixpath.dirname(path)), ("LIB", library), ("PLATFORM", "x86_64")):
            text = text.replace(f"${{{token}}}", value).replace(f"${token}", value)
        return text


def _files(directories: list[str], name: str) -> list[str]:
    return [posixpath.join(directory, sub, name) for directory in dict.fromkeys(directories) for sub in _HWCAPS]


def _split(text: str) -> tuple[str, ...]:
    """The directories of a path list; empty parts mean the working directory, which is / in the guest."""
    parts = text.split(":")[:_MAX_DIRECTORIES] if text else []
    return tuple(posixpath.normpath(posixpath.join("/", part)) for part in parts)
