"""The vendor's releases: the Nanos kernel, ops and its common files, the GPU assets; or what stands in for them.

Addresses and layouts: facts measured on ops 0.1.43 and Nanos 0.1.51 (docs/facts/ops.md).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from orchestrator import files
from orchestrator.errors import InputError
from orchestrator.events import Notice
from orchestrator.inputs import magic, trees
from orchestrator.inputs.access import Access
from orchestrator.inputs.archives import extract
from orchestrator.inputs.download import fetch
from orchestrator.inputs.grounds import ground_of_download
from orchestrator.inputs.store import CacheEntry, key_of
from orchestrator.project.vendor import GpuAssets, Nanos, Ops
from orchestrator.resolved import Ground, Input, InputName, redact_url
from orchestrator.stub_kernel import stub_boot_image, stub_kernel

NANOS_URL = "https://storage.googleapis.com/nanos/release/{version}/nanos-release-linux-{version}.tar.gz"
COMMON_URL = "https://storage.googleapis.com/nanos/common/common.tar.gz"
NANOS_MD5_URL = "https://storage.googleapis.com/nanos/release/{version}/nanos-release-linux-{version}.md5"
"""What Nanos's release.sh uploads beside the archive."""
OPS_URL = "https://storage.googleapis.com/cli/linux/release/{version}/ops"
OPS_MD5_URL = "https://storage.googleapis.com/cli/linux/release/{version}/ops-linux-{version}.md5"
GPU_URL = "https://storage.googleapis.com/gevulot-static-assets/nanos-{version}-gpu.tar.gz"
STUB_VERSION = "stub"


def resolve_nanos(access: Access, spec: Nanos, root: Path) -> tuple[Input, Input | None]:
    """The kernel's directory (kernel.img, boot.img?, klibs/?) and ops's common.tar.gz (None: there is none)."""
    if spec.kernel == "stub":
        return _stub(access), None
    if spec.path is not None:
        return _local_nanos(access, root, spec)
    version = spec.release
    url = NANOS_URL.format(version=version)
    archive = fetch(access, url, name="nanos", check=_gzip(access, url), title=f"download Nanos {version}")
    release = _Release(f"Nanos {version}", url, NANOS_MD5_URL.format(version=version))
    ground, _ = _by_md5(access, "nanos", release, archive)
    tree = unpack_entry(access, archive, url)
    _require(tree.path / "kernel.img", url)
    pin = {"version": version, **file_pin(archive)}
    kernel = Input(name="nanos", kind="archive", source=redact_url(url), pin=pin, path=tree.path, ground=ground)
    return kernel, resolve_common(access)


def resolve_common(access: Access) -> Input:
    """ops's common.tar.gz: libnss_dns and the certificates of every image."""
    entry = fetch(
        access, COMMON_URL, name="nanos-common", check=_gzip(access, COMMON_URL), title="download Nanos common files"
    )
    return Input(
        name="nanos-common", kind="file", source=COMMON_URL, pin=file_pin(entry), path=entry.path,
        ground=ground_of_download(access, COMMON_URL, entry),
    )  # fmt: skip


def resolve_ops(access: Access, spec: Ops, root: Path) -> Input:
    """The ops program: a release (checked against its md5 where that can be had), a URL, or a file."""
    if spec.path is not None:
        path = root / spec.path
        _require(path, str(path))
        with path.open("rb") as stream:
            script = stream.read(2) == b"#!"
        if not script:  # one's own wrapper is one's own business
            magic.expect_program(path, str(path))
        return _file_input("ops", spec.path, path)
    if spec.url is not None:
        check = _program(access, spec.url)
        entry = fetch(access, spec.url, sha256=spec.sha256, name="ops", check=check, title="download ops")
        return Input(
            name="ops", kind="file", source=redact_url(spec.url), pin=file_pin(entry), path=entry.path,
            ground=ground_of_download(access, spec.url, entry, spec.sha256),
        )  # fmt: skip
    version = spec.version or ""
    url = OPS_URL.format(version=version)
    entry = fetch(access, url, name="ops", check=_program(access, url), title=f"download ops {version}")
    ground, note = _by_md5(access, "ops", _Release(f"ops {version}", url, OPS_MD5_URL.format(version=version)), entry)
    pin = {"version": version, **file_pin(entry)}
    return Input(name="ops", kind="file", source=redact_url(url), pin=pin, path=entry.path, note=note, ground=ground)


def resolve_gpu_assets(access: Access, spec: GpuAssets | None, nanos_version: str, root: Path) -> Input:
    """The GPU assets' directory: klib gpu_nvidia, NVIDIA's libraries, the firmware under nvidia/."""
    if spec is not None and spec.path is not None:
        return resolve_local("gpu-assets", spec.path, root, ())
    url = spec.url if spec is not None and spec.url is not None else GPU_URL.format(version=nanos_version)
    sha256 = spec.sha256 if spec else None
    archive = fetch(access, url, sha256=sha256, name="gpu-assets", check=_archive(access, url))
    tree = unpack_entry(access, archive, url)
    return Input(
        name="gpu-assets", kind="archive", source=redact_url(url), pin=file_pin(archive), path=tree.path,
        ground=ground_of_download(access, url, archive, sha256),
    )  # fmt: skip


