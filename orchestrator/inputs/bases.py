"""Base images: taken as they are here, pulled, or made from Debian packages where no registry answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import InputError, PullError
from orchestrator.events import Notice
from orchestrator.files import make_directory
from orchestrator.inputs.access import Access, differs, not_in_cache
from orchestrator.inputs.cuda import PREFIX as PYPI
from orchestrator.inputs.debian import bootstrap_rootfs, locked_packages, restore_rootfs
from orchestrator.inputs.grounds import ground_of_address
from orchestrator.inputs.image_archive import SavedImage, read_image, write_image
from orchestrator.inputs.images import ImageStore
from orchestrator.inputs.store import IMPORTED, CacheEntry, Store, key_of
from orchestrator.label import BASE, LABEL
from orchestrator.project.bases import Base, Bootstrap
from orchestrator.project.images import transport_of
from orchestrator.project.mirrors import redirect
from orchestrator.resolved import Ground, Input, InputName, Pin

BOOTSTRAP_TAG = "localhost/orchestrator/base"
SAVED_TAG = "localhost/orchestrator/image"
PULL_MEMORY = 900.0
"""Seconds for which a failed pull is not tried again in this process."""


_OTHERWISE: Mapping[InputName, str] = {
    "image": "load it into the engine yourself",
    "containerfile": "write `base: {image: …, bootstrap: {debian: bookworm, packages: […]}}` for one image of its FROM"
    " lines, which is then made from Debian packages",
}


def resolve_base(access: Access, base: Base, engine: ImageStore, name: InputName = "base") -> Input:
    """The base as an image of `engine`: what the lock says; else there already, pulled, or made as `bootstrap` says.

    Errors: InputError when it can't be had in any of these ways; EngineError when the engine fails.
    """
    reference = redirect(base.image, access.mirrors)
    if transport := transport_of(reference):
        raise InputError(
            f"mirrors: {base.image} becomes {reference}, and engines read `{transport}:` as a place on this machine",
            remedy="write the registry and a path, such as registry.example:5000/library/",
        )
    asked = _BaseRequest(name=name, base=base, reference=reference)
    pin = access.pins.get(name)
    if pin is not None:
        return _resolve_locked(access, asked, engine, pin)
    digest = engine.image_digest(reference)
    exact: Ground | None = "given" if "@sha256:" in reference else None
    if digest is not None and not access.refresh:
        # The shim's base and the program's are often one image.
        ground: Ground = "registry" if reference in access.pulled else "engine"
        return replace(_image(engine, asked, digest), ground=exact or ground)
    failure = _try_pull(access, reference, engine)
    if failure is None:
        resolved = _image(engine, asked, engine.image_digest(reference) or "")
        return replace(resolved, ground=exact or "registry")
    if digest is not None:
        access.emit(Notice(text=f"{reference} could not be pulled; using the local copy", level="warning"))
        return replace(_image(engine, asked, digest), ground=exact or "engine")
    if base.bootstrap is None:
        otherwise = _OTHERWISE.get(name, "write the base as {image: …, bootstrap: {debian: bookworm, packages: […]}}"
                                   " to make it from Debian packages")  # fmt: skip
        raise InputError(f"{reference} could not be pulled: {failure}", remedy=f"{failure.remedy}; or {otherwise}")
    access.before_making()
    short = str(failure).strip().splitlines()[0][:160] if str(failure).strip() else "no reason given"
    access.emit(
        Notice(
            text=f"{base.image} could not be pulled ({short}); using a base made from Debian"
            f" {base.bootstrap.debian} packages{_and_cuda(base.bootstrap)} instead",
            level="warning",
        )
    )
    entry = bootstrap_rootfs(access, base.bootstrap)
    why = f"because {base.image} could not be pulled: {short}"
    resolved = _bootstrap(access, asked, engine, entry, _pin_of(entry, base.bootstrap), why)
    return replace(resolved, ground=_ground_of_bootstrap(access, entry, base.bootstrap))


def _ground_of_bootstrap(access: Access, entry: CacheEntry, bootstrap: Bootstrap) -> Ground:
    """apt checks Debian's signatures; of NVIDIA's Python packages the index alone says what they are."""
    if IMPORTED in entry.info:
        return "bundle"
    return ground_of_address(access.mirrors.get(PYPI, "https://")) if bootstrap.cuda else "signature"


def _and_cuda(bootstrap: Bootstrap) -> str:
    return f" and NVIDIA's Python packages of CUDA {bootstrap.cuda}" if bootstrap.cuda else ""


@dataclass(frozen=True, kw_only=True)
class _BaseRequest:
    """Which base was asked for, and its reference through the mirrors."""

    name: InputName
    base: Base
    reference: str


@dataclass(frozen=True)
class _Failure:
    """A pull that failed: why, which is how it is printed, and what to do."""

    reason: str
    remedy: str

    def __str__(self) -> str:
        return self.reason


def _try_pull(access: Access, reference: str, engine: ImageStore) -> _Failure | None:
    """Pull `reference`; None when that worked, else why it did not."""
    if access.offline:
        return _Failure(
            "--offline forbids fetching it", "build once without --offline, or import a bundle that contains it"
        )
    failure = _failed_pulls.reason(engine, reference)
    if failure is not None:
        return failure
    began, key = time.time(), key_of("pull", engine.info.kind, reference)
    with access.store.lock(key, f"is pulling {reference}"):
        failure = _failed_since(began, access.store, key)
        # Whoever we waited for may have it. With `refresh` it was there before, and is asked for anew.
        if failure is None and (access.refresh or engine.image_digest(reference) is None):
            failure = _pull(access, reference, engine)
            if failure is not None:
                told = {"failed": f"{time.time():.6f}", "reason": failure.reason, "remedy": failure.remedy}
                access.store.name(key, key, told)
    if failure is None:
        access.pulled.add(reference)
    else:
        _failed_pulls.remember(engine, reference, failure)
    return failure


def _failed_since(began: float, store: Store, key: str) -> _Failure | None:
    """Why another process, for which we waited since `began`, could not pull the same image; else None."""
    told = store.named(key) or {}
    if float(told.get("failed", 0.0)) <= began:
        return None
    return _Failure(told.get("reason", ""), told.get("remedy", ""))


def _pull(access: Access, reference: str, engine: ImageStore) -> _Failure | None:
    try:
        engine.pull(reference, access.emit)
    except InputError as error:
        reason = error.reason if isinstance(error, PullError) else error.message
        return _Failure(reason, error.remedy or "check the name and the network")
    return None


def by_digest(reference: str, digest: str) -> str:
    """`reference` with `digest` in the place of its tag (Podman takes no reference that has both)."""
    name, _, last = reference.partition("@")[0].rpartition("/")
    bare = last.partition(":")[0]
    return f"{name}/{bare}@{digest}" if name else f"{bare}@{digest}"


def _image(engine: ImageStore, asked: _BaseRequest, digest: str) -> Input:
    """An image that is in the engine; named by its digest where it came from a registry."""
    exact = by_digest(asked.reference, digest)
    reference = exact if engine.image_digest(exact) is not None else asked.reference
    image_id = engine.image_id(reference)
    known = {"image-id": image_id} if image_id not in ("", digest) else {}
    return _image_input(asked, {"digest": digest, **known}, reference)


def _image_input(asked: _BaseRequest, pin: Mapping[str, str], reference: str) -> Input:
    return Input(name=asked.name, kind="image", source=asked.base.image, pin=dict(pin), reference=reference)


def _resolve_locked(access: Access, asked: _BaseRequest, engine: ImageStore, pin: Pin) -> Input:
    """The base that the lock names: from the engine, the cache, or the network; never another one."""
    if pin.kind == "bootstrap":
        access.before_making()
        entry = restore_rootfs(access, asked.base, asked.name, pin)
        return _bootstrap(access, asked, engine, entry, pin, "as the lock says")
    digest = pin.values["digest"]
    exact = by_digest(asked.reference, digest)
    if engine.image_digest(exact) is not None:
        return _image_input(asked, pin.values, exact)
    present = engine.image_digest(asked.reference)
    if present == digest:
        return _image_input(asked, pin.values, asked.reference)
    if (kept := _load_saved(access, asked, engine, pin)) is not None:
        return kept
    failure = _try_pull(access, exact, engine)
    if failure is None:
        return _image_input(asked, pin.values, exact)
    if access.offline:
        raise not_in_cache(f"{asked.base.image} ({digest})")
    here = f"; the local {asked.reference} is {present}" if present else ""
    raise InputError(
        f"{exact}, which the lock names, could not be pulled: {failure}{here}",
        remedy=f"check the network, or accept the new image: `orchestrator lock PROJECT.YAML --upgrade {asked.name}`",
    )


def _load_saved(access: Access, asked: _BaseRequest, engine: ImageStore, pin: Pin) -> Input | None:
    """The image that a bundle brought, if it is the one that the lock names. InputError, offline, if it is not."""
    digest = pin.values["digest"]
    saved = access.store.get(saved_key(digest))
    if saved is None:
        return None
    wanted = {digest, *(value for key, value in pin.values.items() if key == "image-id")}
    tag = f"{SAVED_TAG}:{digest.rpartition(':')[2][:12]}"
    with access.store.lock(f"import-{engine.info.kind}-{tag.rpartition(':')[2]}"):
        if engine.image_id(tag) not in wanted:
            with access.step(f"load {asked.base.image}"):
                image = read_image(saved.path)
                if not image.ids & wanted:
                    _not_the_image(access, asked, image, pin)
                    return None
                load_image(access.store, engine, image, tag)
    return _image_input(asked, pin.values, tag)


def _not_the_image(access: Access, asked: _BaseRequest, image: SavedImage, pin: Pin) -> None:
    """Say that the saved copy is another image. Online that one is pulled instead; offline it is an InputError."""
    what = f"the saved copy of {asked.base.image}"
    if "image-id" in pin.values:
        error = differs(f"{what}: its id is", asked.name, pin.values["image-id"], image.id)
    else:
        error = InputError(
            f"{what} is {image.id}, and the lock, which has no image-id, does not say whether that is"
            f" {pin.values['digest']}",
            remedy=f"with network access, run `orchestrator lock PROJECT.YAML --upgrade {asked.name}`",
        )
    if access.offline:
        raise error
    access.emit(Notice(text=f"{error.message}; it is not used", level="warning"))


def load_image(store: Store, engine: ImageStore, image: SavedImage, tag: str) -> None:
    """Give an engine a saved image under the one name `tag`. InputError when it then has another."""
    key = key_of("load", image.id, tag)
    with store.lock(key, "is loading the same image"), store.temporary(key) as directory:
        make_directory(directory)
        archive = directory / "image.tar"
        write_image(image, tag, archive)
        load_archive(engine, archive, tag, image.id)


def load_archive(engine: ImageStore, archive: Path, tag: str, image_id: str) -> None:
    """Give an engine the image of an archive that names it `tag`. InputError when it then has another than this one."""
    engine.load(archive, tag)
    loaded = engine.image_id(tag)
    if loaded not in ("", image_id):
        raise InputError(
            f"{tag}: the engine loaded {loaded}, but the archive holds {image_id}", remedy="look at the engine's log"
        )


def saved_key(digest: str) -> str:
    """The cache key of an image that a bundle carries."""
    return f"image-{digest.rpartition(':')[2]}"


def _pin_of(entry: CacheEntry, bootstrap: Bootstrap) -> Pin:
    """What a lock is to say of a base that was made now. A lock's own pin needs no look into the tar."""
    snapshot = {key: value for key, value in entry.info.items() if key == "snapshot"}
    values = {"sha256": entry.sha256, "size": str(entry.size), "suite": bootstrap.debian, **snapshot}
    return Pin(kind="bootstrap", values=values, packages=locked_packages(entry))


