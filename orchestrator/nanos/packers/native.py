"""The native packer: the staged tree, as it streams out of the container, straight into an image.

It writes what ops 0.1.43 would, in a fixed order, with UUIDs derived from the content: the same input gives the
same bytes on any machine and from any engine.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Final

from orchestrator.archive import ArchiveError, UnpackLimits, read_tar, translate_errors, unpack
from orchestrator.errors import BuildStepError, InputError
from orchestrator.image.errors import ChangedFileError, ImageError
from orchestrator.image.listing import order_key
from orchestrator.image.writer import BootFiles, ImageWriter, OutOfOrderError, WrittenImage
from orchestrator.image_kind import BOOT, Packing
from orchestrator.nanos.packers.read_ahead import read_ahead
from orchestrator.staged import (
    CHUNK,
    OpenArchive,
    PackedEntry,
    PackedTree,
    StagedEntry,
    all_entries,
    changed_file,
    read_entries,
    with_placed,
)
from orchestrator.values import Value

# docs/facts/ops.md, 2: the two files that ops takes out of its common.tar.gz, and where they go.
COMMON_FILES = {
    "libnss_dns.so.2": "lib/x86_64-linux-gnu/libnss_dns.so.2",
    "ca-certificates.crt": "etc/ssl/certs/ca-certificates.crt",
}
COMMON_SIZE = 64 * 2**20
"""They have some 100 KB."""
_KLIBS: Final = f"{BOOT}/klib/"
"""Where staged klibs lie in an image, as `PackedEntry.path`."""
SMALL: Final = 64 * 1024
"""Bytes of a file that are read, hashed and written at once."""
OPENED: Final = 1024 * 1024
"""Bytes from which on a file of this machine is copied by one thread and hashed by another."""
MOST_NOTED: Final = 200_000
"""Entries of a staged tree that are kept in mind for the next build."""


@dataclass(frozen=True, kw_only=True)
class GuestPlan:
    """What the native packer adds to the staged tree, as ops would: root tuple, files, directories, layout.

    `attributes` is the root tuple without `children`; `extra_files` and `mount_points` are guest paths without
    leading "/"; `minimum_size` is bytes (0 = as small as it can be).
    """

    attributes: Mapping[str, Value]
    extra_files: Mapping[str, bytes]
    mount_points: tuple[str, ...]
    klibs: tuple[str, ...]
    staged_klibs: bool
    tfs_version: int
    uefi: bool
    minimum_size: int


@dataclass(frozen=True, kw_only=True)
class NativeJob:
    """What to pack beside the staged tree.

    `nanos` is a directory with kernel.img and, as far as there, boot.img, bootx64.efi and klibs/; `common` is
    ops's common.tar.gz, or None to do without its files. `placed` are files whose places the staged tree has, by guest
    path. `spool` is a directory with room for the whole tree.
    """

    guest: GuestPlan
    nanos: Path
    common: Path | None
    placed: Mapping[str, StagedEntry] = field(default_factory=dict)
    spool: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))


def pack_native(
    job: NativeJob,
    open_archive: OpenArchive,
    target: Path,
    staged: Iterator[StagedEntry] | None = None,
    progress: Callable[[int], None] = lambda _end: None,
) -> Packing:
    """Write the image to `target` (an existing, empty temporary file). `staged`: the tree in an image's order, where it
    needn't be read from an archive. `progress` is told up to which byte the image is as it will be.

    Errors: EngineError for a broken stream, InputError for a missing kernel or klib, BuildStepError for a tree
    that no image can hold.
    """
    with _as_build_error():
        if staged is None:
            return _pack(job, open_archive, target, progress)
        boot = _boot_files(job, lambda: _staged_klibs(open_archive))
        return _write(job, boot, with_placed(staged, job.placed), target, progress)


def pack_native_again(job: NativeJob, tree: PackedTree, target: Path, progress: Callable[[int], None]) -> Packing:
    """The same out of an image in which the tree was packed already; `job.placed` may be other files than there."""
    klibs = {
        entry.path.removeprefix(_KLIBS): _stored_bytes(tree.descriptor, entry)
        for entry in tree.entries
        if entry.path.startswith(_KLIBS)
    }
    staged = [_packed_before(entry, job, tree) for entry in tree.entries if not entry.path.startswith(BOOT)]
    unmarked = tree.unmarked & {f"/{entry.path}" for entry in staged if entry.stored is not None}
    with _as_build_error():
        return replace(_write(job, _boot_files(job, lambda: klibs), iter(staged), target, progress), unmarked=unmarked)


@contextmanager
def _as_build_error() -> Iterator[None]:
    try:
        yield
    except ChangedFileError as error:
        raise changed_file(error.file) from error
    except ImageError as error:
        # The format's own error says "not verified" (6); here a step of the build failed, on a full disk say.
        raise BuildStepError(error.message, remedy=error.remedy) from error


def _packed_before(entry: PackedEntry, job: NativeJob, tree: PackedTree) -> StagedEntry:
    """An entry whose bytes lie in an earlier image, unless another file is to have its place now."""
    placed = job.placed.get(entry.path)
    if placed is not None and (placed.size, placed.sha256) != (entry.size, entry.sha256):
        return placed
    stored = (tree.descriptor, entry.offset)
    return StagedEntry(
        path=entry.path, kind=entry.kind, size=entry.size, target=entry.target, sha256=entry.sha256, stored=stored
    )


def _stored_bytes(descriptor: int, entry: PackedEntry) -> bytes:
    data = os.pread(descriptor, entry.size, entry.offset)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BuildStepError(f"{entry.path} in the earlier image is not what was written there")
    return data


def _pack(job: NativeJob, open_archive: OpenArchive, target: Path, progress: Callable[[int], None]) -> Packing:
    boot = _boot_files(job, lambda: _staged_klibs(open_archive))
    try:
        with open_archive("/stage") as stream, read_ahead(stream) as ahead:
            return _write(job, boot, with_placed(read_entries(ahead, "stage"), job.placed), target, progress)
    except OutOfOrderError:
        # This engine walks directories in an order of its own: spool, sort, write again.
        with tempfile.TemporaryFile(dir=job.spool) as spool, open_archive("/stage") as stream:
            while chunk := stream.read(CHUNK):
                spool.write(chunk)
            spool.seek(0)
            with all_entries(spool, "stage") as entries:
                staged = with_placed(iter(sorted(entries, key=_order)), job.placed)
                return _write(job, boot, staged, target, progress)


def _write(
    job: NativeJob,
    boot: BootFiles,
    staged: Iterator[StagedEntry],
    target: Path,
    progress: Callable[[int], None],
) -> Packing:
    additions = {**_common_files(job.common), **job.guest.extra_files}
    guest, taken = job.guest, list[tuple[str, str, str]]()
    with ImageWriter(target, boot, version=guest.tfs_version, minimum_size=guest.minimum_size) as writer:
        for entry, data in _with_additions(_noting(staged, taken), additions, guest.mount_points):
            if data is not None:
                writer.add_bytes(entry.path, data)
            elif entry.kind == "file" and entry.stored is not None:
                writer.add_stored_file(entry.path, entry.size, entry.sha256, *entry.stored)
            elif entry.kind == "file":
                _add_file(writer, entry)
            elif entry.kind == "directory":
                writer.add_directory(entry.path)
            elif entry.kind == "symlink":
                writer.add_symlink(entry.path, entry.target)
            else:
                writer.copy_file(entry.path, entry.target)
        written = writer.finish(guest.attributes, progress)
    return Packing(tool_version=None, contents=written.contents, staged=tuple(_packed(guest, taken, written)))


def _add_file(writer: ImageWriter, entry: StagedEntry) -> None:
    """Add a file by the shortest way there is for it; changed_file for one that is not what it has to be."""
    if _add_open_file(writer, entry):
        return
    if entry.size > SMALL:
        digest = writer.add_file(entry.path, entry.size, entry.chunks())
    else:
        digest = writer.add_bytes(entry.path, entry.content())
    if entry.sha256 and digest != entry.sha256:
        raise changed_file(f"/{entry.path}")


def _add_open_file(writer: ImageWriter, entry: StagedEntry) -> bool:
    """Add a file that can be opened on this machine; False for others, and for small ones."""
    if entry.open is None or entry.size < OPENED:
        return False
    if entry.sha256:  # it is copied later, and opened then
        writer.add_open_file(entry.path, entry.size, entry.sha256, entry.open)
        return True
    stream = entry.open()
    if stream is None:
        return False
    with stream:
        writer.add_open_file(entry.path, entry.size, "", lambda: stream)
    return True


def _noting(staged: Iterable[StagedEntry], taken: list[tuple[str, str, str]]) -> Iterator[StagedEntry]:
    """The entries as they come; `taken` has path, kind and target of the first."""
    for entry in staged:
        if len(taken) <= MOST_NOTED:
            taken.append((entry.path, entry.kind, entry.target))
        yield entry


def _packed(guest: GuestPlan, taken: Sequence[tuple[str, str, str]], written: WrittenImage) -> Iterator[PackedEntry]:
    """The staged tree, and where the image has its files; a hard link is a file there. Nothing of a huge tree."""
    if len(taken) > MOST_NOTED:
        return
    for name, kind, target in taken:
        if kind in ("directory", "symlink"):
            yield PackedEntry(path=name, kind=kind, target=target)
            continue
        size, sha256 = written.contents[path := f"/{name}"]
        yield PackedEntry(path=name, kind="file", size=size, sha256=sha256, offset=written.places[path])
    for name in guest.klibs if guest.staged_klibs else ():
        size, sha256 = written.boot_contents[path := f"/klib/{name}"]
        yield PackedEntry(
            path=f"{_KLIBS}{name}", kind="file", size=size, sha256=sha256, offset=written.boot_places[path]
        )


def _with_additions(
    staged: Iterable[StagedEntry], additions: Mapping[str, bytes], directories: Iterable[str]
) -> Iterator[tuple[StagedEntry, bytes | None]]:
    """Staged entries and the files that ops adds, in one order; the project's own file wins over an added one."""
    added = {path: StagedEntry(path=path, kind="directory") for path in directories}
    added |= {path: StagedEntry(path=path, kind="file", size=len(data)) for path, data in additions.items()}
    waiting = deque(sorted(((order_key(path), entry) for path, entry in added.items()), key=itemgetter(0)))
    for entry in staged:
        if waiting:
            key = order_key(entry.path)
            while waiting and waiting[0][0] < key:
                other = waiting.popleft()[1]
                yield other, additions.get(other.path)
            if waiting and waiting[0][0] == key:
                waiting.popleft()
        yield entry, None
    for _, other in waiting:
        yield other, additions.get(other.path)


