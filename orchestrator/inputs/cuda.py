"""The CUDA toolkit from NVIDIA's Python packages, laid out as NVIDIA's own installers do, at the end of a base's tar.

Only CUDA 13 and newer come whole this way: the packages of CUDA 12 hold ptxas and headers, but no nvcc.
"""

from __future__ import annotations

import io
import re
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from orchestrator import process
from orchestrator.errors import InputError
from orchestrator.inputs.access import Access
from orchestrator.inputs.model import redact
from orchestrator.inputs.trees import file_digest

FIRST_WHOLE: Final = 13
"""The first CUDA whose Python packages hold a compiler."""
COMPONENTS: Final = ("cccl", "crt", "cudart", "nvcc", "nvvm")
"""Extras of the package cuda-toolkit, which pins the version of each component."""
PREFIX: Final = "pypi:"
"""Marks a Python package among a lock's packages: `pypi:NAME=VERSION sha256:HEX`."""
_TARGET: Final = "targets/x86_64-linux"
_PACKAGE: Final = re.compile(r"pypi:([a-z0-9-]+)=([0-9][0-9A-Za-z.+]*)(?: sha256:([0-9a-f]{64}))?")
_WHEEL: Final = re.compile(r"([A-Za-z0-9_.]+)-([0-9][0-9A-Za-z.+]*)-.*\.whl")
_TOP: Final = re.compile(r"nvidia/cu\d+/([^.].*)")
# Wheels hold no modes and no links: what is run, and where it is.
_PROGRAMS: Final = ("bin/", "nvvm/bin/")


def is_whole(version: str) -> bool:
    """Whether the packages of this CUDA version (as 13.0.2) hold a compiler."""
    major = version.partition(".")[0]
    return major.isdigit() and int(major) >= FIRST_WHOLE


def add_toolkit(access: Access, version: str, tar: Path, pinned: tuple[str, ...], epoch: int) -> tuple[str, ...]:
    """Append CUDA `version` to a root file system's tar, under /usr/local; the packages that it is from, as in a lock.

    `pinned` are a lock's packages: then exactly those. Every entry gets the time `epoch` (seconds), so that the same
    packages give the same bytes. Errors: InputError.
    """
    if not is_whole(version):
        raise InputError(
            f"CUDA {version} can't be made from Python packages: those before {FIRST_WHOLE} hold no nvcc",
            remedy=f"use the image nvidia/cuda:{version}-devel-…, from a mirror or `docker load`, or CUDA 13",
        )
    with tempfile.TemporaryDirectory(dir=tar.parent) as scratch:
        wheels = _download(access, version, pinned, Path(scratch))
        try:
            _append(tar, _Toolkit(version=version, wheels=tuple(wheels)), epoch)
        except (zipfile.BadZipFile, tarfile.TarError) as error:
            raise InputError(f"CUDA {version}: a damaged package: {error}", remedy="run it again") from error
        return tuple(f"{PREFIX}{each.name}={each.version} sha256:{file_digest(each.path)[0]}" for each in wheels)


@dataclass(frozen=True, kw_only=True)
class _Wheel:
    name: str
    version: str
    path: Path


def _download(access: Access, version: str, pinned: tuple[str, ...], to: Path) -> list[_Wheel]:
    """The wheels, by pip: it knows the index, the proxies and the certificates that this host is set up for."""
    locked = [found for each in pinned if (found := _PACKAGE.fullmatch(each))]
    wanted = [f"cuda-toolkit[{','.join(COMPONENTS)}]=={version}"]
    options = ["--only-binary=:all:", "--platform=manylinux2014_x86_64", "--platform=manylinux_2_28_x86_64"]
    if locked:
        asked = to / "requirements.txt"
        asked.write_text("".join(f"{m[1]}=={m[2]}" + (f" --hash=sha256:{m[3]}\n" if m[3] else "\n") for m in locked))
        wanted = ["--no-deps", "-r", str(asked)]
    index = access.mirrors.get("pypi:")
    if index:
        options += ["--index-url", index]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    try:
        done = process.run([*command, *options, "--dest", str(to), *wanted], timeout=access.limits.total)
    except TimeoutError as error:
        raise InputError(f"CUDA {version}: {error}", remedy="check the network and the proxy settings") from error
    if done.status != 0:
        raise InputError(
            f"CUDA {version} could not be had:\n{redact(done.tail(6))}", remedy=_mend(done.stderr, version)
        )
    wheels = []
    for path in sorted(to.glob("*.whl")):
        match = _WHEEL.fullmatch(path.name)
        if match is not None:
            wheels.append(_Wheel(name=match[1].replace("_", "-").lower(), version=match[2], path=path))
    return wheels


