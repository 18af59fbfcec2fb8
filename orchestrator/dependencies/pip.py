"""requirements.txt with hashes: wheels and source archives, found by their SHA-256 in the index's page of a project."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from html.parser import HTMLParser
from typing import Annotated, Final
from urllib.parse import unquote, urldefrag, urljoin

from pydantic import Field, TypeAdapter, ValidationError

from orchestrator.dependencies.files import Wanted, registry, take_file
from orchestrator.dependencies.packages import LockedPackages, Package, PackageFile
from orchestrator.errors import InputError
from orchestrator.inputs.access import Access, not_in_cache
from orchestrator.inputs.download import fetch
from orchestrator.inputs.store import key_of
from orchestrator.package_locks import requirements
from orchestrator.suggest import shown

_HASH: Final = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})(?![0-9a-f])")
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._+!-]{0,250}\.(whl|tar\.gz|tar\.bz2|zip|tgz)$"
_PLATFORM: Final = re.compile(r"any|(?:many|musl)?linux\w*_x86_64")
_PAGE: Final = 64 * 2**20
_Files = TypeAdapter(
    tuple[tuple[Annotated[str, Field(pattern=_NAME)], Annotated[str, Field(pattern="^[0-9a-f]{64}$")]], ...]
)


@dataclass(frozen=True, kw_only=True)
class _HashedRequirement:
    """One line. `conditional`: only some machines need it (an environment marker)."""

    name: str
    version: str
    hashes: frozenset[str]
    conditional: bool

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file of a project: its name, where it is, its SHA-256 as the index says."""

    name: str
    url: str
    sha256: str


def read_requirements(text: str) -> LockedPackages:
    """The packages of a requirements.txt whose lines have hashes; the others are refused."""
    packages: dict[str, Package] = {}
    refused: list[str] = []
    for requirement in requirements(text):
        hashes = frozenset(_HASH.findall(requirement.line))
        if not requirement.name or not hashes:
            refused.append(f"{shown(requirement.line.split(' --')[0])} has no version with sha256 hashes")
            continue
        hashed = _HashedRequirement(
            name=requirement.name, version=requirement.version, hashes=hashes, conditional=requirement.conditional
        )
        packages[f"{hashed.title} {sorted(hashes)}"] = Package(title=hashed.title, take=partial(_take, hashed))
    return LockedPackages(packages=packages, refused=tuple(refused))


def _take(requirement: _HashedRequirement, access: Access) -> Iterator[PackageFile]:
    name = key_of("pip", requirement.title, *sorted(requirement.hashes))
    files = _find_known(access, name, requirement) or _choose(_page(access, requirement), requirement)
    if not files and not requirement.conditional:
        raise InputError(
            f"{requirement.title}: the index has no file for x86-64 Linux with a hash of the lock file",
            remedy="check the version and the index: mirrors: {'pypi:': URL}",
        )
    taken = {
        file.name: take_file(access, Wanted(title=requirement.title, url=file.url, sha256=file.sha256))
        for file in sorted(files, key=lambda file: file.name)
    }
    if taken:
        record = json.dumps([[file_name, entry.sha256] for file_name, entry in taken.items()])
        access.store.name(name, next(iter(taken.values())).key, {"files": record})
    for file_name, entry in taken.items():
        yield PackageFile(path=file_name, entry=entry)


def _find_known(access: Access, name: str, requirement: _HashedRequirement) -> list[_File]:
    """What was chosen before, without addresses, if all of it is in the cache."""
    record = access.store.named(name) or {}
    try:
        files = _Files.validate_json(record.get("files", "[]"))
    except ValidationError:
        return []
    if any(sha256 not in requirement.hashes or access.store.get(f"sha256-{sha256}") is None for _, sha256 in files):
        return []
    return [_File(name=file, url="", sha256=sha256) for file, sha256 in files]


class _Links(HTMLParser):
    """The addresses of a page's links, as written."""

    def __init__(self) -> None:
        super().__init__()
        self.collected: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the target of a link."""
        if tag == "a":
            self.collected += [value for name, value in attrs if name == "href" and value]


def _page(access: Access, requirement: _HashedRequirement) -> list[_File]:
    """Every file of a project that the index has, by its page ("simple repository API" in HTML)."""
    if access.offline:
        raise not_in_cache(requirement.title)
    url = f"{registry(access, 'pypi:')}/{requirement.name}/"
    # A page grows with every release.
    entry = fetch(replace(access, refresh=True), url)
    if entry.size > _PAGE:
        raise InputError(
            f"{requirement.title}: the index's page is too large ({entry.size} bytes)", remedy="check `mirrors:`"
        )
    links = _Links()
    links.feed(entry.path.read_text(encoding="utf-8", errors="replace"))
    files = []
    for link in links.collected:
        address, fragment = urldefrag(urljoin(access.redirected(url), link))
        name = unquote(address.partition("?")[0].rpartition("/")[2])
        if re.fullmatch(_NAME, name):
            files.append(_File(name=name, url=address, sha256=fragment.removeprefix("sha256=")))
    return files


def _choose(files: list[_File], requirement: _HashedRequirement) -> list[_File]:
    """The wheels for x86-64 Linux, of every Python: which one the base has isn't known. Without any, the sources."""
    listed = [file for file in files if file.sha256 in requirement.hashes]
    wheels = [file for file in listed if file.name.endswith(".whl") and _suits(file.name)]
    return wheels or [file for file in listed if not file.name.endswith(".whl")]


def _suits(wheel: str) -> bool:
    platforms = wheel.removesuffix(".whl").rpartition("-")[2]
    return any(_PLATFORM.fullmatch(platform) for platform in platforms.split("."))
