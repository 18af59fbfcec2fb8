"""What the next build will find: seen in the container of the last one, or else in the context on this machine."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from orchestrator.archive import ArchiveError, Meter, Tar, UnpackLimits, read_tar, translate_errors
from orchestrator.elf.ld_cache import read_ld_cache
from orchestrator.errors import BuildStepError

WORK_DIRECTORY: Final = "/build"
_LD_CACHE: Final = "/etc/ld.so.cache"
_MUSL_DIRECTORIES: Final = ("/lib", "/usr/local/lib", "/usr/lib")
_CACHE_SIZE: Final = 16 * 1024 * 1024
_LINKS: Final = 8
"""How many links are followed from one path."""
_DIRECTORY: Final = "a directory; if the program needs all that is in it, add it to stage.files"


@dataclass(frozen=True, kw_only=True)
class StagesAs:
    """How stage.files asks for a guest's path: `entry`, or the `reason` why it cannot. The other is ""."""

    entry: str = ""
    reason: str = ""


class Lookup(Protocol):
    """Where the program was built, as far as it can be seen: what will the next build find?"""

    def find_file(self, path: str) -> StagesAs:
        """What stage.files needs for a guest's path, which is without its leading "/"."""
        ...

    def why_no_library(self, name: str) -> str:
        """Why stage.extra can't take a library's name; "" when it can."""
        ...


@dataclass(frozen=True)
class ContextLookup:
    """The build's context, for where no engine can be asked.

    `left_out_by` says of a path which ignore file leaves it out.
    """

    context: Path
    left_out_by: Callable[[str], str]

    def find_file(self, path: str) -> StagesAs:
        """What is in the context will be in the work directory."""
        try:
            is_file, is_directory = (self.context / path).is_file(), (self.context / path).is_dir()
        except OSError:  # a name too long
            is_file = is_directory = False
        ignore_file = self.left_out_by(path) if is_file or is_directory else ""
        if ignore_file:
            return StagesAs(reason=f"left out of the build by {ignore_file}")
        if is_file or is_directory:
            return StagesAs(entry=path)
        return StagesAs(reason="not in the build's context; if build.run makes it, add it by hand")

    def why_no_library(self, _name: str) -> str:
        """Packages are installed in the container only."""
        return "it is not known whether the build has it; add it by hand, and its package to build.packages"


class UnknownLookup:
    """For a program that comes in an image: without an engine nobody knows what is in it."""

    def find_file(self, _path: str) -> StagesAs:
        """Of any file."""
        return StagesAs(reason="it is not known whether the image has it; add it by hand")

    def why_no_library(self, _name: str) -> str:
        """Of any library."""
        return "it is not known whether the image has it; add it by hand"


@dataclass(frozen=True)
class ContainerLookup:
    """A finished stage, asked by archives of its files: nothing in it is run.

    `open_archive` gives a tar stream of a path, or BuildStepError; in `directories` staging looks for libraries
    before the system's own. `top` is where relative paths begin: the work directory, or "" for an image's root.
    """

    open_archive: Callable[[str], AbstractContextManager[BinaryIO]]
    directories: tuple[str, ...] = ()
    top: str = WORK_DIRECTORY

    def find_file(self, path: str) -> StagesAs:
        """A file or directory of the work directory, or a file anywhere else; a system's directory may be all of it."""
        kind = self._kind(f"{self.top}/{path}")
        if kind == "file" or (kind == "directory" and self.top):
            return StagesAs(entry=path)
        if kind == "directory":
            return StagesAs(reason=_DIRECTORY)
        if not self.top:
            return StagesAs(reason="not in the program's image")
        kind = self._kind(f"/{path}")
        if kind == "file":
            return StagesAs(entry=f"/{path}")
        if kind == "directory":
            return StagesAs(reason=_DIRECTORY)
        return StagesAs(reason="not in the build; make it in build.run, or put it into the build's context")

    def why_no_library(self, name: str) -> str:
        """As stage-tree.sh finds it: in its search directories, or where the loader's configuration says."""
        searched = self.directories if self._cached else (*self.directories, *_MUSL_DIRECTORIES)
        if name in self._cached or any(self._kind(f"{folder}/{name}") == "file" for folder in searched):
            return ""
        return "not in the build; add its package to build.packages, then it"

    @cached_property
    def _cached(self) -> dict[str, str]:
        """What ldconfig found there: name → path. Empty where there is no cache, as with musl."""
        try:
            with self._archive(_LD_CACHE) as archive:
                member = archive.next()
                return read_ld_cache(io.BytesIO(archive.small(member, _CACHE_SIZE))) if member is not None else {}
        except (BuildStepError, ArchiveError):
            return {}

    @contextmanager
    def _archive(self, path: str) -> Iterator[Tar]:
        with (
            self.open_archive(path) as stream,
            translate_errors(),
            read_tar(Meter(stream=stream, limits=UnpackLimits())) as archive,
        ):
            yield archive

    def _kind(self, path: str) -> str:
        """What is at `path`: file, directory, or "" for nothing and anything else. Links are followed."""
        for _ in range(_LINKS):
            try:
                with self._archive(path) as archive:
                    member = archive.next()
            except (BuildStepError, ArchiveError):
                return ""
            if member is None:
                return ""
            if not member.issym():
                return "file" if member.isreg() else "directory" if member.isdir() else ""
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
        return ""
