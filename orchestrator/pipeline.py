"""The order of the steps, from project.yaml to receipt. This module knows it, and nothing else does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

from filelock import FileLock, Timeout

from orchestrator.containerfile.assemble import (
    CONTAINERFILE,
    Assembled,
    Dialect,
    assemble,
    assemble_shim,
    proxy_arguments,
)
from orchestrator.containerfile.render import render_containerfile
from orchestrator.containerfile.rendered import check_room, clear_earlier, command_by_hand
from orchestrator.digest import Digests, file_digests
from orchestrator.engine.base import BuildRequest, BuildSecret, Engine, LayerLost, Leftover, StepFailed
from orchestrator.errors import BuildStepError, EngineError, Finding, Severity, UsageError, VerificationError
from orchestrator.events import Emit, Event, Notice, StepFinished, StepProgress, StepStarted
from orchestrator.files import PARTIAL_PREFIX, PARTIAL_SUFFIX, replacing
from orchestrator.image.errors import ImageError
from orchestrator.inputs.model import Inputs
from orchestrator.inputs.nominal import nominal_inputs
from orchestrator.inputs.resolve import Options
from orchestrator.inputs.store import Entry, Store
from orchestrator.inputs.transfer import export_entries
from orchestrator.lock.resolve import Policy, resolve_locked
from orchestrator.manifest.effective import EffectiveManifest
from orchestrator.manifest.merge import effective_manifest
from orchestrator.network import CA_SECRET
from orchestrator.packers.native import NativeJob, pack_native
from orchestrator.packers.ops import explain, extract_image, ops_version
from orchestrator.packers.staged import OpenArchive
from orchestrator.plan.make import make_plan
from orchestrator.plan.model import Plan
from orchestrator.plan.origins import line_in_script, origin_of
from orchestrator.prebuilt.bundle import input_keys, keep_images
from orchestrator.prebuilt.program import STAGE as PROGRAM_STAGE
from orchestrator.prebuilt.program import keep_program, load_program, program_key, program_tag
from orchestrator.prebuilt.shim import RESULT as SHIM_RESULT
from orchestrator.prebuilt.shim import STAGE as SHIM_STAGE
from orchestrator.prebuilt.shim import NotKept, shim_name, take_shim, with_shim
from orchestrator.project.load import LoadedProject, load_project
from orchestrator.project.paths import check_paths
from orchestrator.project.secrets import ProjectSecrets, read_secrets
from orchestrator.project.user_settings import with_user_settings
from orchestrator.receipt import Built, ShimUsed, StageTimes, receipt_document, receipt_text
from orchestrator.verify.image import verify_image
from orchestrator.verify.model import Verification
from orchestrator.verify.subject import stand_in_file

if TYPE_CHECKING:
    from orchestrator.provenance.dsse import SigningKey
    from orchestrator.provenance.records import Records

TARGET = "result"
BUILD_ATTEMPTS = 3
"""Builds of others that end at the same time can take a layer away: twice in a row is bad luck enough."""
DEFAULT_OUTPUT = Path("target")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A project whose own files are right: what `check` proves and every other command starts from."""

    loaded: LoadedProject
    manifest: EffectiveManifest
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build. `locked`: only what the lock says; `offline`: no network; `no_cache`: every step again."""

    locked: bool = False
    offline: bool = False
    no_cache: bool = False


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One build under way. `exclude` is what the context leaves out; `shim` the finished one, if there is one."""

    engine: Engine
    loaded: LoadedProject
    inputs: Inputs
    plan: Plan
    secrets: ProjectSecrets
    emit: Emit
    build_id: str
    store: Store
    options: BuildOptions
    exclude: tuple[Path, ...]
    shim: ShimUsed | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished build: where the image and its receipt are, and the receipt's document."""

    image: Path
    receipt: Path
    document: dict[str, Any]


