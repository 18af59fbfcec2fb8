"""The guest's tree as ops puts it together: names on host paths, later additions over earlier ones."""
# Without pathlib: paths are text here: `./a` and `data/` mean other things to ops than `a` and `data`.
# ruff: noqa: PTH112, PTH114, PTH115, PTH116, PTH118, PTH119, PTH208

from __future__ import annotations

import fnmatch
import os
import stat
from dataclasses import dataclass, field

from orchestrator.values import Value

from .console import BuildFailureError, log_error, panic, say


@dataclass(frozen=True)
class Link:
    """A symbolic link, target verbatim."""

    target: str


Folder = dict[str, "str | Link | Folder"]
"""Name → host path of a file, a link, or a folder."""


def reason(error: OSError, call: str, path: str) -> str:
    """`stat x: no such file or directory`, as ops words it."""
    return f"{call} {path}: {(error.strerror or 'error').lower()}"


@dataclass(kw_only=True)
class Guest:
    """Root tree, root attributes and klibs of the image to be."""

    root: Folder = field(default_factory=dict)
    attributes: dict[str, Value] = field(default_factory=dict)
    environment: dict[str, Value] = field(default_factory=dict)
    klibs: dict[str, str] | None = None

    def add_file(self, guest: str, host: str) -> None:
        """The file `host` at `guest`. The folders on the way stay even when the file turns out to be missing."""
        folder, name = self._place(guest)
        old = folder.get(name)
        if old is not None and not isinstance(old, str):
            log_error(f"file '{guest}' overriding an existing directory")
        self._warn_of_overwriting(guest, old, host)
        check_exists(host)
        folder[name] = host

    def add_link(self, guest: str, host: str) -> None:
        """The link `host` at `guest`; where it points must exist on the host."""
        folder, name = self._place(guest)
        self._warn_of_overwriting(guest, folder.get(name), host)
        check_exists(host)
        folder[name] = Link(os.readlink(host))

    def make_folders(self, guest: str) -> Folder:
        """The folder `guest`, made where missing."""
        folder = self.root
        for name in guest.split("/"):
            if name:
                folder = _enter(folder, name)
        return folder

    def add_tree(self, directory: str) -> None:
        """A `Dirs` entry: the tree at the path as it is written."""
        for path in _walk(directory):
            if os.path.islink(path):
                try:
                    os.stat(path)
                except OSError as error:
                    say(f"warning: {reason(error, 'stat', path)}")
                    continue
                self.add_link(path, path)
            elif os.path.isdir(path):
                self._add_folder(path)
            else:
                self.add_file(path, path)

    def add_mapped(self, pattern: str, target: str) -> None:
        """A `MapDirs` entry: everything below the directory whose own name fits the last part of `pattern`."""
        top, glob = os.path.split(pattern)
        top = top if top in ("", "/") else top + "/"
        glob = glob.replace("[^", "[!")
        for path in _walk(top):
            name = "" if path == top else os.path.basename(path)
            if not fnmatch.fnmatchcase(name, glob):
                continue
            guest = os.path.normpath(os.path.join(target, "" if path == top else os.path.relpath(path, top)))
            if os.path.islink(path):
                self.add_link(guest, path)
            elif os.path.isdir(path):
                self.make_folders(guest)
            else:
                self.add_file(guest, path)

    def _add_folder(self, path: str) -> None:
        folder = self.root
        for name in filter(None, path.split("/")):
            if isinstance(folder.get(name), str):
                message = f"directory {path} is conflicting with an existing file"
                log_error(message)
                raise BuildFailureError(f"failed building manifest: {message}")
            folder = _enter(folder, name)

    def _place(self, guest: str) -> tuple[Folder, str]:
        names = [name for name in guest.split("/") if name]
        folder = self.root
        for name in names[:-1]:
            folder = _enter(folder, name)
        return folder, names[-1]

    @staticmethod
    def _warn_of_overwriting(guest: str, old: str | Link | Folder | None, host: str) -> None:
        if isinstance(old, str) and old != host:
            say(f"warning: overwriting existing file {guest} hostpath old: {old} new: {host}")


def check_exists(host: str) -> None:
    """BuildFailureError unless `host` exists, links followed."""
    try:
        os.stat(host)
    except OSError as error:
        raise BuildFailureError(
            f'failed building manifest: file "{host}" is missing: {reason(error, "stat", host)}'
        ) from error


def _enter(folder: Folder, name: str) -> Folder:
    inner = folder.setdefault(name, {})
    if not isinstance(inner, dict):
        panic("interface conversion: interface {} is string, not map[string]interface {}")
    return inner


def _walk(top: str) -> list[str]:
    """`top` and all below it in the order of names, links not followed; `top` itself as it is written."""
    try:
        mode = os.lstat(top).st_mode
        names = sorted(os.listdir(top), key=os.fsencode) if stat.S_ISDIR(mode) else []
    except OSError as error:
        raise BuildFailureError(f"failed building manifest: {reason(error, 'lstat', top)}") from error
    path = [top]
    for name in names:
        path += _walk(os.path.normpath(os.path.join(top, name)))
    return path
