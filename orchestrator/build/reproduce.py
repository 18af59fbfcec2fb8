"""A build compared with another: `build --reproduce RECEIPT`, and the second build of `reproducible: strict`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from orchestrator import __version__
from orchestrator.build.dependencies import plan_offline
from orchestrator.build.diagnosis import Diagnosis, OriginalImage
from orchestrator.build.finish import keep_rejected, only_build_of
from orchestrator.build.kept_program import program_key, program_tag
from orchestrator.build.prepare import prepare
from orchestrator.build.rebuilds import RebuiltImage, factors_of, rebuild
from orchestrator.build.state import BuildJob, BuildOrder, engine_used
from orchestrator.containerfile.assemble import AssembledContext, BuilderCapabilities, assemble
from orchestrator.digest import file_digests
from orchestrator.engine.podman import SSH as PODMAN_SSH
from orchestrator.engine.select import connect_to_another
from orchestrator.errors import EngineError, InputError, UsageError, VerificationError
from orchestrator.events import Notice
from orchestrator.files import temporary_files_beside
from orchestrator.findings import Findings
from orchestrator.network import SSH_VOLUME
from orchestrator.plan.plan import Factor, Plan
from orchestrator.project.load import lock_path
from orchestrator.provenance.billed import billed_files
from orchestrator.receipt.read import load_receipt
from orchestrator.receipt.receipt import RebuildMade, Receipt
from orchestrator.receipt.record import FinishedBuild, input_used, sha256_text
from orchestrator.reproduce.report import report_differences
from orchestrator.resolved import FILE_PREFIX

_FIELDS = {"gevulot-base": "gevulot.base", "nanos-common": "nanos"}
REBUILT = ".img.rebuilt"


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A rebuild that gave the same bytes. `varied`: under which other conditions, by factor."""

    name: str
    blake3: str
    engine: str
    varied: dict[str, str]


def reproduce(order: BuildOrder, receipt_file: Path, output: Path) -> Reproduction:
    """Build again what a receipt speaks of, from lock and sources, and compare.

    VerificationError when it differs: its findings name each file, its author and the likely cause, and the rebuilt
    image is kept as `output`/NAME.img.rebuilt. UsageError and InputError when it can't be compared, because project,
    lock or sources are not those of the receipt. Errors else: those of a build.
    """
    receipt, name = load_receipt(receipt_file), order.loaded.project.name
    if receipt.name != name:
        message = f"{receipt_file} belongs to {receipt.name}, but {order.loaded.path} is {name}"
        raise UsageError(message, remedy="give the project.yaml that the receipt's image was built from")
    lock = lock_path(order.loaded.path)
    if not lock.is_file():
        message = f"{lock} does not exist, and a rebuild needs the inputs that it pins"
        raise UsageError(message, remedy="restore the lock that was beside project.yaml when the image was built")
    original = _find_original(order, receipt, receipt_file)
    with only_build_of(output, name, order.emit), order.store.in_use(), order.engine.protect(order.build_id):
        job = prepare(order)
        require_same(job, receipt, receipt_file)
        factors = factors_of(job.order.loaded.project, path=False)
        again = _rebuild_and_compare(job, original, receipt.image.blake3, factors, output)
    engine = order.engine.info.kind
    return Reproduction(name=name, blake3=receipt.image.blake3, engine=engine, varied=dict(again.varied))


def rebuild_if_strict(job: BuildJob, built: FinishedBuild, image: Path) -> FinishedBuild:
    """With `reproducible: strict`: build again, on another engine if there is one, and compare with `image`, which is
    what was built. The receipt will tell of it.

    VerificationError as of `reproduce`; the image is then kept as NAME.img.rejected.
    """
    if built.project.reproducible != "strict":
        return built
    order, target, began = job.order, Path(built.image_path), time.monotonic()
    kind = order.engine.info.kind
    original = OriginalImage(kind=order.kind, image=image, engine=kind, built=datetime.now(UTC))
    factors = factors_of(order.loaded.project, path=True)
    with _on_another_engine(job) as second:
        try:
            again = _rebuild_and_compare(second, original, built.digests.blake3, factors, target.parent)
        except VerificationError:
            rejected = keep_rejected(image, target)
            order.emit(Notice(text=f"the first build's image is kept as {rejected}", level="warning"))
            raise
        used = engine_used(second.order.engine.info)
    spent = round(time.monotonic() - began, 3)
    return replace(built, rebuild=RebuildMade(engine=used, varied=dict(again.varied), seconds=spent))


@contextmanager
def _on_another_engine(job: BuildJob) -> Iterator[BuildJob]:
    """The job on an engine of another kind; on its own, with a word, where none can be used or has the inputs."""
    order, kind = job.order, job.order.engine.info.kind
    other = connect_to_another(kind, emit=order.emit)
    if other is None:
        order.emit(Notice(text=f"no engine other than {kind} is available; it does both builds"))
        yield job
        return
    with closing(other):
        try:
            # The inputs are those of the lock, and the finished shim is one of them.
            second = prepare(replace(order, engine=other, options=replace(order.options, no_cache=False)))
        except (EngineError, InputError) as error:
            text = f"{other.info.kind} cannot build it ({error.message}); {kind} does both builds"
            order.emit(Notice(text=text, level="warning"))
            second = job
        yield second


