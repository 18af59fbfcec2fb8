"""From the built result to a verified image file: one build of a name at a time, under a temporary name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from orchestrator.build.state import BuildJob, phase
from orchestrator.digest import Digests, file_digests
from orchestrator.errors import VerificationError
from orchestrator.events import Emit, Notice, StepProgress
from orchestrator.files import PARTIAL_PREFIX, PARTIAL_SUFFIX, FileLock, make_directory
from orchestrator.packers.native import NativeJob, pack_native
from orchestrator.packers.ops import extract_image, ops_version
from orchestrator.packers.staged import OpenArchive
from orchestrator.project.load import LoadedProject
from orchestrator.resolved import Inputs
from orchestrator.verify.image import verify_image
from orchestrator.verify.model import Verification
from orchestrator.verify.subject import stand_in_file

if TYPE_CHECKING:
    from orchestrator.provenance.records import Records


@contextmanager
def only_build_of(output: Path, name: str, emit: Emit) -> Iterator[None]:
    """One build of a name in a directory at a time; what killed builds left under temporary names goes first."""
    make_directory(output)
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


def pack(job: BuildJob, image_id: str, target: Path) -> tuple[str | None, Records]:
    """Write the image to `target`; the version of the ops that made it (None: native), and where its files are from."""
    from orchestrator.provenance.records import read_records

    def open_archive(path: str) -> AbstractContextManager[BinaryIO]:
        return job.order.engine.open_archive(image_id, path, job.order.build_id)

    made_by = _write_image(job, open_archive, target)
    return made_by, read_records(open_archive)


def _write_image(job: BuildJob, open_archive: OpenArchive, target: Path) -> str | None:
    if job.plan.packer == "native":
        with phase(job.order.emit, "pack", "write the image from the staged tree"):
            common = job.inputs.nanos_common.local if job.inputs.nanos_common else None
            native = NativeJob(guest=job.plan.guest, nanos=job.inputs.nanos.local, common=common, spool=target.parent)
            pack_native(native, open_archive, target)
        return None
    with phase(job.order.emit, "pack", "copy the image out of the container") as key:

        def progress(done: int, total: int) -> None:
            job.order.emit(StepProgress(id=key, done=done, total=total))

        extract_image(job.plan.name, open_archive, target, progress)
        return ops_version(open_archive)


def verify(image: Path, loaded: LoadedProject, target: Path, emit: Emit, warnings: Iterable[str] = ()) -> Verification:
    """The checks that the image passed. VerificationError when it fails one; it is kept beside as `.rejected`.

    `warnings` of the steps before are said then: they may be why, and no last lines of a finished build will say them.
    """
    with phase(emit, "verify", f"verify {target.name}"):
        verification = verify_image(
            image,
            project_runtime=loaded.project.runtime,
            gpu_families=loaded.project.gpu_families,
            libraries=loaded.project.stage.libraries,
        )
    if verification.ok:
        return verification
    for text in warnings:
        emit(Notice(text=text, level="warning"))
    rejected = target.with_name(f"{target.name}.rejected")
    image.replace(rejected)
    named = tuple(replace(finding, file=str(rejected)) for check in verification.checks for finding in check.findings)
    raise VerificationError(
        f"the image failed verification; it is kept as {rejected}; look into it with (`inspect`, `verify`)",
        findings=named,
    )


def with_stand_ins(verification: Verification, inputs: Inputs) -> Verification:
    """Also what only the build used: an image made by a stand-in ops looks like the real one's."""
    stand_in = stand_in_file(inputs.ops.local, "input:ops") if inputs.ops is not None else None
    return replace(verification, stand_ins=(*verification.stand_ins, stand_in)) if stand_in else verification


def hash_image(image: Path, target: Path, emit: Emit) -> Digests:
    """The image's digests, with progress under the name that it will have."""
    with phase(emit, "receipt", f"hash {target.name}") as key:
        total = image.stat().st_size
        return file_digests(image, lambda done: emit(StepProgress(id=key, done=done, total=total)))
