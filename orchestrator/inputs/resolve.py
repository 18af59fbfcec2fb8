"""From what project.yaml says to what the build uses: every outside input, resolved."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

from orchestrator.errors import InputError
from orchestrator.events import Emit, Event, ignore
from orchestrator.findings import Findings
from orchestrator.inputs import bases, releases, trees
from orchestrator.inputs.access import Access, FetchLimits, differs
from orchestrator.inputs.debs import PackageLister, locked_packages, resolve_packages
from orchestrator.inputs.download import fetch
from orchestrator.inputs.git import fetch_git, is_commit
from orchestrator.inputs.grounds import ground_of_address, ground_of_download
from orchestrator.inputs.images import ImageStore
from orchestrator.inputs.known import Known, known_files
from orchestrator.inputs.magic import expect_archive
from orchestrator.inputs.requests import own_images, wanted_packages
from orchestrator.inputs.staged_files import resolve_staged_file
from orchestrator.inputs.store import Store
from orchestrator.inputs.trees import GEVULOT_SKIP
from orchestrator.project.bases import Base
from orchestrator.project.load import LoadedProject
from orchestrator.project.project import Project
from orchestrator.project.vendor import Gevulot
from orchestrator.resolved import Ground, Input, InputName, Inputs, Pin, redact_url

_WORKERS = 4


@dataclass(frozen=True, kw_only=True)
class ResolveOptions:
    """How to resolve. `store` None = the user's cache; `lister` asks apt on a base; the rest is `Access`'s.

    Without a lister only the Debian packages that `pins` name are known.
    """

    store: Store | None = None
    limits: FetchLimits = field(default_factory=FetchLimits)
    refresh: bool = False
    offline: bool = False
    pins: Mapping[str, Pin] = field(default_factory=dict)
    known: Mapping[str, Known] = field(default_factory=known_files)
    lister: PackageLister | None = None


def access_of(loaded: LoadedProject, emit: Emit, options: ResolveOptions) -> Access:
    """How a project's inputs are reached."""
    return Access(
        store=options.store or Store(emit=emit, imported=options.offline),
        emit=emit,
        mirrors=loaded.project.mirrors,
        own_mirrors=loaded.own_mirrors,
        limits=options.limits,
        refresh=options.refresh,
        offline=options.offline,
        pins=options.pins,
        known=options.known,
    )


def resolve_inputs(
    loaded: LoadedProject, engine: ImageStore | None, emit: Emit = ignore, options: ResolveOptions | None = None
) -> Inputs:
    """Every outside input of a project, fetched, checked and in the cache. Independent ones come in parallel.

    Without an engine the bases stay None (enough for `render`). Errors: InputError whose findings name the
    file, line and field of each input that could not be had; EngineError from the engine.
    """
    options = options or ResolveOptions()
    access = access_of(loaded, _in_turn(emit), options)
    failures = loaded.findings()
    pool = ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="input")
    try:
        futures = {name: pool.submit(job) for name, job in _jobs(access, loaded).items()}
        staged = {where: pool.submit(job) for where, job in _staged_file_jobs(access, loaded).items()}
        # Here, not in the pool: an engine's connection is not made for several threads.
        # A base made of packages takes minutes: not for a build that another input has stopped already.
        # Offline none is made, and all that is missing is reported at once.
        stop = partial(_stop_if_failed, [*futures.values(), *staged.values()], failures)
        making = access if access.offline else replace(access, before_making=stop)
        bases = {name: _base(making, loaded, engine, name, failures) for name in _bases_in_turn(loaded)}
        packages = _packages(access, loaded, bases, options.lister, failures)
        image = _finished_image(access, loaded, engine, failures)
        own = _own_images(access, loaded, engine, bases["base"], failures)
        wait([*futures.values(), *staged.values()])
    except BaseException:
        access.cancelled.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    results = {name: _result(future, name, failures) for name, future in futures.items()}
    staged_files = [_result(future, where, failures) for where, future in staged.items()]
    if failures.collected:
        raise _failed(failures)
    nanos, common = results.get("nanos", (None, None))
    return Inputs(
        nanos=_as_first_believed(access, nanos),
        nanos_common=_as_first_believed(access, common),
        gevulot=_as_first_believed(access, results.get("gevulot")),
        ops=_as_first_believed(access, results.get("ops")),
        gpu_assets=_as_first_believed(access, results.get("gpu-assets")),
        base=_as_first_believed(access, bases["base"]),
        gevulot_base=_as_first_believed(access, bases["gevulot-base"]),
        packages=_as_first_believed(access, packages.get("packages")),
        gevulot_packages=_as_first_believed(access, packages.get("gevulot-packages")),
        image=_as_first_believed(access, image),
        containerfile=_as_first_believed(access, own),
        staged_files=tuple(_as_first_believed(access, resolved) for resolved in staged_files),
    )


