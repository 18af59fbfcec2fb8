"""An image made again out of an earlier one: only the manifest, the kernel or a file that no step makes is another.

No engine is asked. Whatever is in doubt goes the long way, which says what is wrong: nothing here is an error but what
the long way would fail with as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from orchestrator.build.ahead import import_ahead
from orchestrator.build.finish import only_build_of
from orchestrator.build.kept_trees import KeptTree
from orchestrator.build.last_build import Asked, LastBuild
from orchestrator.build.result import Result
from orchestrator.build.state import PackJob, PackOrder, phase
from orchestrator.build.write_image import ImageTarget, Recorder, TreeOrigin, write_image
from orchestrator.containerfile.context import CONTAINERFILE, MANIFEST, digest_of, with_text
from orchestrator.containerfile.render import renamed, render_manifest
from orchestrator.errors import InputError, UsageError
from orchestrator.events import Emit
from orchestrator.image_kind import Packing
from orchestrator.inputs.resolve import ResolveOptions
from orchestrator.inputs.store import Store
from orchestrator.lock.project_lock import ProjectLock, read_lock
from orchestrator.lock.resolve import LockPolicy, is_of, lock_staged_files, resolve_locked
from orchestrator.plan.make import make_plan
from orchestrator.project.load import lock_path
from orchestrator.receipt.record import Warnings
from orchestrator.resolved import Input, Inputs, OneInputName
from orchestrator.staged import PackedTree

if TYPE_CHECKING:
    from orchestrator.provenance.dsse import SigningKey
    from orchestrator.provenance.records import Records

_PACKED = {"nanos", "nanos-common"}
"""Inputs that are packed beside the tree."""


class _ChangedError(Exception):
    """Somebody has written to the earlier image."""


def repack(asked: Asked, last: LastBuild, emit: Emit, sign: SigningKey | None = None) -> Result | None:
    """Build what is asked for out of an image that has the same staged tree; None where there is none.

    Errors are those of `write_image`.
    """
    if asked.checked.loaded.project.reproducible == "strict":
        return None
    for tree in last.trees():
        with _opened(tree) as descriptor:
            if descriptor is None:
                continue
            try:
                return _repack(asked, tree, descriptor, emit, sign)
            except _ChangedError:
                continue
    return None


@contextmanager
def _opened(tree: KeptTree) -> Iterator[int | None]:
    try:
        descriptor = tree.open_image()
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _repack(asked: Asked, tree: KeptTree, descriptor: int, emit: Emit, sign: SigningKey | None) -> Result | None:
    checked, recorder = asked.checked, Recorder(warned=Warnings(asked.checked.findings))
    tell, name = recorder.listening(emit), asked.checked.loaded.project.name
    store = Store(emit=tell, imported=asked.offline)
    with only_build_of(asked.output, name, tell), store.in_use():
        inputs = _inputs(asked, tree.record.inputs, store, tell)
        if inputs is None:
            return None
        plan = make_plan(checked.loaded, checked.settings, inputs)
        order = PackOrder(loaded=checked.loaded, kind=checked.kind, settings=checked.settings, emit=tell)
        job = PackJob(order=order, inputs=inputs, plan=plan)
        manifest, text = render_manifest(plan), renamed(tree.record.containerfile, tree.document.name, name)
        context = with_text(with_text(tree.record.context, CONTAINERFILE, text), MANIFEST, manifest)
        origin = TreeOrigin(
            engine=tree.document.engine,
            containerfile=text,
            manifest=manifest,
            context_sha256=lambda _packing: digest_of(context),
            context=lambda: context,
            shim=tree.document.shim,
            taken_stages=tree.document.taken_stages,
        )

        def pack_into(target: Path, progress: Callable[[int], None]) -> tuple[Packing, Records]:
            packed = PackedTree(descriptor=descriptor, entries=tree.entries, unmarked=tree.unmarked)
            return _pack(job, tree, packed, target, progress)

        return write_image(job, origin, recorder, ImageTarget(directory=asked.output, sign=sign), pack_into)


def _pack(
    job: PackJob, tree: KeptTree, packed: PackedTree, target: Path, progress: Callable[[int], None]
) -> tuple[Packing, Records]:
    import_ahead(job.order.kind)  # of files that are large, the kernel copies most meanwhile
    from orchestrator.provenance.records import parse_records

    earlier = Path(tree.record.proof.image).name
    with phase(job.order.emit, "pack", f"write the image, with the files of the earlier {earlier}"):
        packing = job.plan.image.pack_again(job.inputs, packed, target, progress)
        if not tree.is_same(packed.descriptor):
            raise _ChangedError
    return packing, parse_records(tree.records, left_out=tree.record.left_out)


def _inputs(asked: Asked, before: Inputs, store: Store, emit: Emit) -> Inputs | None:
    """The inputs of then, with those that are packed beside the tree as they are now; None where these aren't here."""
    loaded = asked.checked.loaded
    lock = read_lock(lock_path(loaded.path)) or ProjectLock()
    # Files that project.yaml names anew: only those may have to be fetched.
    anew = not is_of(lock, loaded)
    if anew and asked.locked:
        return None
    unused = frozenset(name for name in get_args(OneInputName) if name not in _PACKED) | loaded.unused_inputs
    policy = LockPolicy(offline=asked.offline or not anew, options=ResolveOptions(store=store))
    try:
        now = resolve_locked(replace(loaded, unused_inputs=unused), None, emit, policy)
    except (InputError, UsageError):
        if not policy.offline:  # what can't be fetched now can't be fetched the long way
            raise
        return None
    if asked.locked and any(_differs(lock, used) for used in now):
        return None
    inputs = replace(before, nanos=now.nanos, nanos_common=now.nanos_common, staged_files=now.staged_files)
    if anew:
        lock_staged_files(loaded, inputs, emit)
    return inputs


def _differs(lock: ProjectLock, used: Input) -> bool:
    entry = lock.entries.get(used.name)
    return entry is not None and dict(entry.resolved) != dict(used.pin)
