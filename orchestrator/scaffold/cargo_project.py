"""What a Cargo.toml says of the program: its name, its workspace, its path dependencies, what it links to."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.scaffold.sight import Sight, common_context, read_text, read_toml, relative_context, table

IMAGE = "docker.io/library/rust:bookworm"
BOOTSTRAP = ("cargo-web", "rustc-web", "gcc", "libc6-dev", "ca-certificates")
_DEBIANS_TARGET = "x86_64-unknown-linux-gnu"
_DEPENDENCIES = ("dependencies", "build-dependencies")
_NEEDS = {
    "openssl-sys": ("libssl-dev", "pkg-config"),
    "openssl-src": ("make", "perl"),
    "prost-build": ("protobuf-compiler",),
    "protobuf-codegen": ("protobuf-compiler",),
    "clang-sys": ("libclang-dev", "clang"),
    "cmake": ("cmake", "g++", "make"),
    "gmp-mpfr-sys": ("m4", "make"),
    "libz-sys": ("zlib1g-dev",),
    "rdkafka-sys": ("cmake", "g++", "make"),
    "librocksdb-sys": ("libclang-dev", "clang", "g++"),
    "zstd-sys": ("pkg-config",),
    "rug": ("m4", "make"),
    "cxx-build": ("g++",),
}
"""Crates that build or link something of Debian's, and its packages."""


def see_cargo(directory: Path) -> Sight | None:
    """The program of the Cargo.toml in `directory`, None where there is none that builds one."""
    document = read_toml(directory / "Cargo.toml")
    if not document:
        return None
    root = _workspace_root(directory, document)
    packages = [(directory, document)] if "package" in document else list(_members(directory, document))
    programs = [(path, name) for path, package in packages for name in _binaries(path, package)]
    if not programs:
        return None
    path, program = _chosen(directory, programs, table(document, "package"))
    settings = read_toml(root / "Cargo.toml")
    outside = sorted({other for folder, package in packages for other in _paths(folder, package, settings)})
    top, below = common_context(directory, [root, *outside])
    lock = root / "Cargo.lock"
    words = ["cargo", "build", "--release", *(["--locked"] if lock.is_file() else [])]
    if len(programs) > 1 or root != directory:
        words += ["--bin", program]
    target = _target(directory, root)
    made = Path(root.relative_to(top), "target", target, "release", program)
    saw = [f"Cargo.toml: the program {program}" + (f", in {path.relative_to(directory)}" if path != directory else "")]
    if others := [name for _, name in programs if name != program]:
        saw.append(f"Cargo.toml: other programs are {', '.join(others[:5])}; name one as build.program and --bin")
    return Sight(
        saw=(*saw, *_surroundings(directory, root, top, outside)),
        context=relative_context(top, directory),
        image=IMAGE,
        bootstrap=BOOTSTRAP,
        packages=(*_packages(lock, packages), *(("musl-tools",) if target.endswith("-musl") else ())),
        run=(*((f"cd {shlex.quote(below)}",) if below else ()), *_add_target(target), shlex.join(words)),
        program=made.as_posix(),
        shim="gevulot" in read_text(path / "Cargo.toml") or "gevulot" in read_text(path / "build.rs").lower(),
        advice=tuple(_advice(lock, target)),
    )


def _add_target(target: str) -> tuple[str, ...]:
    """What installs the target of .cargo/config.toml: rustup, which the image has and Debian's Rust has not."""
    if target in ("", _DEBIANS_TARGET):
        return ()
    return (f"if command -v rustup >/dev/null; then rustup target add {shlex.quote(target)}; fi",)


def _advice(lock: Path, target: str) -> Iterator[str]:
    if not lock.is_file():
        yield "there is no Cargo.lock: `cargo generate-lockfile` pins the crates"
    if target not in ("", _DEBIANS_TARGET):
        yield f"Debian's Rust, which a base made from Debian packages has, cannot build for {target}"


