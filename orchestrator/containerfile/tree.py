"""A directory of the host in the build context: what of it goes in."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.containerfile.caches import NINJA_LOG, is_cache
from orchestrator.containerfile.ignore import IGNORE_FILES, IgnoreRules, load_rules
from orchestrator.containerfile.members import Member, scan, status_of
from orchestrator.containerfile.order import MTIME
from orchestrator.containerfile.ours import is_temporary, names_of_ours


@dataclass(frozen=True, kw_only=True)
class HostTree:
    """A directory of the host, placed under `prefix` ("" = the context's root).

    `ignore_file` honours .containerignore or .dockerignore in `source`; `exclude` are host paths (files or
    directories) left out whatever the rules say, a file under all its names. `sources` says that people and their
    tools work in it: files keep the order of their times, and what is ours or a cache stays out (see `ours` and
    `caches`), but for what the patterns `keep` name. Without it all files are as old as `mtime` says, in seconds since
    1970. `ignore_files`: see `ignore`. `unless_named`: real paths of files that stay out where no `!` keeps them.
    """

    prefix: str
    source: Path
    ignore_file: bool = False
    exclude: tuple[Path, ...] = ()
    sources: bool = False
    mtime: int = MTIME
    keep: tuple[str, ...] = ()
    ignore_files: tuple[str, ...] = IGNORE_FILES
    unless_named: frozenset[Path] = frozenset()


@dataclass(kw_only=True)
class Walk:
    """One walk through a tree. `say` gets a line about each thing that is left out, but for what the user asked for.

    `caches`: relative paths of what was left out as a cache, after the walk.
    """

    tree: HostTree
    say: Callable[[str], None]
    caches: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        prefix = self.tree.prefix.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._file: Path | None
        self._rules, self._file = IgnoreRules(), None
        if self.tree.ignore_file:
            self._rules, self._file = load_rules(self.tree.source, self.tree.ignore_files)
        self._in_caches = self._rules.and_keep(self.tree.keep)
        self._excluded = {path.resolve() for path in self.tree.exclude}
        self._linked = [status for path in self._excluded if (status := _hard_linked(path)) is not None]

    def members(self) -> Iterator[Member]:
        """The tree's members, parents first. UsageError for what can't be read."""
        if self._prefix:
            yield Member(path=self._prefix[:-1], kind="dir")
        members, _ = self._visit(self.tree.source.resolve(), "", "")
        yield from members
        if self.caches:
            self.say(self._about_caches())

    def _about_caches(self) -> str:
        file = self._file.name if self._file is not None else IGNORE_FILES[-1]
        shown = []
        for name in self.caches:
            if name.rpartition("/")[2] == NINJA_LOG:
                shown.append(f"{name} (it records this host's times; without it ninja runs every command)")
            else:
                keeper = file if self._rules.may_keep_below(name, name) else "project.yaml names"
                keeper = f"{file} keeps" if keeper == file else keeper
                but = f", except for what {keeper}" if self._in_caches.may_keep_below(name, name) else ""
                shown.append(f"{name}/ (CACHEDIR.TAG marks it as a cache{but})")
        return f"left out of the build context: {', '.join(shown)}; `!PATH` in {file} keeps a path"

    def _visit(self, directory: Path, above: str, cache: str) -> tuple[list[Member], bool]:
        """What is kept below a directory, and whether it held anything of ours. `cache`: the cache it is in, or ""."""
        entries = scan(directory)
        ours = {entry.name for entry in entries if is_temporary(entry.name)}
        ours |= names_of_ours(directory, entries) if self.tree.sources else set()
        members: list[Member] = []
        had_ours = bool(ours)
        for entry in entries:
            path, name = directory / entry.name, above + entry.name
            if entry.name in ours or (self._excluded and self._is_excluded(path, entry)):
                continue
            if entry.is_dir(follow_symlinks=False):
                below, had = self._directory(path, name, cache)
                members += below
                had_ours = had_ours or had
            elif self._keeps_file(name, entry, cache):
                members += self._leaf(name, path, entry)
        return members, had_ours

    def _is_excluded(self, path: Path, entry: os.DirEntry[str]) -> bool:
        """Whether it is one of `exclude`, or another name of the same file."""
        if path in self._excluded:
            return True
        if not self._linked or not entry.is_file(follow_symlinks=False):
            return False
        status = status_of(path)
        return any(os.path.samestat(status, linked) for linked in self._linked)

    def _directory(self, path: Path, name: str, cache: str) -> tuple[list[Member], bool]:
        ignored = self._rules.ignored(name)
        if ignored and not self._rules.may_keep_below(name):
            return [], False
        if not cache and self.tree.sources and is_cache(path):
            cache = name
            if self._in_caches.ignored(name, cache) and not ignored:
                self.caches.append(name)
        if cache:
            ignored = ignored or self._in_caches.ignored(name, cache)
            if ignored and not self._in_caches.may_keep_below(name, cache):
                return [], False
        below, had_ours = self._visit(path, name + "/", cache)
        # A directory with nothing but what we wrote into it was made for that.
        if ignored or (had_ours and not below):
            return below, had_ours
        return [Member(path=self._prefix + name, kind="dir"), *below], had_ours

    def _keeps_file(self, name: str, entry: os.DirEntry[str], cache: str) -> bool:
        if self._rules.ignored(name):
            return False
        if not cache and self.tree.sources and entry.name == NINJA_LOG:
            cache = name
            if self._in_caches.ignored(name, cache):
                self.caches.append(name)
        elif not cache and self.tree.unless_named and Path(entry.path) in self.tree.unless_named:
            cache = name
        return not cache or not self._in_caches.ignored(name, cache)

    def _leaf(self, name: str, path: Path, entry: os.DirEntry[str]) -> Iterator[Member]:
        at = self._prefix + name
        if entry.is_symlink():
            yield Member(path=at, kind="link", target=os.readlink(path))  # noqa: PTH115 (Path would tidy the target)
        elif entry.is_file(follow_symlinks=False):
            executable = bool(status_of(path).st_mode & 0o111)
            yield Member(
                path=at, kind="file", executable=executable, source=path, mtime=self.tree.mtime, aged=self.tree.sources
            )
        else:
            self.say(f"{path} is a socket, pipe or device; left out of the build context")


@dataclass(frozen=True, kw_only=True)
class ListedTree:
    """A tree as one walk found it: its members, the caches that were left out (host paths), and what was said."""

    tree: HostTree
    members: tuple[Member, ...]
    caches: tuple[Path, ...] = ()
    said: tuple[str, ...] = ()


def list_tree(tree: HostTree) -> ListedTree:
    """Walk through a tree once, for all who need to know what is in it. UsageError for what can't be read."""
    said: list[str] = []
    walk = Walk(tree=tree, say=said.append)
    members = tuple(walk.members())
    caches = tuple(tree.source / name for name in walk.caches)
    return ListedTree(tree=tree, members=members, caches=caches, said=tuple(said))


def _hard_linked(path: Path) -> os.stat_result | None:
    """The status of a file that has further names; None for anything else."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) and status.st_nlink > 1 else None