def _mend(output: str, version: str) -> str:
    if "No module named pip" in output:
        return f"install pip for {sys.executable}"
    if "HASHES" in output:
        return "the index has other files than the lock: `orchestrator lock PROJECT.YAML --upgrade base`"
    if "No matching distribution" in output:
        return f"is {version} a release of the CUDA toolkit? (as 13.0.2); or name an index: mirrors: {{'pypi:': URL}}"
    return "check the network and the proxy settings, or name an index: mirrors: {'pypi:': URL}"


@dataclass(frozen=True, kw_only=True)
class _Toolkit:
    """What goes below /usr/local."""

    version: str
    wheels: tuple[_Wheel, ...]

    @property
    def home(self) -> str:
        """As cuda-13.0: NVIDIA's directories carry two of the three numbers."""
        return "cuda-" + ".".join(self.version.split(".")[:2])

    def files(self) -> dict[str, tuple[_Wheel, str]]:
        """Path below the toolkit → the wheel and the name in it."""
        found = {}
        for wheel in self.wheels:
            with zipfile.ZipFile(wheel.path) as archive:
                for name in archive.namelist():
                    match = _TOP.fullmatch(name)
                    if match and not name.endswith("/") and ".." not in PurePosixPath(name).parts:
                        found[self._place(match[1], wheel)] = (wheel, name)
        return found

    def _place(self, path: str, wheel: _Wheel) -> str:
        top, _, rest = path.partition("/")
        if top not in ("include", "lib"):
            return path
        if wheel.name == "nvidia-cuda-runtime" and re.fullmatch(r"libcudart\.so\.\d+", rest):
            rest = f"libcudart.so.{wheel.version}"
        return f"{_TARGET}/{top}/{rest}"

    def links(self, files: dict[str, tuple[_Wheel, str]]) -> dict[str, str]:
        """Path below the toolkit → a link's text: NVIDIA's own, and those of libraries whose wheels hold one name."""
        links = {"include": f"{_TARGET}/include", "lib64": f"{_TARGET}/lib"}
        for path in files:
            directory, _, name = path.rpartition("/")
            stem, dot, number = name.partition(".so.")
            parts = number.split(".")
            for length in (0, 1) if dot else ():
                link = stem + ".so" + "".join(f".{part}" for part in parts[:length])
                links.setdefault(f"{directory}/{link}", name)
        return {path: text for path, text in links.items() if path not in files}


def _append(tar: Path, toolkit: _Toolkit, epoch: int) -> None:
    files = toolkit.files()
    links = toolkit.links(files)
    with tarfile.open(tar, "a", format=tarfile.PAX_FORMAT) as archive:
        for path, text in _parents(toolkit.home, [*files, *links]):
            archive.addfile(_member(path, text, epoch))
        archives = {each.path: zipfile.ZipFile(each.path) for each in toolkit.wheels}
        try:
            for path, (wheel, name) in sorted(files.items()):
                member = _member(f"{toolkit.home}/{path}", None, epoch)
                member.type, member.mode = tarfile.REGTYPE, 0o755 if path.startswith(_PROGRAMS) else 0o644
                member.size = archives[wheel.path].getinfo(name).file_size
                with archives[wheel.path].open(name) as content:
                    archive.addfile(member, content)
        finally:
            for each in archives.values():
                each.close()
        for path, text in sorted(links.items()):
            archive.addfile(_member(f"{toolkit.home}/{path}", text, epoch))
        archive.addfile(_member("cuda", toolkit.home, epoch))
        _text(archive, f"{toolkit.home}/version.json", f'{{"cuda": {{"version": "{toolkit.version}"}}}}\n', epoch)


def _parents(home: str, paths: list[str]) -> Iterator[tuple[str, None]]:
    seen = {str(parent) for path in paths for parent in PurePosixPath(f"{home}/{path}").parents} - {"."}
    return ((path, None) for path in sorted(seen))


def _member(path: str, link: str | None, epoch: int) -> tarfile.TarInfo:
    """A directory, or a symbolic link where there is a text for it."""
    member = tarfile.TarInfo(f"./usr/local/{path}")
    member.mtime, member.mode, member.type = epoch, 0o755, tarfile.DIRTYPE
    if link is not None:
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, link, 0o777
    return member


def _text(archive: tarfile.TarFile, path: str, text: str, epoch: int) -> None:
    member = _member(path, None, epoch)
    member.type, member.mode, member.size = tarfile.REGTYPE, 0o644, len(text.encode())
    archive.addfile(member, io.BytesIO(text.encode()))
