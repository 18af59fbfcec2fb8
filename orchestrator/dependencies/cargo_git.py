"""Crates of Cargo.lock that come from git: the commit's tree, and where in it each crate lies.

Cargo takes them from a directory source as `cargo vendor` makes one for git, with a link for each crate into the whole
tree: so a crate's manifest still finds the workspace above it, and its sources what they include from beside it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote

from orchestrator.dependencies.packages import Package, PackageFile
from orchestrator.documents import DocumentError, read_bounded
from orchestrator.errors import InputError
from orchestrator.inputs import trees
from orchestrator.inputs.access import Access
from orchestrator.inputs.git import fetch_git
from orchestrator.resolved import redact_url
from orchestrator.suggest import shown
from orchestrator.text import is_one_line, parse_toml

# By http and https alone: an address of a lock file gets neither this host's files nor the keys of its ssh agent. The
# commit's id says what must come.
_SOURCE: Final = re.compile(
    r"git\+(?P<url>https?://[^\s?#@]+)(?:\?(?P<kind>branch|tag|rev)=(?P<ref>[^\s&#]+))?#(?P<commit>[0-9a-f]{40})"
)
_ROOT: Final = "/orchestrator/crates-git"


@dataclass(frozen=True, kw_only=True)
class GitSource:
    """A repository of a Cargo.lock: `kind` and `ref` as the manifest asked for it ("" for the default branch)."""

    url: str
    kind: str
    ref: str
    commit: str

    @property
    def id(self) -> str:
        """A name for it, of letters and digits."""
        return hashlib.sha256(f"{self.url}\n{self.kind}\n{self.ref}\n{self.commit}".encode()).hexdigest()[:16]

    @property
    def settings(self) -> bytes:
        """cargo's settings that put the links into its tree in its place."""
        ref = f"{self.kind} = {json.dumps(self.ref)}\n" if self.kind else ""
        return (
            f"\n[source.git-{self.id}]\ngit = {json.dumps(self.url)}\n{ref}"
            f'replace-with = "tree-{self.id}"\n'
            f'\n[source.tree-{self.id}]\ndirectory = "{_ROOT}/{self.id}/.orchestrator"\n'
        ).encode()


def git_source(source: str) -> GitSource | None:
    """What a package's `source` in Cargo.lock names; None for what isn't taken from git here."""
    match = _SOURCE.fullmatch(source)
    if match is None or not is_one_line(unquote(source)):
        return None
    return GitSource(
        url=match["url"], kind=match["kind"] or "", ref=unquote(match["ref"] or ""), commit=match["commit"]
    )


def git_crate(source: GitSource, name: str, version: str) -> Package:
    """The package that gives one crate of a repository."""
    return Package(title=f"{name} {version}", take=partial(_take, source, name, version))


def _take(source: GitSource, name: str, version: str, access: Access) -> Iterator[PackageFile]:
    entry = fetch_git(access, source.url, source.commit).entry
    path = _find_crate(entry.path, name, version)
    if path is None:
        raise InputError(
            f"{shown(redact_url(source.url))} at {source.commit} has no crate {name} {version}",
            remedy="regenerate Cargo.lock with cargo",
        )
    yield PackageFile(path=f"git/{source.id}/tree", entry=entry)
    yield PackageFile(path=f"git/{source.id}/crates/{name}-{version}", data=f"{path}\n".encode())
    yield PackageFile(path=f"git/{source.id}/settings.toml", data=source.settings)


def _find_crate(tree: Path, name: str, version: str) -> str | None:
    """The directory of a crate in a tree, the one nearest to the top if it is there twice."""
    manifests = [PurePosixPath(path) for path, _ in trees.walk(tree) if path.rpartition("/")[2] == "Cargo.toml"]
    for path in sorted(manifests, key=lambda path: (len(path.parts), path)):
        package = _package_table(tree / path)
        own_version = package.get("version")
        # A version that the workspace gives is a table.
        if (
            package.get("name") == name
            and (not isinstance(own_version, str) or own_version == version)
            and is_one_line(str(path))
        ):
            return str(path.parent)
    return None


def _package_table(path: Path) -> dict[str, Any]:
    try:
        table = parse_toml(read_bounded(path, links=False).decode()).get("package")
    except (OSError, ValueError, DocumentError):  # a template, or broken for a test
        return {}
    return table if isinstance(table, dict) else {}
