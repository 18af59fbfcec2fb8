"""From the built result to a verified image file: one build of a name at a time, under a temporary name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from orchestrator.build.state import BuildJob, PackJob, PackOrder, phase
from orchestrator.digest import Digests, file_digests
from orchestrator.errors import UsageError, VerificationError
from orchestrator.events import Emit, Notice, StepProgress
from orchestrator.files import PARTIAL_PREFIX, PARTIAL_SUFFIX, FileLock, flush, make_directory
from orchestrator.image_kind import Expected, Packing, PackProgress
from orchestrator.staged import ImageFiles
from orchestrator.verification import Verification
from orchestrator.watermark import Watermark

if TYPE_CHECKING:
    from orchestrator.provenance.records import Records

FLUSH_STEP: Final = 256 * 1024 * 1024
"""Bytes after which those so far are sent to the disk, while the rest is written and hashed."""


@contextmanager
def only_build_of(output: Path, name: str, emit: Emit) -> Iterator[None]:
    """One build of a name in a directory at a time; what killed builds left under temporary names goes first."""
    make_directory(output)
    for path in (output / f"{name}{ending}" for ending in (".img", ".receipt.json")):
        if path.is_dir():
            raise UsageError(
                f"{path} is a directory, and the build writes a file there", remedy="remove it, or use another -o"
            )
    lock = FileLock(output / f".orchestrator-{name}.lock")
    if not lock.acquire(timeout=0):
        emit(Notice(text=f"another build of {name} is writing to {output}; waiting for it"))
        lock.acquire()
    try:
        # The dot ends the name: another project's may go on after it.
        for partial_file in output.glob(f"{PARTIAL_PREFIX}{name}.*-*{PARTIAL_SUFFIX}"):
            with suppress(FileNotFoundError):
                partial_file.unlink()
        yield
    finally:
        lock.release()


def pack(
    job: BuildJob, image_id: str, target: Path, ready: Callable[[int], None] = lambda _end: None
) -> tuple[Packing, Records]:
    """Write the image of the engine's image to `target`; how that was done, and where its files are from. `ready` is
    told up to which byte it is as it will be."""
    with job.order.engine.open_image(image_id, job.order.build_id) as files:
        return pack_files(job, files, target, ready)


def pack_files(
    job: PackJob, files: ImageFiles, target: Path, ready: Callable[[int], None] = lambda _end: None
) -> tuple[Packing, Records]:
    """The same of a staged tree that lies anywhere."""
    from orchestrator.provenance.records import read_records

    with phase(job.order.emit, "pack", job.plan.image.title) as key:

        def copied(done: int, total: int) -> None:
            job.order.emit(StepProgress(id=key, done=done, total=total))

        packing = job.plan.image.pack(job.inputs, files, target, PackProgress(copied=copied, ready=ready))
        return packing, read_records(files.open_archive)


def check(image: Path, order: PackOrder, target: Path, packing: Packing | None = None) -> Verification:
    """What the checks say of the image that is to be `target`; with `packing`, what files it holds."""
    project = order.loaded.project
    expected = Expected(runtime=project.runtime, gpu_families=project.gpu_families, libraries=project.stage.libraries)
    if packing is not None:
        expected = replace(expected, known=packing.contents, unmarked=packing.unmarked)
    with phase(order.emit, "verify", f"verify {target.name}"):
        return replace(order.kind.verify(image, expected), image=target)  # as it is called when it has passed


def _verify(image: Path, order: PackOrder, target: Path, packing: Packing, warnings: Iterable[str]) -> Verification:
    """The checks that the image passed, and its files. VerificationError when it fails one; it is kept as `.rejected`.

    `warnings` of the steps before are said then: they may be why, and no last lines of a finished build will say them.
    """
    verification = check(image, order, target, packing)
    if verification.ok:
        return verification
    for text in warnings:
        order.emit(Notice(text=text, level="warning"))
    rejected = keep_rejected(image, target)
    named = tuple(replace(finding, file=str(rejected)) for check in verification.checks for finding in check.findings)
    raise VerificationError(
        f"the image failed verification; it is kept as {rejected}, for `inspect` and `verify`",
        findings=named,
    )


def keep_rejected(image: Path, target: Path) -> Path:
    """Keep a finished image that must not get its name `target`, to be looked into; where it is then."""
    rejected = target.with_name(f"{target.name}.rejected")
    image.replace(rejected)
    return rejected


def with_stand_ins(verification: Verification, job: PackJob) -> Verification:
    """Also what only the build used."""
    return replace(verification, stand_ins=(*verification.stand_ins, *job.plan.image.stand_ins(job.inputs)))


class Hashed:
    """An image that is hashed, and put on the disk, by threads beside whoever writes and verifies it.

    Where it is written from front to back, `progress` says how far it is. Else all waits for `finish`: a file system
    begins with an id that follows from all of its contents.
    """

    def __init__(self, image: Path) -> None:
        self._image, self._written = image, Watermark()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="hash")
        self._digests = self._threads.submit(file_digests, image, None, self._written)
        self._flushes: list[Future[None]] = []
        self._sent = 0

    def progress(self, end: int) -> None:
        """The first `end` bytes are as they will be. The disk gets them in steps, so that little is left at the end."""
        self._written.reach(end)
        if end - self._sent >= FLUSH_STEP and all(flushed.done() for flushed in self._flushes):
            self._flush(end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what is still going on."""
        self._written.stop()
        self._threads.shutdown()

    def finish(self) -> None:
        """The image is written."""
        self._written.finish()
        self._flush(self._sent)

    def _flush(self, end: int) -> None:
        self._sent = end
        self._flushes.append(self._threads.submit(flush, self._image))

    def digests(self) -> Digests:
        """Of the whole image, which is on the disk then. OSError where it can't be."""
        digests = self._digests.result()
        for flushed in self._flushes:
            flushed.result()
        return digests


def verify_and_hash(
    job: PackJob, hashed: Hashed, image: Path, target: Path, packing: Packing, warnings: Iterable[str]
) -> tuple[Verification, Digests]:
    """`_verify` and `with_stand_ins`, and the image's digests, side by side."""
    hashed.finish()
    verification = with_stand_ins(_verify(image, job.order, target, packing, warnings), job)
    with phase(job.order.emit, "receipt", f"hash {target.name}"):
        # What is written next is loaded while the threads are still hashing.
        from orchestrator.provenance import sbom, statement  # noqa: F401

        return verification, hashed.digests()