def _order(entry: StagedEntry) -> bytes:
    return order_key(entry.path)


def _common_files(archive: Path | None) -> dict[str, bytes]:
    """The files that ops adds out of common.tar.gz: guest path without leading "/" -> bytes."""
    if archive is None:
        return {}
    files: dict[str, bytes] = {}
    try:
        with archive.open("rb") as stream, translate_errors(), read_tar(unpack(stream, UnpackLimits())) as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.isreg() and name in COMMON_FILES:
                    files[COMMON_FILES[name]] = tar.small(member, COMMON_SIZE)
    except (ArchiveError, OSError) as error:
        raise InputError(
            f"cannot read common.tar.gz: {error}", remedy="fetch it again, or leave it out of nanos.path"
        ) from error
    return files


def _staged_klibs(open_archive: OpenArchive) -> dict[str, bytes]:
    with open_archive("/klibs") as stream:
        return {entry.path: b"".join(entry.chunks()) for entry in read_entries(stream, "klibs") if entry.size}


def _boot_files(job: NativeJob, staged_klibs: Callable[[], Mapping[str, bytes]]) -> BootFiles:
    kernel, boot = job.nanos / "kernel.img", job.nanos / "boot.img"
    if not kernel.is_file():
        raise InputError(f"{job.nanos} has no kernel.img", remedy="set nanos.path to the directory of a Nanos release")
    klibs: dict[str, Path | bytes] = {}
    names = job.guest.klibs
    if names and job.guest.staged_klibs:
        klibs.update(staged_klibs())
    elif names:
        klibs = {name: job.nanos / "klibs" / name for name in names}
    for name in names:
        source = klibs.get(name)
        if source is None or (isinstance(source, Path) and not source.is_file()):
            # ops prints one line about this, ends with status 0, and the image boots without the klib.
            raise BuildStepError(
                f"klib {name} is in neither the manifest's KlibDir nor the Nanos release",
                remedy="correct Klibs, or add the klib to the release's klibs/ or to KlibDir",
            )
    return BootFiles(
        boot_img=boot.read_bytes() if boot.is_file() else None,
        kernel=kernel,
        klibs={name: klibs[name] for name in names},
        efi=_efi(job) if job.guest.uefi else None,
    )


def _efi(job: NativeJob) -> bytes:
    loader = job.nanos / "bootx64.efi"
    if not loader.is_file():
        raise InputError("Uefi is set, but the Nanos release has no bootx64.efi", remedy="use a release that has one")
    return loader.read_bytes()