def _bootstrap(access: Access, asked: _BaseRequest, engine: ImageStore, entry: CacheEntry, pin: Pin, why: str) -> Input:
    tag = f"{BOOTSTRAP_TAG}:{entry.sha256[:12]}"
    # Two builds at once would import the same 200 MB twice.
    with access.store.lock(f"import-{engine.info.kind}-{entry.sha256[:12]}"):
        if engine.image_digest(tag) is None:
            with access.step(f"import {tag}"):
                engine.import_rootfs(entry.path, tag, {LABEL: BASE})
    days = max(0, int((time.time() - entry.created) // 86400))  # a clock may have been set back
    made = asked.base.bootstrap
    suite = f"{made.debian} packages{_and_cuda(made)}" if made else "packages"
    when = {0: "today", 1: "a day ago"}.get(days, f"{days} days ago")
    return Input(
        name=asked.name,
        kind="bootstrap",
        source=asked.base.image,
        pin=dict(pin.values),
        path=entry.path,
        reference=tag,
        packages=pin.packages,
        note=f"made from Debian {suite} {when}, {why}",
    )


class _FailedPulls:
    """Pulls that failed in this process: two builds, or two bases, must not both wait for a dead registry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: dict[tuple[str, str], tuple[float, _Failure]] = {}

    def reason(self, engine: ImageStore, reference: str) -> _Failure | None:
        """Why the pull failed lately, or None."""
        with self._lock:
            failed = self._failed.get((engine.info.endpoint, reference))
        return failed[1] if failed is not None and time.monotonic() - failed[0] < PULL_MEMORY else None

    def remember(self, engine: ImageStore, reference: str, failure: _Failure) -> None:
        """Note a failed pull."""
        with self._lock:
            self._failed[(engine.info.endpoint, reference)] = (time.monotonic(), failure)


_failed_pulls = _FailedPulls()