def check_project(path: Path) -> Checked:
    """Validate project.yaml, manifest and paths: no engine, no network, nothing written.

    UsageError holds every error of all three; warnings and notes come back in `findings`.
    """
    loaded = with_user_settings(load_project(path))
    findings = [*loaded.warnings, *check_paths(loaded)]
    manifest: EffectiveManifest | None = None
    try:
        manifest = effective_manifest(loaded)
        findings += manifest.findings
    except UsageError as error:
        findings += error.findings or (
            Finding(
                severity=Severity.ERROR, code="manifest", message=error.message, remedy=error.remedy, file=str(path)
            ),
        )
    if manifest is None or any(finding.severity is Severity.ERROR for finding in findings):
        raise UsageError(f"{path} can't be built", findings=findings)
    return Checked(loaded=loaded, manifest=manifest, findings=tuple(findings))


def render_text(checked: Checked) -> str:
    """The Containerfile alone: nothing is fetched, bases and sources are named as in project.yaml."""
    return render_containerfile(make_plan(checked.loaded, checked.manifest, nominal_inputs(checked.loaded)))


def render_context(checked: Checked, *, output: Path, emit: Emit) -> tuple[str, ...]:
    """Write the Containerfile and all that it copies into `output`; the command that builds it by hand.

    Outside inputs are fetched, no engine is asked.
    """
    check_room(output)
    inputs = resolve_locked(checked.loaded, None, emit)
    plan = make_plan(checked.loaded, checked.manifest, inputs)
    made = assemble(checked.loaded, plan, inputs, dialect=Dialect(), exclude=(output,), emit=emit)
    clear_earlier(output)
    made.context.write_to(output)
    return command_by_hand(checked.loaded, made, output)


def build_project(
    checked: Checked,
    engine: Engine,
    *,
    output: Path,
    emit: Emit,
    options: BuildOptions | None = None,
    sign: SigningKey | None = None,
) -> Result:
    """Build, verify and write `output/NAME.img`, its receipt and what it names, or leave all as they were."""
    from orchestrator.provenance.attach import attaching

    loaded, name = checked.loaded, checked.loaded.project.name
    times, started = StageTimes(), datetime.now(UTC)

    def tell(event: Event) -> None:
        times.record(event)
        emit(event)

    store, secrets = Store(emit=tell), _secrets(loaded, engine)  # before anything is written
    with _only_build_of(output, name, tell), store.in_use():
        job = _prepared(checked, engine, store, secrets, tell, options or BuildOptions(), (output,))
        if job.options.offline:
            job = _with_kept_program(job)
        made = _assembled(job)
        image_id = _run_containerfile(job, made, TARGET)
        target, receipt = output / f"{name}.img", output / f"{name}.receipt.json"
        # The inner ones are renamed first: a receipt never speaks of a file that isn't there yet.
        with (
            replacing(receipt) as receipt_part,
            attaching(output, name, sign) as attachments,
            replacing(target) as image_part,
        ):
            made_by, records = _pack(job, image_id, image_part)
            # What it held is in the image file now; its layers stay as the engine's cache.
            _forget(job, image_id)
            verification = _with_stand_ins(_verify(image_part, loaded, target, tell), job.inputs)
            digests = _digests(image_part, target, tell)
            built = Built(
                project=loaded.project,
                plan=job.plan,
                inputs=job.inputs,
                engine=engine.info,
                image_path=str(target),
                digests=digests,
                ops_version=made_by,
                containerfile=made.containerfile,
                manifest=made.manifest,
                context_sha256=made.context.digest(),
                stages=times.rows,
                verification=verification,
                shim=job.shim,
            )
            with phase(tell, "receipt", "write provenance and bill of materials"):
                attached = attachments.write(built, image_part, records, started)
            document = receipt_document(built, attached)
            receipt_part.write_text(receipt_text(document), encoding="utf-8")
    return Result(image=target, receipt=receipt, document=document)


def require_secrets(checked: Checked) -> None:
    """UsageError, with lines, when a secret of the project isn't there. `build_project` says the same, but later."""
    read_secrets(checked.loaded)


