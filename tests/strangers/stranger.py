"""A stranger's project: where its sources are, and what stranger.yaml says of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent
ABOUT = "stranger.yaml"
STUB = ("nanos: {version: 0.1.51}", "nanos: {kernel: stub}")
"""What every project has in place of the vendor's release, which the tests do not reach."""
_TEXTS = {".toml", ".lock", ".yaml", ".mod"}
"""Files that may have a service's `{word}` in them."""


@dataclass(frozen=True, kw_only=True)
class Stranger:
    """`edits` are texts of the project.yaml that `init` writes, each once in it, and what the user writes instead.

    `first`: how often it was built until the answer was right, when it was met first; `now`: today. A failed build is a
    try, whatever the reason, and so is an edit that only a failure leads to. `note` says what stood in the way.
    """

    name: str
    what: str
    answer: str
    first: int
    now: int
    note: str = ""
    directory: str = "."
    services: tuple[str, ...] = ()
    edits: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Stranger:
        """What the stranger.yaml of a folder says."""
        about: dict[str, Any] = yaml.safe_load((folder / ABOUT).read_text())
        edits = tuple((before, after) for before, after in about.pop("edits", ()))
        services = tuple(about.pop("services", ()))
        return cls(name=folder.name, edits=edits, services=services, **about)

    @property
    def by_hand(self) -> bool:
        """Whether project.yaml comes with it, because there is nothing that `init` could look at."""
        return (FOLDER / self.name / "project.yaml").is_file()

    def copy_to(self, target: Path) -> Path:
        """A copy of its sources."""
        return shutil.copytree(FOLDER / self.name, target, ignore=shutil.ignore_patterns(ABOUT, "target"))

    def fill(self, sources: Path, words: Mapping[str, str]) -> None:
        """Put the services' words into its files."""
        for path in sources.rglob("*") if words else ():
            if path.suffix in _TEXTS and path.is_file():
                path.write_text(_filled(path.read_text(), words))

    def edit(self, project: Path, words: Mapping[str, str]) -> int:
        """Write what a user writes into project.yaml; how many of its lines are not `init`'s, comments apart."""
        text = project.read_text()
        before = set() if self.by_hand else set(text.splitlines())
        for old, new in (*self.edits, STUB):
            assert text.count(old) == 1, f"{old!r} in {text}"
            text = text.replace(old, _filled(new, words))
        project.write_text(text)
        ours = before | {STUB[1]}
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith(STUB[1])]
        return len([line for line in lines if line not in ours])

    def expected(self, words: Mapping[str, str]) -> str:
        """The line that its program must print."""
        return _filled(self.answer, words)


def _filled(text: str, words: Mapping[str, str]) -> str:
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", word)
    return text


STRANGERS = [Stranger.read(path.parent) for path in sorted(FOLDER.glob(f"*/{ABOUT}"))]
