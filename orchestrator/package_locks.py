"""Lock files of package managers -> their rows. They are the user's bytes: what a row may hold, its readers judge.

Two ask: the bill of materials wants to know what went in, and passes over what it cannot use; a build that fetches the
packages itself must take every row or say why not.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from orchestrator.text import parse_toml

Kind = Literal["cargo", "go", "npm", "pip"]
"""A package manager; also the name of its folder in the build context."""
_KINDS: Final[dict[str, Kind]] = {
    "Cargo.lock": "cargo",
    "go.sum": "go",
    "go.work.sum": "go",
    "package-lock.json": "npm",
    "npm-shrinkwrap.json": "npm",
}
_NPM_WRITES = "package-lock.json, which `npm install --package-lock-only` writes"
_HASHED = "a requirements.txt with hashes, which `{}` writes"
_UNREAD: Final[dict[str, tuple[Kind, str]]] = {
    "yarn.lock": ("npm", _NPM_WRITES),
    "pnpm-lock.yaml": ("npm", _NPM_WRITES),
    "bun.lock": ("npm", _NPM_WRITES),
    "bun.lockb": ("npm", _NPM_WRITES),
    "uv.lock": ("pip", _HASHED.format("uv export -o requirements.txt")),
    "poetry.lock": ("pip", _HASHED.format("poetry export -o requirements.txt")),
    "pdm.lock": ("pip", _HASHED.format("pdm export -o requirements.txt")),
    "Pipfile.lock": ("pip", _HASHED.format("pipenv requirements --hash")),
}
"""Lock files that are known and not read: the package manager that is, and what of it is read instead."""
_REQUIREMENTS: Final = re.compile(r"requirements[A-Za-z0-9._-]*\.txt")
_REQUIREMENT: Final = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})\s*(?:\[[^\]]{0,200}\])?\s*==\s*([^\s;,#*\\]{1,100})(.*)"
)
# Cargo writes its default registry by the name of its old index, however the crates were fetched.
_USUAL_CRATES: Final = re.compile(r"registry\+https://github\.com/rust-lang/crates[a-z.]*-index")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class CargoRow:
    """A package of a Cargo.lock, as it stands there; what is not text is "".

    `source` is "" for the project's own crates; `sha256` is 64 hex digits, or "" where the file has none.
    """

    name: str
    version: str
    source: str
    sha256: str

    @property
    def from_usual_registry(self) -> bool:
        """Whether it is from crates.io: a private crate must not be looked up under a public one's name."""
        return _USUAL_CRATES.fullmatch(self.source) is not None


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A line of a requirements.txt. `name`, as an index writes it, and `version` are "" unless `==` pins it."""

    line: str
    name: str = ""
    version: str = ""
    conditional: bool = False
    """Only some machines need it (an environment marker)."""


def lock_kind(file_name: str) -> Kind | None:
    """The package manager whose lock files have this name; None where it is no lock file's."""
    return _KINDS.get(file_name) or ("pip" if _REQUIREMENTS.fullmatch(file_name) else None)


def unread_locks(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The lock files among these paths that nothing reads, each with what to do; none that one beside it stands for."""
    paths = sorted(paths)
    read = {(posixpath.dirname(path), kind) for path in paths if (kind := lock_kind(posixpath.basename(path)))}
    for path in paths:
        kind, instead = _UNREAD.get(posixpath.basename(path), (None, ""))
        if kind is not None and (posixpath.dirname(path), kind) not in read:
            yield path, f"put {instead}, beside it"


def cargo_rows(text: str) -> Iterator[CargoRow]:
    """The packages of a Cargo.lock of any version. ValueError if it is not TOML."""
    document = parse_toml(text)
    packages, metadata = document.get("package", []), document.get("metadata", {})
    for row in packages if isinstance(packages, list) else ():
        if not isinstance(row, dict):
            continue
        name, version, source = (_text(row.get(key)) for key in ("name", "version", "source"))
        # Version 1 keeps checksums in a table of their own.
        old = metadata.get(f"checksum {name} {version} ({source})") if isinstance(metadata, dict) else None
        checksum = _text(row.get("checksum")) or _text(old)
        sha256 = checksum if _SHA256.fullmatch(checksum) else ""
        yield CargoRow(name=name, version=version, source=source, sha256=sha256)


def go_rows(text: str) -> Iterator[list[str]]:
    """The words of each line of a go.sum: module, version (with `/go.mod` for that file alone), hash, if it is one."""
    yield from (words for line in text.split("\n") if (words := line.split()))


def npm_package_name(install_path: str) -> str:
    """The name of what package-lock.json has installed at a path; "" for the project's own directories."""
    _, installed, name = install_path.rpartition("node_modules/")
    return name if installed else ""


def requirements(text: str) -> Iterator[Requirement]:
    """What a requirements.txt names to install: comments and pip's options are left out, continued lines are one."""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        bare = re.sub(r"(^|\s)#.*", "", line).strip()
        if not bare or bare.startswith("-"):
            continue
        match = _REQUIREMENT.match(bare)
        if match is None:
            yield Requirement(line=bare)
            continue
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        yield Requirement(line=bare, name=name, version=match[2], conditional=";" in match[3])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
