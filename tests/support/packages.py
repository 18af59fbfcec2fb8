"""Packages as registries serve them, made by hand: crates, Go modules, npm tarballs, wheels. No tool is needed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tar_gz(files: Mapping[str, str]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            # As of a developer's machine: no user of a container.
            member.uid = member.gid = 4_000_000
            tar.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(raw.getvalue(), mtime=0)


def _zip(files: Mapping[str, str]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return raw.getvalue()


def crate(name: str, version: str, source: str) -> bytes:
    """A .crate of a library with one source file."""
    manifest = f'[package]\nname = "{name}"\nversion = "{version}"\nedition = "2018"\n'
    top = f"{name}-{version}"
    return _tar_gz({f"{top}/Cargo.toml": manifest, f"{top}/src/lib.rs": source})


def cargo_lock(
    program: str, crates: Mapping[tuple[str, str], str], *, more: str = "", needs: tuple[str, ...] = ()
) -> str:
    """A Cargo.lock of a program that needs `crates`, (name, version) -> sha256, and `needs`, whose rows are `more`."""
    source = "registry+https://github.com/rust-lang/crates.io-index"
    rows = [
        f'[[package]]\nname = "{name}"\nversion = "{version}"\nsource = "{source}"\nchecksum = "{checksum}"\n'
        for (name, version), checksum in crates.items()
    ]
    named = "".join(f' "{name}",\n' for name in sorted([*needs, *(name for name, _ in crates)]))
    rows.append(f'[[package]]\nname = "{program}"\nversion = "0.1.0"\ndependencies = [\n{named}]\n')
    return "version = 3\n\n" + "\n".join(sorted(rows)) + more


GIT_CRATES = {
    # As in many repositories: a workspace, whose crates take their version from it and need each other by path.
    "Cargo.toml": '[workspace]\nmembers = ["crates/*"]\n[workspace.package]\nversion = "0.2.0"\nedition = "2021"\n',
    "crates/deep/Cargo.toml": """\
[package]
name = "deep"
version.workspace = true
edition.workspace = true

[dependencies]
deeper = {path = "../deeper"}
""",
    "crates/deep/src/lib.rs": 'pub use deeper::*;\npub const BESIDE: &str = include_str!("../../../words");\n',
    "crates/deeper/Cargo.toml": '[package]\nname = "deeper"\nversion = "0.3.0"\nedition = "2021"\n',
    "crates/deeper/src/lib.rs": 'pub fn words() -> &\'static str { "from a repository" }\n',
    "templates/Cargo.toml": '[package]\nname = "{{name}}"\n[',
    "words": "beside it",
}


def git_rows(source: str) -> str:
    """The rows of `GIT_CRATES` in a Cargo.lock."""
    return (
        f'\n[[package]]\nname = "deep"\nversion = "0.2.0"\nsource = "{source}"\ndependencies = [\n "deeper",\n]\n'
        f'\n[[package]]\nname = "deeper"\nversion = "0.3.0"\nsource = "{source}"\n'
    )


def h1(files: Mapping[str, bytes]) -> str:
    """go.sum's hash of files by name."""
    lines = "".join(f"{sha256(data)}  {name}\n" for name, data in sorted(files.items()))
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


def go_module(module: str, version: str, source: str) -> tuple[bytes, bytes, str]:
    """A module's zip, its go.mod, and its two lines of go.sum."""
    mod = f"module {module}\n\ngo 1.19\n"
    files = {f"{module}@{version}/go.mod": mod, f"{module}@{version}/lib.go": source}
    whole = h1({name: text.encode() for name, text in files.items()})
    lines = f"{module} {version} {whole}\n{module} {version}/go.mod {h1({'go.mod': mod.encode()})}\n"
    return _zip(files), mod.encode(), lines


def npm_tarball(name: str, version: str) -> bytes:
    manifest = f'{{"name": "{name}", "version": "{version}"}}'
    return _tar_gz({"package/package.json": manifest, "package/index.js": f"module.exports = '{name}';\n"})


def integrity(data: bytes, algorithm: str = "sha512") -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def wheel(name: str, version: str, source: str) -> bytes:
    """A wheel of one pure Python module."""
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    return _zip({**files, f"{about}/RECORD": "".join(f"{each},,\n" for each in [*files, f"{about}/RECORD"])})