def _secrets(loaded: LoadedProject, engine: Engine) -> ProjectSecrets:
    """What `read_secrets` reads; EngineError when the engine can't give it to a build step."""
    build, info = loaded.project.build, engine.info
    for name, asked, can in (("secrets", bool(build.secrets), info.mounts), ("ssh", build.ssh, bool(info.ssh))):
        if asked and not can:
            message = f"{info.kind} {info.version} ({info.builder}) at {info.endpoint} can't give it to a build step"
            remedy = "use Docker with BuildKit (unset DOCKER_BUILDKIT), or a Podman of this machine (--engine podman)"
            finding = Finding(
                severity=Severity.ERROR, code="engine", message=message, remedy=remedy, file=str(loaded.path),
                line=loaded.line(f"build.{name}"), field=f"build.{name}",
            )  # fmt: skip
            raise EngineError(message, remedy=remedy, findings=(finding,))
    return read_secrets(loaded)


def export_bundle(checked: Checked, engine: Engine, *, target: Path, emit: Emit) -> list[Entry]:
    """Write all that a build of the project needs to `target`, for a machine without a network; what it holds.

    That is every input, the finished shim, images that were pulled, and the result of the stage `program`: its step may
    download (crates, say), so it is built here, or taken from the engine's cache. The lock stays beside project.yaml.
    """
    store, secrets = Store(emit=emit), _secrets(checked.loaded, engine)
    with store.in_use():
        job = _prepared(checked, engine, store, secrets, emit, BuildOptions(), (DEFAULT_OUTPUT, target))
        key = program_key(job.loaded, job.plan, job.inputs, job.exclude)
        with store.lock(f"bundle-{key}"):
            image = _run_containerfile(
                replace(job, build_id="bundle"), _assembled(job), PROGRAM_STAGE, program_tag(key)
            )
            with phase(emit, "bundle", "save the images"):
                keep_program(store, engine, key)
                keys = [key, *input_keys(store, job.inputs), *keep_images(store, engine, job.inputs)]
            _forget(replace(job, build_id="bundle"), image)
        if job.shim is not None:
            keys.append(job.shim.key)
        with phase(emit, "bundle", f"write {target.name}"):
            try:
                return export_entries(store, keys, target)
            finally:
                store.remove(key)  # large, of use on the other machine only, and saved again in seconds


def _prepared(
    checked: Checked,
    engine: Engine,
    store: Store,
    secrets: ProjectSecrets,
    emit: Emit,
    options: BuildOptions,
    exclude: tuple[Path, ...],
) -> _Job:
    """Inputs resolved, plan made, and the shim built or taken."""
    loaded = checked.loaded
    policy = Policy(locked=options.locked, offline=options.offline, options=Options(store=store))
    inputs = resolve_locked(loaded, engine, emit, policy)
    plan = make_plan(loaded, checked.manifest, inputs)
    job = _Job(
        engine=engine,
        loaded=loaded,
        inputs=inputs,
        plan=plan,
        secrets=secrets,
        emit=emit,
        build_id=uuid4().hex,
        store=store,
        options=options,
        exclude=exclude,
    )
    return job if plan.shim is None else _with_shim(job)


def _with_shim(job: _Job) -> _Job:
    """The job with a finished shim: from the cache, or built now and kept there for every project on this machine."""
    name = shim_name(job.plan, job.inputs)
    built = False

    @contextmanager
    def open_result() -> Iterator[BinaryIO]:
        nonlocal built
        built = True
        made = assemble_shim(job.loaded, job.plan, job.inputs, dialect=_dialect(job), emit=job.emit)
        image_id = _run_containerfile(job, made, SHIM_STAGE)
        try:
            with job.engine.open_archive(image_id, SHIM_RESULT, job.build_id) as stream:
                yield stream
        finally:
            _forget(job, image_id)

    try:
        entry = take_shim(job.store, name, open_result, newer_than=time.time() if job.options.no_cache else 0.0)
    except NotKept as error:
        # It is built beside the program then, every time.
        job.emit(Notice(text=f"the built shim is not kept: {error.message}"))
        return job
    if not built:
        with phase(job.emit, "shim", "take the finished shim from the cache"):
            pass
    used = ShimUsed(key=entry.key, sha256=entry.sha256, reused=not built)
    return replace(job, plan=with_shim(job.plan, entry), shim=used)


