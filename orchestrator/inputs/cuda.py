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
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from orchestrator import files, process
from orchestrator.archive import ArchiveError, UnpackLimits, read_zip, translate_errors
from orchestrator.errors import InputError
from orchestrator.inputs.access import Access
from orchestrator.inputs.trees import file_digest
from orchestrator.project.bases import FIRST_WHOLE_CUDA, is_whole_cuda
from orchestrator.resolved import redact

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


def add_toolkit(access: Access, version: str, tar: Path, pinned: tuple[str, ...], epoch: int) -> tuple[str, ...]:
    """Append CUDA `version` to a root file system's tar, under /usr/local; the packages that it is from, as in a lock.

    `pinned` are a lock's packages: then exactly those. Every entry gets the time `epoch` (seconds), so that the same
    packages give the same bytes. Errors: InputError.
    """
    if not is_whole_cuda(version):
        raise InputError(
            f"CUDA {version} cannot be assembled from Python packages, which have no nvcc before {FIRST_WHOLE_CUDA}",
            remedy=f"use the image nvidia/cuda:{version}-devel-…, from a mirror or `docker load`, or CUDA 13",
        )
    with tempfile.TemporaryDirectory(dir=tar.parent) as scratch:
        wheels = _download(access, version, pinned, Path(scratch))
        try:
            with translate_errors():
                _append(tar, version, wheels, epoch)
        except ArchiveError as error:
            raise InputError(f"CUDA {version}: damaged package: {error}", remedy="run the command again") from error
        return tuple(f"{PREFIX}{wheel.name}={wheel.version} sha256:{file_digest(wheel.path)[0]}" for wheel in wheels)


@dataclass(frozen=True, kw_only=True)
class _Wheel:
    name: str
    version: str
    path: Path


def _download(access: Access, version: str, pinned: tuple[str, ...], to: Path) -> list[_Wheel]:
    """The wheels, by pip: it knows the index, the proxies and the certificates that this host is set up for."""
    locked = [pin for package in pinned if (pin := _PACKAGE.fullmatch(package))]
    wanted = [f"cuda-toolkit[{','.join(COMPONENTS)}]=={version}"]
    options = ["--only-binary=:all:", "--platform=manylinux2014_x86_64", "--platform=manylinux_2_28_x86_64"]
    if locked:
        asked = to / "requirements.txt"
        lines = (f"{m[1]}=={m[2]}" + (f" --hash=sha256:{m[3]}\n" if m[3] else "\n") for m in locked)
        files.write_new(asked, "".join(lines).encode())
        wanted = ["--no-deps", "-r", str(asked)]
    # By the environment: a mirror's credentials would show in the list of processes.
    index = access.mirrors.get(PREFIX)
    env = {"PIP_INDEX_URL": index} if index else {}
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    try:
        done = process.run([*command, *options, "--dest", str(to), *wanted], env=env, timeout=access.limits.total)
    except TimeoutError as error:
        raise InputError(f"CUDA {version}: {error}", remedy="check the network and the proxy settings") from error
    if done.status != 0:
        raise InputError(
            f"failed to download CUDA {version}:\n{redact(done.tail(6))}", remedy=_mend(done.stderr, version)
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
        return "the index has other files now; `orchestrator lock PROJECT.YAML --upgrade base` accepts them"
    if "No matching distribution" in output:
        known = f"check that {version} is a release of the CUDA toolkit, such as 13.0.2"
        return f"{known}, or name an index: mirrors: {{'pypi:': URL}}"
    return "check the network and the proxy settings, or name an index: mirrors: {'pypi:': URL}"


def _append(tar: Path, version: str, wheels: list[_Wheel], epoch: int) -> None:
    # As cuda-13.0: NVIDIA's directories carry two of the three numbers.
    home = "cuda-" + ".".join(version.split(".")[:2])
    with ExitStack() as opened:
        target = opened.enter_context(tarfile.open(tar, "a", format=tarfile.PAX_FORMAT))
        files: dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]] = {}
        for wheel in wheels:
            stream = opened.enter_context(wheel.path.open("rb"))
            archive = opened.enter_context(read_zip(stream, UnpackLimits()))
            files |= {path: (archive, entry) for path, entry in _files(archive, wheel)}
        if sum(entry.file_size for _, entry in files.values()) > UnpackLimits().size:
            raise ArchiveError(f"it unpacks to more than {UnpackLimits().size} bytes", refused=True)
        links = _links(files)
        for path in _parents(home, [*files, *links]):
            target.addfile(_member(path, epoch, tarfile.DIRTYPE))
        for path, (archive, entry) in sorted(files.items()):
            mode = 0o755 if path.startswith(_PROGRAMS) else 0o644
            with archive.open(entry) as content:
                _add_file(target, _member(f"{home}/{path}", epoch, tarfile.REGTYPE, mode), content, entry.file_size)
        for path, text in [*((f"{home}/{link}", text) for link, text in sorted(links.items())), ("cuda", home)]:
            member = _member(path, epoch, tarfile.SYMTYPE, 0o777)
            member.linkname = text
            target.addfile(member)
        about = f'{{"cuda": {{"version": "{version}"}}}}\n'.encode()
        member = _member(f"{home}/version.json", epoch, tarfile.REGTYPE, 0o644)
        _add_file(target, member, io.BytesIO(about), len(about))


def _files(archive: zipfile.ZipFile, wheel: _Wheel) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """A wheel's files of the toolkit, each with its path below the toolkit."""
    for entry in archive.infolist():
        match = _TOP.fullmatch(entry.filename)
        if match and not entry.is_dir() and ".." not in PurePosixPath(entry.filename).parts:
            yield _toolkit_path(match[1], wheel), entry


def _toolkit_path(path: str, wheel: _Wheel) -> str:
    top, _, rest = path.partition("/")
    if top not in ("include", "lib"):
        return path
    if wheel.name == "nvidia-cuda-runtime" and re.fullmatch(r"libcudart\.so\.\d+", rest):
        rest = f"libcudart.so.{wheel.version}"
    return f"{_TARGET}/{top}/{rest}"


def _links(files: Iterable[str]) -> dict[str, str]:
    """Path below the toolkit → a link's text: NVIDIA's own, and those of libraries whose wheels hold one name."""
    links = {"include": f"{_TARGET}/include", "lib64": f"{_TARGET}/lib"}
    for path in files:
        unversioned, dot, number = path.partition(".so.")
        if dot:
            name = path.rpartition("/")[2]
            for link in (f"{unversioned}.so", f"{unversioned}.so.{number.partition('.')[0]}"):
                links.setdefault(link, name)
    return {path: text for path, text in links.items() if path not in files}


def _parents(home: str, paths: list[str]) -> list[str]:
    return sorted({str(parent) for path in paths for parent in PurePosixPath(f"{home}/{path}").parents} - {"."})


def _member(path: str, epoch: int, kind: bytes, mode: int = 0o755) -> tarfile.TarInfo:
    member = tarfile.TarInfo(f"./usr/local/{path}")
    member.mtime, member.type, member.mode = epoch, kind, mode
    return member


def _add_file(target: tarfile.TarFile, member: tarfile.TarInfo, content: IO[bytes], size: int) -> None:
    member.size = size
    target.addfile(member, content)