def _rebuild_and_compare(
    job: BuildJob, original: OriginalImage, blake3: str, factors: tuple[Factor, ...], output: Path
) -> RebuiltImage:
    """A rebuild that gave the bytes of this hash. VerificationError, and the rebuilt image is kept, for another one."""
    loaded, target = job.order.loaded, output / f"{job.plan.name}{REBUILT}"
    with temporary_files_beside(target) as make:
        again = rebuild(job, make(), factors, no_cache=True)
        if again.digests.blake3 == blake3:
            target.unlink(missing_ok=True)
            return again
        diagnosis = Diagnosis(job=job, original=original, first=again, factors=factors, make=make)
        differences = report_differences(diagnosis.differences(), loaded.findings(), loaded.run_line)
        again.image.replace(target)
    conditions = ", ".join(f"{name}: {how}" for name, how in again.varied.items())
    varied = f"conditions varied: {conditions}; " if conditions else ""
    text = f"{job.plan.name} is not reproducible; {varied}the rebuilt image is kept as {target}"
    job.order.emit(Notice(text=text, level="warning"))
    raise VerificationError(f"{job.plan.name} is not reproducible", findings=differences)


def _find_original(order: BuildOrder, receipt: Receipt, receipt_file: Path) -> OriginalImage:
    """What is known of the receipt's image: itself, if it lies beside the receipt; else its files' hashes, if any."""
    image: Path | None = receipt_file.parent / Path(receipt.image.path).name
    billed: Mapping[str, str] | None = None
    if image is not None and image.is_file():
        if file_digests(image).blake3 != receipt.image.blake3:
            raise UsageError(
                f"{image} is not the image that {receipt_file} describes",
                remedy="restore that image, or remove this one",
            )
    else:
        image, billed = None, billed_files(receipt, receipt_file.parent)
    try:
        built = datetime.fromisoformat(receipt.finished).astimezone(UTC)
    except ValueError as error:
        message = f"{receipt_file} is not a receipt: finished: {receipt.finished!r} is not a time"
        raise UsageError(message, remedy="give the NAME.receipt.json that `build` wrote") from error
    return OriginalImage(kind=order.kind, image=image, billed=billed, engine=receipt.engine.kind, built=built)


def require_same(job: BuildJob, receipt: Receipt, receipt_file: Path) -> None:
    """InputError, with what differs, unless the job's inputs, steps and sources are those of the receipt."""
    findings = job.order.loaded.findings()
    remedy = f"restore what {receipt_file.name} was built from, or run a normal build"
    told = {row.name: row for row in receipt.inputs}
    resolved = {row.name: input_used(row) for row in job.inputs}
    for name in sorted({*told, *resolved}):
        field = _FIELDS.get(name, "stage.files" if name.startswith(FILE_PREFIX) else name)
        if name not in told or name not in resolved:
            where = "project.yaml" if name in resolved else "the receipt"
            findings.error("other-input", field, f"only {where} has the input {name}", remedy)
            continue
        mine, theirs = resolved[name].pin, told[name].pin
        for key in sorted(mine.keys() & theirs.keys()):
            if mine[key] != theirs[key]:
                text = f"{key} of {name} is {mine[key]}, but the receipt says {theirs[key]}"
                findings.error("other-input", field, text, remedy)
        if resolved[name].kind != told[name].kind:
            text = f"{name} is now taken as {resolved[name].kind}, and the receipt's build took it as {told[name].kind}"
            findings.error("other-input", field, text, remedy)
    if not findings.collected:
        _compare_steps(job, receipt, findings, remedy)
    findings.raise_if_errors(f"{receipt_file} describes other sources", InputError)


def _compare_steps(job: BuildJob, receipt: Receipt, findings: Findings, remedy: str) -> None:
    """What the steps were: the Containerfile, the manifest, and all that they copied."""
    if receipt.orchestrator != __version__:
        text = f"the receipt was written by orchestrator {receipt.orchestrator}, but this is {__version__}"
        findings.error("other-version", "", text, "use that version; another one may build differently")
        return
    made = next(
        (made for made in _possible_contexts(job) if sha256_text(made.containerfile) == receipt.containerfile_sha256),
        None,
    )
    if made is None:
        text = "its build steps differ from the receipt's (containerfile_sha256)"
        findings.error("other-steps", "", text, remedy)
    elif sha256_text(made.manifest) != receipt.manifest_sha256:
        findings.error("other-manifest", "manifest", "differs from the receipt's (manifest_sha256)", remedy)
    elif not _other_shim(job, receipt) and made.context.digest() != receipt.context_sha256:
        text = "the sources differ from the receipt's (context_sha256)"
        findings.error("other-sources", "build.context", text, remedy)


def _other_shim(job: BuildJob, receipt: Receipt) -> bool:
    """Whether the shim, which was built anew, came out otherwise: that is a difference to tell, and no other source."""
    return job.shim is not None and receipt.shim is not None and job.shim.sha256 != receipt.shim.sha256


def _possible_contexts(job: BuildJob) -> Iterator[AssembledContext]:
    """The build as each engine would be given it, and as it is without a network: the receipt's is one of them."""
    order, own = job.order, job.order.engine.capabilities
    builders = [
        BuilderCapabilities(mounts=own.mounts, ssh=own.ssh),
        BuilderCapabilities(),
        BuilderCapabilities(ssh=PODMAN_SSH),
        BuilderCapabilities(ssh=SSH_VOLUME),
        BuilderCapabilities(mounts=False),
    ]

    def for_builders(plan: Plan) -> Iterator[AssembledContext]:
        return (
            assemble(order.loaded, plan, job.inputs, capabilities=builder, sources=job.sources, emit=order.emit)
            for builder in builders
        )

    yield from for_builders(job.plan)
    # Offline the step is given packages that it gets itself otherwise. This reads every source: only if it must.
    other = None if job.plan.dependencies is not None else plan_offline(job)
    if other != job.plan.dependencies:
        yield from for_builders(replace(job.plan, dependencies=other))
    yield from for_builders(
        replace(job.plan, program_image=program_tag(program_key(order.loaded, job.plan, job.inputs)))
    )
