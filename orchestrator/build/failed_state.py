"""A shell in the state that a failed step began in: `build --shell-on-failure`."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.build.context_request import with_context
from orchestrator.build.state import BuildOrder
from orchestrator.containerfile.assemble import AssembledContext
from orchestrator.containerfile.context import Content
from orchestrator.engine.base import BuildRequest, Leftover, StepFailedError
from orchestrator.errors import EngineError, OrchestratorError
from orchestrator.events import Notice, ignore
from orchestrator.project.containerfile import text_before, without_mounts


def open_shell(order: BuildOrder, request: BuildRequest, made: AssembledContext, failure: StepFailedError) -> None:
    """Open the shell, if it was asked for, and wait for its end. What keeps it from opening is a notice."""
    if order.options.shell is None:
        return
    text = text_before(made.containerfile, failure.stage, failure.instruction)
    if text is None:
        order.emit(Notice(text=f"no shell: the Containerfile has no step `{failure.instruction}`", level="warning"))
        return
    context = replace(
        made.context, parts=(*made.context.parts, Content(path=request.containerfile, data=text.encode()))
    )
    # What stands before the step has just run, so it comes from the cache, also where --no-cache was given.
    state = replace(with_context(request, context), target="", cache_to="", tag=f"{request.tag}-before", no_cache=False)
    image = ""
    try:
        image = order.engine.build(state, ignore)
        order.options.shell(image, without_mounts(failure.instruction))
    except OrchestratorError as error:
        order.emit(Notice(text=f"no shell: {error.message}", level="warning"))
    finally:
        if image:
            _forget(order, image, request.build_id)


def _forget(order: BuildOrder, image: str, build_id: str) -> None:
    """The image, and what Podman committed of the same build on its way there."""
    made = Leftover(kind="image", id=image, name="", build_id=build_id)
    try:
        for leftover in (made, *(left for left in order.engine.leftovers() if left.build_id == build_id)):
            order.engine.remove(leftover)
    except EngineError:
        return  # `clean` removes it
