"""The builds that this process does itself: out of an earlier image, from a shared cache, or whole, on one engine."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from orchestrator.build.last_build import Asked, LastBuild
    from orchestrator.build.result import Result
    from orchestrator.build.state import BuildOptions
    from orchestrator.engine.base import RunningEngine
    from orchestrator.events import Emit
    from orchestrator.provenance.dsse import SigningKey
    from orchestrator.shared_cache.choice import CacheChoice
    from orchestrator.shared_cache.results import SharedResults
    from orchestrator.shared_cache.shared_cache import SharedCache


@dataclass(kw_only=True)
class OwnBuilds:
    """What the builds of one command have in common; `stack` is left when they have ended.

    `first` is one of them, for what is the same for all; `options` are what each one's own are added to. The engine is
    only asked for when a build needs it.
    """

    first: Asked
    options: BuildOptions
    emit: Emit
    stack: ExitStack
    sign: SigningKey | None = None
    shared: SharedCache | None = None
    results: SharedResults | None = None

    @classmethod
    def prepare(
        cls, first: Asked, emit: Emit, stack: ExitStack, options: BuildOptions, cache: CacheChoice | None
    ) -> Self:
        """Reads the keys. UsageError for one that is none, or a shared cache's address that is none."""
        own = cls(first=first, options=options, emit=emit, stack=stack)
        if first.sign is not None:
            from orchestrator.provenance.dsse import load_signing_key

            own.sign = load_signing_key(first.sign)
        if cache is not None and (shared := cache.open(emit, offline=first.offline)) is not None:
            own.shared = stack.enter_context(closing(shared))
            own.results = cache.results(shared)
        return own

    @cached_property
    def engine(self) -> RunningEngine:
        """The engine of all."""
        from orchestrator.engine.select import connect

        engine = self.stack.enter_context(closing(connect(self.first.engine, emit=self.emit)))
        engine.ask_ahead()
        return engine

    def build(self, asked: Asked, last: LastBuild, *, whole: bool) -> Result:
        """Do one build, in the shortest way unless it is to be done whole."""
        return (None if whole else self._made_already(asked, last)) or self._build_whole(asked)

    def share(self, asked: Asked, result: Result) -> None:
        """Put what a build gave into the shared cache."""
        if self.results is not None:
            from orchestrator.build.shared_image import offer_image

            offer_image(asked, result, self.results, self.emit, self.sign)

    def _made_already(self, asked: Asked, last: LastBuild) -> Result | None:
        from orchestrator.build.repack import repack

        result = repack(asked, last, self.emit, self.sign)
        if result is None and self.results is not None:
            from orchestrator.build.shared_image import take_image

            result = take_image(asked, self.results, self.emit, self.sign)
        return result

    def _build_whole(self, asked: Asked) -> Result:
        """With every step, as far as the engine's cache hasn't it."""
        engine = self.engine  # first: it says something of itself while we import
        from orchestrator.build.pipeline import build_project

        shared = None
        if self.shared is not None:
            from orchestrator.shared_cache.entries import SharedInputs

            shared = SharedInputs(self.shared)
        options = replace(self.options, locked=asked.locked, offline=asked.offline, shared=shared, results=self.results)
        return build_project(
            asked.checked, engine, output=asked.output, emit=self.emit, options=options, sign=self.sign
        )