def _surroundings(directory: Path, root: Path, top: Path, outside: list[Path]) -> Iterator[str]:
    """What the program needs of other directories, as paths from its own."""
    if root != directory:
        yield f"{os.path.relpath(root, directory)}/Cargo.toml: its workspace, so cargo builds in the target/ there"
    for other in outside:
        if not other.is_relative_to(root):
            yield f"Cargo.toml: the path dependency {os.path.relpath(other, directory)}"
    if top != directory:
        yield f"so build.context is {os.path.relpath(top, directory)}, which holds all of that"


def _workspace_root(directory: Path, document: dict[str, Any]) -> Path:
    """Where cargo's target/ and Cargo.lock are: the workspace's root, or the package itself."""
    if "workspace" in document:
        return directory
    for above in directory.parents:
        workspace = table(read_toml(above / "Cargo.toml"), "workspace")
        members = [str(member) for member in workspace.get("members", ()) if isinstance(member, str)]
        if any(directory in _matching(above, member) for member in members):
            return above
    return directory


def _members(directory: Path, document: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for member in table(document, "workspace").get("members", ()):
        for path in _matching(directory, str(member)):
            package = read_toml(path / "Cargo.toml")
            if "package" in package:
                yield path, package


def _matching(directory: Path, pattern: str) -> list[Path]:
    """What a member of a workspace names."""
    return [Path(path) for path in sorted(glob.glob(str(directory / pattern)))]  # noqa: PTH207 (takes any pattern)


def _binaries(path: Path, package: dict[str, Any]) -> Iterator[str]:
    name = str(table(package, "package").get("name", ""))
    bins = package.get("bin", ())
    entries = bins if isinstance(bins, list) else []
    named = [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]
    yield from named
    if (path / "src/main.rs").is_file() and name not in named:
        yield name
    for source in sorted((path / "src/bin").glob("*.rs")):
        if source.stem not in named:
            yield source.stem


def _chosen(directory: Path, programs: list[tuple[Path, str]], package: dict[str, Any]) -> tuple[Path, str]:
    wished = (package.get("default-run"), package.get("name"), directory.name)
    return next((pair for wish in wished for pair in programs if pair[1] == wish), programs[0])


def _paths(path: Path, package: dict[str, Any], root: dict[str, Any]) -> Iterator[Path]:
    """The path dependencies, and theirs."""
    seen: set[Path] = set()
    left = [(path, package)]
    shared = table(root, "workspace", "dependencies")
    while left:
        folder, document = left.pop()
        tables = [table(document, key) for key in _DEPENDENCIES]
        tables += [table(target, key) for target in table(document, "target").values() for key in _DEPENDENCIES]
        tables += [patch for patch in table(document, "patch").values() if isinstance(patch, dict)]
        for entry in (value for dependencies in (*tables, shared) for value in dependencies.values()):
            if isinstance(entry, dict) and isinstance(entry.get("path"), str):
                other = (folder / entry["path"]).resolve()
                if other.is_dir() and other not in seen:
                    seen.add(other)
                    left.append((other, read_toml(other / "Cargo.toml")))
    yield from (other for other in seen if not other.is_relative_to(path))


def _packages(lock: Path, packages: list[tuple[Path, dict[str, Any]]]) -> Iterator[str]:
    names = {str(entry.get("name")) for entry in read_toml(lock).get("package", ()) if isinstance(entry, dict)}
    names |= {name for _, package in packages for key in _DEPENDENCIES for name in table(package, key)}
    if "openssl" in names and not lock.is_file():
        names.add("openssl-sys")
    yield from sorted({package for name in names for package in _NEEDS.get(name, ())})


def _target(directory: Path, root: Path) -> str:
    """`build.target` of cargo's own settings: its directory below target/."""
    for folder in (directory, root):
        for name in ("config.toml", "config"):
            target = table(read_toml(folder / ".cargo" / name), "build").get("target")
            if isinstance(target, str):
                return target
    return ""
