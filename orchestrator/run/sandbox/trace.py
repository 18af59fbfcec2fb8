"""What a traced program looked for and didn't find, as lines for `stage:` of project.yaml."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from orchestrator.image.reader import Filesystem
from orchestrator.image.tree import File
from orchestrator.run.sandbox.outcome import OpenedPath

_LIBRARY: Final = re.compile(r"[^/]+\.so(\.[^/]+)*")
_ASKED_BY_ALL: Final = (
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/usr/lib/locale/",
    "/etc/nsswitch.conf",
    "/etc/nvidia/nvidia-application-profiles-rc",
    "/usr/share/nvidia/nvidia-application-profiles-",
)
"""What the C library looks for in every program, and libcuda in every one for a GPU, and they do without."""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What wasn't there: libraries by name, as `stage.extra` takes them, and files by guest path."""

    libraries: tuple[str, ...]
    files: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Lines for project.yaml; none when all was there."""
        if not self.libraries and not self.files:
            return
        yield "stage:"
        if self.libraries:
            yield f"  extra: [{', '.join(map(yaml_word, self.libraries))}]"
        if self.files:
            yield f"  files: [{', '.join(yaml_word(path.lstrip('/')) for path in self.files)}]"

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"libraries": list(self.libraries), "files": list(self.files)}


_COMPILED: Final = re.compile(r"(.*)/__pycache__/([^/]+)\.[^./]+(?:\.opt-[^./]+)?\.pyc")


def find_used(filesystem: Filesystem, opened: Iterable[OpenedPath]) -> tuple[str, ...]:
    """The image's files that were opened, sorted, as `stage.trim` takes them: with and without links on the way.

    A compiled module of Python stands for its source, from which staging makes it.
    """
    used: set[str] = set()
    for opened_path in opened:
        resolved = filesystem.resolve(opened_path.path)
        if resolved is None or not isinstance(resolved[1], File):
            continue
        for path in (posixpath.normpath(opened_path.path), resolved[0]):
            compiled = _COMPILED.fullmatch(path)
            used.add(f"{compiled[1]}/{compiled[2]}.py" if compiled else path)
    return tuple(sorted(path for path in used if path.isprintable()))


def yaml_word(text: str) -> str:
    """A name as an item of a YAML list, quoted where it has to be; half characters become escapes."""
    dumped = yaml.safe_dump([text], default_flow_style=True, allow_unicode=text.isprintable(), width=100_000)
    return str(dumped).strip()[1:-1]


def find_missing(filesystem: Filesystem, opened: Iterable[OpenedPath]) -> Missing:
    """Which of the opened paths the image hasn't. A loader tries many folders: a library counts when no try hit."""
    libraries: dict[str, bool] = {}
    files: list[str] = []
    for opened_path in opened:
        if opened_path.path.startswith(_ASKED_BY_ALL):
            continue
        there = filesystem.lookup(opened_path.path) is not None
        name = posixpath.basename(opened_path.path)
        if _LIBRARY.fullmatch(name):
            libraries[name] = libraries.get(name, False) or there
        elif not there:
            files.append(opened_path.path)
    return Missing(libraries=tuple(name for name, present in libraries.items() if not present), files=tuple(files))