def resolve_local(name: InputName, written: str, root: Path, skip: Iterable[str]) -> Input:
    """A directory of the user's, pinned by its content. `skip` names what doesn't count at its top."""
    path = (root / written).absolute()
    if not path.is_dir():
        raise InputError(f"{path} is not a directory", remedy="correct the path")
    pin = {"tree-sha256": trees.digest_tree(path, skip)}
    return Input(name=name, kind="directory", source=written, pin=pin, path=path, ground="local")


def unpack_entry(access: Access, archive: CacheEntry, url: str) -> CacheEntry:
    """The directory that an archive of the cache holds; a damaged archive is dropped from the cache."""
    shown = redact_url(url)

    def fill(target: Path) -> dict[str, str]:
        extract(archive.path, target, name=shown)
        return {"source": shown, "archive": archive.sha256}

    try:
        return access.store.put(f"tree-{archive.sha256}", fill)
    except InputError:
        access.store.remove(archive.key)
        raise


def file_pin(entry: CacheEntry) -> dict[str, str]:
    """The pin of a file: `sha256` and `size`."""
    return {"sha256": entry.sha256, "size": str(entry.size)}


def _stub(access: Access) -> Input:
    boot, kernel = stub_boot_image(), stub_kernel()
    digest = hashlib.sha256(boot + b"\0" + kernel).hexdigest()

    def fill(target: Path) -> dict[str, str]:
        files.make_directory(target)
        files.write_new(target / "boot.img", boot)
        files.write_new(target / "kernel.img", kernel)
        return {"source": "kernel stub"}

    entry = access.store.put(f"stub-{digest}", fill)
    return Input(
        name="nanos", kind="stub", source="kernel: stub", path=entry.path,
        pin={"version": STUB_VERSION, "tree-sha256": entry.sha256},
        note="the kernel is a stand-in that prints one line and stops; the image cannot run the program",
    )  # fmt: skip


def _local_nanos(access: Access, root: Path, spec: Nanos) -> tuple[Input, Input | None]:
    path = root / (spec.path or "")
    _require(path / "kernel.img", str(path))
    directory = resolve_local("nanos", spec.path or "", root, ())
    pin = {**({"version": spec.version} if spec.version else {}), **directory.pin}
    kernel = replace(directory, pin=pin)
    archive = path / "common.tar.gz"
    if not archive.is_file():
        access.emit(
            Notice(
                text=f"{path} has no common.tar.gz, so the image has no certificates and no libnss_dns.so.2",
                level="warning",
            )
        )
        return kernel, None
    magic.expect_gzip(archive, str(archive))
    return kernel, _file_input("nanos-common", str(Path(spec.path or "") / "common.tar.gz"), archive)


def _file_input(name: InputName, written: str, path: Path) -> Input:
    digest, size = trees.file_digest(path)
    pin = {"sha256": digest, "size": str(size)}
    return Input(name=name, kind="file", source=written, pin=pin, path=path.absolute(), ground="local")


@dataclass(frozen=True)
class _Release:
    """A vendor's file, and where its MD5 lies."""

    what: str
    url: str
    md5_url: str


def _by_md5(access: Access, name: InputName, release: _Release, entry: CacheEntry) -> tuple[Ground | Literal[""], str]:
    """Compare a fresh file with the MD5 that the vendor keeps beside it; the ground, and a note if there is none."""
    checked = key_of("md5", release.url, entry.sha256)
    with access.store.lock(checked):  # asked once, also by two builds at a time
        known = None if access.refresh else access.store.named(checked)
        if name in access.pins:
            return "", known["note"] if known else ""  # it is what it was when it was locked
        note = _check_md5(access, release, entry) if known is None else known["note"]
        access.store.name(checked, entry.key, {"note": note})
    ground = ground_of_download(access, release.url, entry)
    # Without TLS whoever changes the file can change its MD5 too.
    return ("checksum" if ground in ("tls", "local") and not note else ground), note


def _check_md5(access: Access, release: _Release, entry: CacheEntry) -> str:
    """Why the vendor's MD5 says nothing; "" when it is the file's. InputError when it is another one's."""
    try:
        text = fetch(access, release.md5_url, title=f"download the md5 of {release.what}").path.read_text(
            errors="replace"
        )
    except InputError as error:
        return f"the vendor's md5 of {release.what} could not be fetched ({error.message})"
    match = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    if match is None:
        return f"the vendor's md5 file of {release.what} holds no md5"
    with entry.path.open("rb") as stream:
        actual = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if actual != match.group().lower():
        access.store.remove(entry.key)
        raise InputError(
            f"{redact_url(access.redirected(release.url))}: md5 is {actual},"
            f" the vendor's md5 file says {match.group().lower()}",
            remedy="run the command again; if it persists, the download is not what the vendor published",
        )
    return ""


def _require(path: Path, source: str) -> None:
    if not path.is_file():
        raise InputError(f"{source} has no {path.name}", remedy="check the path or the version")


def _gzip(access: Access, url: str) -> Callable[[Path], None]:
    return lambda path: magic.expect_gzip(path, redact_url(access.redirected(url)))


def _archive(access: Access, url: str) -> Callable[[Path], None]:
    return lambda path: magic.expect_archive(path, redact_url(access.redirected(url)))


def _program(access: Access, url: str) -> Callable[[Path], None]:
    return lambda path: magic.expect_program(path, redact_url(access.redirected(url)))
