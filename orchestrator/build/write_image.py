"""The image, its receipt and what they name, written together: of a build, or of a tree that was staged by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.build.finish import Hashed, verify_and_hash
from orchestrator.build.result import BuiltTree, Result
from orchestrator.build.state import PackJob, phase
from orchestrator.events import Emit, Event
from orchestrator.files import fill, replacing
from orchestrator.image_kind import Packing
from orchestrator.receipt.receipt import EngineUsed, ShimUsed, TakenStage, receipt_text
from orchestrator.receipt.record import FinishedBuild, StageTimes, Warnings, make_receipt

if TYPE_CHECKING:
    from orchestrator.containerfile.context import ContextLine
    from orchestrator.provenance.dsse import SigningKey
    from orchestrator.provenance.records import Records


@dataclass(frozen=True, kw_only=True)
class ImageTarget:
    """Where an image goes, and who signs for it."""

    directory: Path
    sign: SigningKey | None = None


@dataclass(frozen=True, kw_only=True)
class TreeOrigin:
    """What a receipt tells of where a staged tree is from. `context_sha256` is known once it is packed; `context` gives
    what it is of, where the tree may serve for another image."""

    engine: EngineUsed
    containerfile: str
    manifest: str
    context_sha256: Callable[[Packing], str]
    context: Callable[[], Sequence[ContextLine]] | None = None
    shim: ShimUsed | None = None
    taken_stages: tuple[TakenStage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """What is taken down while an image is made: the times of its steps, warnings, when it began."""

    warned: Warnings
    times: StageTimes = field(default_factory=StageTimes)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def listening(self, emit: Emit) -> Emit:
        """`emit`, with the recorder listening."""

        def tell(event: Event) -> None:
            for listener in (self.times.record, self.warned.record, emit):
                listener(event)

        return tell


def write_image(
    job: PackJob,
    origin: TreeOrigin,
    recorder: Recorder,
    target: ImageTarget,
    pack_into: Callable[[Path, Callable[[int], None]], tuple[Packing, Records]],
    compare: Callable[[FinishedBuild, Path], FinishedBuild] = lambda built, _image: built,
) -> Result:
    """Pack, verify, hash and write the image, its receipt and what it names, or leave all as they were.

    `pack_into` writes the image, and may say up to which byte it is as it will be; `compare` may refuse what was
    built, and adds to what the receipt says.
    """
    from orchestrator.provenance.attach import open_attachments

    order, warned = job.order, recorder.warned
    name = order.loaded.project.name
    image, receipt = target.directory / f"{name}.img", target.directory / f"{name}.receipt.json"
    # The inner ones are renamed first: a receipt never speaks of a file that isn't there yet.
    with (
        replacing(receipt) as receipt_part,
        open_attachments(target.directory, name, target.sign) as attachments,
        replacing(image) as image_part,
        Hashed(image_part) as hashed,
    ):
        packing, records = pack_into(image_part, hashed.progress)
        warned.add("staging", records.warnings)
        verification, digests = verify_and_hash(job, hashed, image_part, image, packing, records.warnings)
        warned.add_findings("verify", verification.findings)
        built = FinishedBuild(
            kind=order.kind,
            project=order.loaded.project,
            plan=job.plan,
            inputs=job.inputs,
            engine=origin.engine,
            image_path=str(image),
            digests=digests,
            ops_version=packing.tool_version,
            containerfile=origin.containerfile,
            manifest=origin.manifest,
            context_sha256=origin.context_sha256(packing),
            stages=tuple(recorder.times.rows),
            verification=verification,
            warnings=warned.rows,
            shim=origin.shim,
            taken_stages=origin.taken_stages,
        )
        built = compare(built, image_part)
        with phase(order.emit, "receipt", "write provenance and bill of materials"):
            attached = attachments.write(built, records, recorder.started)
        document = make_receipt(built, attached)
        fill(receipt_part, receipt_text(document).encode())
    return Result(image=image, receipt=receipt, document=document, tree=_built_tree(job, origin, packing, records))


def _built_tree(job: PackJob, origin: TreeOrigin, packing: Packing, records: Records) -> BuiltTree | None:
    """What another image can be made of; None where that can't be, or must not."""
    loaded = job.order.loaded
    strict, said_by_engine = loaded.project.reproducible == "strict", job.plan.finished or loaded.script is not None
    if origin.context is None or not packing.staged or said_by_engine or strict:
        return None
    from orchestrator.provenance.records import with_shim_lock

    shim = job.inputs.gevulot.path if job.inputs.gevulot is not None else None
    whole = with_shim_lock(records, shim)  # with sources that may be gone then
    return BuiltTree(
        inputs=job.inputs, containerfile=origin.containerfile, context=origin.context(), records=whole.files,
        left_out=whole.left_out, entries=packing.staged,
    )  # fmt: skip