def _with_kept_program(job: _Job) -> _Job:
    """Offline: the job with the image that a bundle brought for its build step, when it is of the very same step."""
    key = program_key(job.loaded, job.plan, job.inputs, job.exclude)
    with phase(job.emit, "inputs", "look for the finished build step"):
        image = load_program(job.store, job.engine, key)
    if image is None:
        job.emit(Notice(text="no bundle holds the result of this build step; it runs without a network"))
        return job
    return replace(job, plan=replace(job.plan, program_image=image))


def _assembled(job: _Job) -> Assembled:
    return assemble(job.loaded, job.plan, job.inputs, dialect=_dialect(job), exclude=job.exclude, emit=job.emit)


def _dialect(job: _Job) -> Dialect:
    return Dialect(mounts=job.engine.info.mounts, ssh=job.engine.info.ssh)


def _forget(job: _Job, image_id: str) -> None:
    """Remove an image of this build from the engine; its layers stay as the engine's cache."""
    with suppress(EngineError):
        job.engine.remove(Leftover(kind="image", id=image_id, name="", build_id=job.build_id))


def _digests(image: Path, target: Path, emit: Emit) -> Digests:
    with phase(emit, "receipt", f"hash {target.name}") as key:
        total = image.stat().st_size
        return file_digests(image, lambda done: emit(StepProgress(id=key, done=done, total=total)))


@contextmanager
def phase(emit: Emit, stage: str, title: str) -> Iterator[str]:
    """One of our own steps, as events; gives its id."""
    key, began = f"{stage}-{uuid4().hex[:8]}", time.monotonic()
    emit(StepStarted(id=key, stage=stage, title=title))
    try:
        yield key
    except BaseException as error:
        emit(StepFinished(id=key, seconds=time.monotonic() - began, error=str(error) or type(error).__name__))
        raise
    emit(StepFinished(id=key, seconds=time.monotonic() - began))


@contextmanager
def _only_build_of(output: Path, name: str, emit: Emit) -> Iterator[None]:
    """One build of a name in a directory at a time; what killed builds left under temporary names goes first."""
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / f".orchestrator-{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
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


def _run_containerfile(job: _Job, made: Assembled, target: str, tag: str = "") -> str:
    # The user's own are for the user's step; the shim's sources come from elsewhere.
    own = target != SHIM_STAGE
    secrets = [BuildSecret(id=name, data=value) for name, value in job.secrets.values.items() if own]
    if job.engine.info.mounts:
        secrets.append(BuildSecret(id=CA_SECRET, data=made.certificates, hide=False))
    request = BuildRequest(
        context=(),
        containerfile=CONTAINERFILE,
        tag=tag or f"localhost/orchestrator/{job.plan.name.lower()}:{target}-{job.build_id[:12]}",
        build_id=job.build_id,
        target=target,
        build_args={} if job.options.offline else proxy_arguments(job.loaded),
        no_cache=job.options.no_cache,
        offline=job.options.offline,
        images=tuple(base.reference for base in (job.inputs.base, job.inputs.gevulot_base) if base is not None),
        secrets=tuple(secrets),
        ssh=job.secrets.agent if own else "",
    )
    for attempt in range(1, BUILD_ATTEMPTS + 1):
        try:
            return job.engine.build(replace(request, context=made.context.stream()), job.emit)
        except LayerLost as lost:
            if attempt == BUILD_ATTEMPTS:
                raise
            job.emit(Notice(text=f"{lost.message}; the build begins again"))
        except StepFailed as failure:
            raise _explained(failure, job.loaded, job.plan) from failure
    raise AssertionError("unreachable")