@overload
def _as_first_believed(access: Access, resolved: Input) -> Input: ...
@overload
def _as_first_believed(access: Access, resolved: Input | None) -> Input | None: ...
def _as_first_believed(access: Access, resolved: Input | None) -> Input | None:
    """What is pinned is believed because of the lock, which knows why it was at first."""
    pin = access.pins.get(resolved.name) if resolved is not None else None
    return replace(resolved, ground=pin.ground) if resolved is not None and pin is not None else resolved


def _jobs(access: Access, loaded: LoadedProject) -> dict[str, Callable[[], Any]]:
    """What the project needs, by the field that asks for it."""
    project, root = loaded.project, loaded.root
    jobs: dict[str, Callable[[], Any]] = {"nanos": lambda: releases.resolve_nanos(access, project.nanos, root)}
    if project.packer == "ops":
        jobs["ops"] = lambda: releases.resolve_ops(access, project.ops, root)
    if project.gpu:
        jobs["gpu-assets"] = lambda: releases.resolve_gpu_assets(
            access, project.gpu_assets, project.nanos.release, root
        )
    if (gevulot := project.gevulot) is not None:
        jobs["gevulot"] = lambda: _gevulot(access, gevulot, project, root)
    return {name: job for name, job in jobs.items() if name not in loaded.unused_inputs}


def _staged_file_jobs(access: Access, loaded: LoadedProject) -> dict[str, Callable[[], Input]]:
    """The files of `stage.files` that no build step makes, by field."""
    return {
        f"stage.files[{index}]": partial(resolve_staged_file, access, entry, loaded.root)
        for index, entry in loaded.project.stage.outside.items()
    }


def _gevulot(access: Access, spec: Gevulot, project: Project, root: Path) -> Input:
    if spec.path is not None:
        resolved = releases.resolve_local("gevulot", spec.path, root, GEVULOT_SKIP)
        return replace(resolved, pin={**resolved.pin, **_cargo_lock(resolved.local)})
    if spec.archive is not None:
        url = spec.archive
        archive = fetch(
            access, url, sha256=spec.sha256, name="gevulot", title="download the Gevulot sources",
            check=lambda path: expect_archive(path, redact_url(url)),
        )  # fmt: skip
        tree = releases.unpack_entry(access, archive, url)
        pin = {**releases.file_pin(archive), **_cargo_lock(tree.path)}
        ground = ground_of_download(access, url, archive, spec.sha256)
        return Input(name="gevulot", kind="archive", source=redact_url(url), pin=pin, path=tree.path, ground=ground)
    written = spec.git or ""
    # A path of the host is relative to project.yaml; `host:path` and URLs are git's own.
    url = written if ":" in written else str((root / written).absolute())
    locked = access.pins.get("gevulot")
    commit = locked.values.get("commit") if locked else None
    locked_tree = locked.values.get("tree-sha256", "") if locked else ""
    checkout = fetch_git(access, url, project.gevulot_ref or "", commit=commit, tree=locked_tree)
    digest = checkout.entry.sha256
    if locked and digest != (expected := locked.values.get("tree-sha256", digest)):
        raise differs(f"{redact_url(written)} at {commit}: the sha256 of its tree is", "gevulot", expected, digest)
    pin = {"commit": checkout.commit, "tree-sha256": digest, **_cargo_lock(checkout.entry.path)}
    return Input(
        name="gevulot", kind="git", source=redact_url(written), pin=pin, path=checkout.entry.path,
        ground="given" if is_commit(project.gevulot_ref or "") else ground_of_address(access.redirected(url)),
    )  # fmt: skip


def _cargo_lock(source: Path) -> dict[str, str]:
    """The crates that the shim is built from (`cargo build --locked`), as far as the sources pin them."""
    path = source / "Cargo.lock"
    return {"cargo-lock-sha256": trees.file_digest(path)[0]} if path.is_file() else {}


def _base(
    access: Access, loaded: LoadedProject, engine: ImageStore | None, name: InputName, failures: Findings
) -> Input | None:
    gevulot = loaded.project.gevulot
    if engine is None or (name == "gevulot-base" and gevulot is None):
        return None
    try:
        if name == "gevulot-base" and gevulot is not None:
            return bases.resolve_base(access, gevulot.base, engine, "gevulot-base")
        return bases.resolve_base(access, loaded.project.program_base, engine, "base")
    except _OtherInputFailedError:
        return None
    except InputError as error:
        _note_failure(failures, _base_field(loaded, name), error)
        return None


