"""What one build is made of, and how its own steps are told as events."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from orchestrator.events import Emit, StepFinished, StepStarted
from orchestrator.image_kind import GuestSettings, ImageKind
from orchestrator.plan.plan import Plan
from orchestrator.project.load import LoadedProject
from orchestrator.project.registry_caches import RegistryCaches
from orchestrator.receipt.receipt import EngineUsed, ShimUsed, TakenStage
from orchestrator.resolved import Inputs
from orchestrator.stages import begins_by

if TYPE_CHECKING:
    from orchestrator.containerfile.tree import ListedTree
    from orchestrator.dependencies.packages import TakenPackages
    from orchestrator.engine.base import Engine, EngineInfo
    from orchestrator.inputs.access import Access
    from orchestrator.inputs.store import SharedEntries, Store
    from orchestrator.project.secrets import ProjectSecrets
    from orchestrator.shared_cache.results import SharedResults


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build. `locked`: only what the lock says; `offline`: no network; `no_cache`: every step again; `begin`:
    every step again from this one of `STAGES` on, "" = none; `shared`: a cache of inputs that other machines have too,
    `results`: of what they built.

    `layers`: caches of registries, for the user's own steps and what follows from them. `shell`: opens a shell in an
    image, in whose state the given step failed.
    """

    locked: bool = False
    offline: bool = False
    no_cache: bool = False
    begin: str = ""
    layers: RegistryCaches = field(default_factory=RegistryCaches)
    shared: SharedEntries | None = None
    results: SharedResults | None = None
    shell: Callable[[str, str], None] | None = None

    def runs_again(self, stage: str) -> bool:
        """Whether the steps of one of `STAGES` run even though they are cached."""
        return self.no_cache or begins_by(self.begin, stage)


@dataclass(frozen=True, kw_only=True)
class PackOrder:
    """What an image is to be, wherever its staged tree is from."""

    loaded: LoadedProject
    kind: ImageKind
    settings: GuestSettings
    emit: Emit


@dataclass(frozen=True, kw_only=True)
class PackJob:
    """A staged tree to be packed: what was asked for, and what that became."""

    order: PackOrder
    inputs: Inputs
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class BuildOrder(PackOrder):
    """What is asked for, before any input is known."""

    engine: Engine
    store: Store
    secrets: ProjectSecrets
    options: BuildOptions
    build_id: str


@dataclass(frozen=True, kw_only=True)
class StageImage:
    """The image that a stage gives: the cache's key of all that decides it, and its name in an engine."""

    stage: str
    key: str
    tag: str

    @property
    def shared_key(self) -> str:
        """What a result of it is signed for in a shared cache."""
        return hashlib.sha256(f"stage-1 {self.stage} {self.key}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class BuildJob(PackJob):
    """One build under way: what was asked for, and what that became.

    `sources` are the user's, as they were listed for it, None where the program is in an image; `shim` is the finished
    one, if there is one; `dependencies` are packages that the step is given; `taken_stages` are those that another
    machine ran; `program_stage` is what a shared cache knows the stage `program` by, where it runs here.
    """

    order: BuildOrder
    sources: ListedTree | None = None
    shim: ShimUsed | None = None
    dependencies: tuple[TakenPackages, ...] = ()
    taken_stages: tuple[TakenStage, ...] = ()
    program_stage: StageImage | None = None

    @property
    def access(self) -> Access:
        """How its inputs are reached."""
        from orchestrator.inputs.resolve import ResolveOptions, access_of

        options = ResolveOptions(store=self.order.store, offline=self.order.options.offline)
        return access_of(self.order.loaded, self.order.emit, options)


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


def engine_used(info: EngineInfo) -> EngineUsed:
    """An engine, as receipt and provenance tell of it."""
    return EngineUsed.model_validate(
        {"kind": info.kind, "version": info.version, "builder": info.builder, "private": info.private}
    )
