"""What the end of a build needs, imported while an engine runs its steps or the kernel copies files.

That takes 0.15 s, and we only wait meanwhile.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from threading import Thread

from orchestrator.events import Emit, Event, StepFinished
from orchestrator.image_kind import ImageKind

_LATE = tuple(f"orchestrator.provenance.{name}" for name in ("attach", "records", "sbom", "statement"))


def importing_ahead(kind: ImageKind, emit: Emit) -> Emit:
    """`emit`, with `import_ahead` once a context has been sent."""
    from orchestrator.engine.build import CONTEXT_STEP  # with it comes what speaks to an engine

    begun = False

    def tell(event: Event) -> None:
        nonlocal begun
        emit(event)
        if not begun and isinstance(event, StepFinished) and event.id == CONTEXT_STEP:
            begun = True
            import_ahead(kind)

    return tell


def import_ahead(kind: ImageKind) -> None:
    """Begin to import what packs, verifies and records."""
    # Not a daemon: an import that the interpreter's end cuts off may crash it.
    Thread(target=_import, args=(kind,), name="import-ahead").start()


def _import(kind: ImageKind) -> None:
    with suppress(Exception):  # who needs it will be told
        kind.import_ahead()
        for name in _LATE:
            import_module(name)