def _explained(failure: StepFailed, loaded: LoadedProject, plan: Plan) -> BuildStepError:
    """A failed step in words: its last lines, where it came from in project.yaml, what to do."""
    origin = origin_of(failure.stage, failure.instruction, plan.origins)
    if origin is not None and origin.field == "ops":
        base = explain(failure)
        message, remedy = base.message, base.remedy
    else:
        status = f" with status {failure.status}" if failure.status is not None else ""
        message = f"the build step failed{status}" if failure.instruction else failure.message
        remedy = "its last lines are above; correct it and build again (finished steps are cached)"
    line = origin.line if origin else None
    if origin is not None and origin.field == "build.run":
        line = _line_of_run(loaded, failure.tail)
    finding = Finding(
        severity=Severity.ERROR,
        code="build-step",
        message=message,
        remedy=remedy,
        file=str(loaded.path),
        line=line,
        field=origin.field if origin else None,
    )
    return BuildStepError(message, remedy=remedy, findings=(finding,), detail=failure.tail)


def _line_of_run(loaded: LoadedProject, tail: str) -> int:
    """The line of project.yaml at which the user's script failed, as far as the shell said; else where it begins."""
    inner = line_in_script(tail)
    script, text = loaded.project.build.run.splitlines(), loaded.text.splitlines()
    if inner is None or inner > len(script):
        return loaded.run_line
    line = loaded.run_line + inner - 1
    # Only a block scalar keeps the script's lines; in any other style they can't be told apart.
    as_written = line <= len(text) and text[line - 1].strip() == script[inner - 1].strip()
    return line if as_written else loaded.run_line


def _pack(job: _Job, image_id: str, target: Path) -> tuple[str | None, Records]:
    """Write the image to `target`; the version of the ops that made it (None: native), and where its files are from."""
    from orchestrator.provenance.records import read_records

    def open_archive(path: str) -> AbstractContextManager[BinaryIO]:
        return job.engine.open_archive(image_id, path, job.build_id)

    made_by = _write_image(job, open_archive, target)
    return made_by, read_records(open_archive)


def _write_image(job: _Job, open_archive: OpenArchive, target: Path) -> str | None:
    if job.plan.packer == "native":
        with phase(job.emit, "pack", "write the image from the staged tree"):
            common = job.inputs.nanos_common.local if job.inputs.nanos_common else None
            native = NativeJob(guest=job.plan.guest, nanos=job.inputs.nanos.local, common=common, spool=target.parent)
            try:
                pack_native(native, open_archive, target)
            except ImageError as error:
                # The format's own error says "not verified" (6); here a step of the build failed, on a full disk say.
                raise BuildStepError(error.message, remedy=error.remedy) from error
        return None
    with phase(job.emit, "pack", "copy the image out of the container") as key:

        def progress(done: int, total: int) -> None:
            job.emit(StepProgress(id=key, done=done, total=total))

        extract_image(job.plan.name, open_archive, target, progress)
        return ops_version(open_archive)


def _with_stand_ins(verification: Verification, inputs: Inputs) -> Verification:
    """Also what only the build used: an image made by a stand-in ops looks like the real one's."""
    found = stand_in_file(inputs.ops.local, "input:ops") if inputs.ops is not None else None
    return replace(verification, stand_ins=(*verification.stand_ins, found)) if found else verification


def _verify(image: Path, loaded: LoadedProject, target: Path, emit: Emit) -> Verification:
    with phase(emit, "verify", f"verify {target.name}"):
        verification = verify_image(image, project_runtime=loaded.project.runtime)
    if verification.ok:
        return verification
    rejected = target.with_name(f"{target.name}.rejected")
    image.replace(rejected)
    named = tuple(replace(finding, file=str(rejected)) for check in verification.checks for finding in check.findings)
    raise VerificationError(
        f"the image failed verification; it is kept as {rejected} to be looked into (`inspect`, `verify`)",
        findings=named,
    )
