"""From what project.yaml says to what the build uses: every outside input, resolved."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.engine.base import Engine
from orchestrator.events import Emit, ignore
from orchestrator.inputs.access import Limits
from orchestrator.inputs.model import Inputs
from orchestrator.inputs.store import Store
from orchestrator.project.load import LoadedProject


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to resolve. `store` None = the user's cache; `refresh` asks again for what has no pin."""

    store: Store | None = None
    limits: Limits = Limits()
    refresh: bool = False


def resolve_inputs(
    loaded: LoadedProject, engine: Engine | None, emit: Emit = ignore, options: Options | None = None
) -> Inputs:
    """Every outside input of a project, fetched, checked and in the cache.

    Without an engine the bases stay None (enough for `render`). Errors: InputError whose findings name the
    file, line and field of each input that could not be had.
    """
    raise NotImplementedError