def _finished_image(
    access: Access, loaded: LoadedProject, engine: ImageStore | None, failures: Findings
) -> Input | None:
    """The image that has the program, if it comes in one."""
    reference = loaded.project.build.image
    if engine is None or reference is None:
        return None
    try:
        return bases.resolve_base(access, Base(image=reference), engine, "image")
    except InputError as error:
        _note_failure(failures, "build.image", error)
        return None


def _own_images(
    access: Access, loaded: LoadedProject, engine: ImageStore | None, base: Input | None, failures: Findings
) -> Input | None:
    """The images that the user's own Containerfile begins with; the one that is `base` is resolved as that."""
    if engine is None or loaded.containerfile is None:
        return None
    pin = access.pins.get("containerfile")
    locked = {line.split(" ")[0]: line.split(" ")[1:] for line in pin.packages} if pin is not None else {}
    references = {
        image: base.reference
        for image in loaded.containerfile.images
        if base is not None and image not in own_images(loaded)
    }
    lines, grounds = [], []
    for image in own_images(loaded):
        digests = dict(zip(("digest", "image-id"), locked.get(image, []), strict=False))
        pins = {"containerfile": Pin(kind="image", values=digests)} if digests else {}
        try:
            resolved = bases.resolve_base(replace(access, pins=pins), Base(image=image), engine, "containerfile")
        except InputError as error:
            _note_failure(failures, "build.containerfile", error)
            continue
        references[image] = resolved.reference
        lines.append(" ".join([image, *(resolved.pin[key] for key in ("digest", "image-id") if key in resolved.pin)]))
        grounds.append(resolved.ground)
    ground: Ground | Literal[""] = "registry" if grounds else ""
    return Input(
        name="containerfile",
        kind="images",
        source=loaded.project.build.containerfile or "",
        packages=tuple(lines),
        references=references,
        ground=next((weaker for weaker in grounds if weaker != "registry"), ground),
    )


class _OtherInputFailedError(InputError):
    """A base is not made, because another input could not be had; that one is reported."""


def _bases_in_turn(loaded: LoadedProject) -> Sequence[InputName]:
    """The bases, those first that can only be pulled: if that fails, the other need not be made."""
    only_pulled = loaded.project.gevulot is not None and loaded.project.gevulot.base.bootstrap is None
    return ("gevulot-base", "base") if only_pulled else ("base", "gevulot-base")


def _stop_if_failed(others: Sequence[Future[Any]], failures: Findings) -> None:
    """Wait for the other inputs; _OtherInputFailedError if one of them, or the other base, could not be had."""
    wait(others)
    if failures.collected or any(isinstance(other.exception(), InputError) for other in others):
        raise _OtherInputFailedError("another input could not be fetched")


def _packages(
    access: Access,
    loaded: LoadedProject,
    bases: Mapping[InputName, Input | None],
    lister: PackageLister | None,
    failures: Findings,
) -> dict[InputName, Input | None]:
    """The Debian packages that are installed on the bases `bases`, by input name."""
    packages: dict[InputName, Input | None] = {}
    for name, on, names in wanted_packages(loaded.project):
        base, field_name = bases[on], "build.packages" if name == "packages" else "gevulot.base"
        try:
            if base is not None and names and lister is not None:
                packages[name] = resolve_packages(access, base, names, name, lister)
            elif names and not failures.collected:
                packages[name] = locked_packages(access.pins, names, name, on)
        except InputError as error:
            _note_failure(failures, field_name, error)
    return packages


def _base_field(loaded: LoadedProject, name: str) -> str:
    if name == "gevulot-base":
        return "gevulot.base"
    return "cuda" if "base" not in loaded.lines and "cuda" in loaded.lines else "base"


def _result(future: Future[Any], name: str, failures: Findings) -> Any:
    try:
        return future.result()
    except InputError as error:
        _note_failure(failures, name, error)
        return (None, None) if name == "nanos" else None


def _note_failure(failures: Findings, name: str, error: InputError) -> None:
    if error.findings:
        failures.extend(error.findings[:1])
        return
    remedy = error.remedy
    if name == "ops":  # nothing else of the project may need what the vendor serves
        remedy += "; or leave out `packer: ops`: the native packer needs no download"
    failures.error("input", name, error.message, remedy)


def _failed(failures: Findings) -> InputError:
    ordered = tuple(sorted(failures.collected, key=lambda finding: (finding.line or 0, finding.field or "")))
    count = len(ordered)
    what = "an input" if count == 1 else f"{count} inputs"
    return InputError(
        f"failed to fetch {what}: {ordered[0].message}" if count == 1 else f"failed to fetch {what}",
        remedy=ordered[0].remedy if count == 1 else "fix the errors above and run again",
        findings=ordered,
    )


def _in_turn(emit: Emit) -> Emit:
    """`emit` for several threads: one event at a time."""
    lock = threading.Lock()

    def told(event: Event) -> None:
        with lock:
            emit(event)

    return told
