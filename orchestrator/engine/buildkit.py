"""BuildKit's build stream as steps: each traced vertex is one."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from orchestrator.engine.build import base_error, build_error, engine_fault, exit_status, step_failed, storage_full
from orchestrator.engine.buildkit_trace import BuildKitTrace, TraceError, Vertex, decode
from orchestrator.engine.steps import Step, Steps
from orchestrator.errors import EngineError, OrchestratorError

TRACE = "moby.buildkit.trace"
_NAME = re.compile(r"\[(?:(?P<stage>\S+) )?\d+/\d+\] (?P<title>.*)", re.DOTALL)
_INTERNAL = re.compile(r"\[internal\] (?P<title>.*)", re.DOTALL)
_CACHE = ("importing cache manifest", "inferred cache manifest")
_METADATA = "load metadata for "


class BuildKitLog:
    """Feeds `Steps` from the messages of a BuildKit build, and words its failure."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._failed: list[Step] = []

    def feed(self, message: Mapping[str, Any]) -> None:
        """One message of the stream. EngineError when a trace can't be decoded."""
        if message.get("id") != TRACE:
            return
        try:
            trace = decode(base64.b64decode(str(message.get("aux", "")), validate=True))
        except (TraceError, binascii.Error) as error:
            raise EngineError(
                f"BuildKit sent a progress message that cannot be decoded: {error}",
                remedy="set DOCKER_BUILDKIT=0 to use the classic builder, and report this",
            ) from error
        self._trace(trace)

    def failure(self, problem: str, _code: int | None = None) -> OrchestratorError:
        """The error for a build that ended with `problem`: the failed step's, where there is one."""
        # Steps that were stopped because another failed carry errors too ("context canceled").
        guilty = [step for step in self._failed if "context canceled" not in step.error]
        if not guilty:
            return build_error(problem)
        step = guilty[0]
        if _METADATA in step.title or step.title.startswith("FROM "):
            return base_error(step, step.error)
        status = exit_status(step.error)
        if status is None and (fault := engine_fault("Docker", step.title, step.error) or storage_full(step.error)):
            return fault
        return step_failed(step, step.title, step.error, status)

    def _trace(self, trace: BuildKitTrace) -> None:
        for vertex in trace.vertices:
            if vertex.started is not None:
                self._vertex(vertex)
        for log in trace.logs:
            if log.vertex in self._steps:
                text = log.data.decode("utf-8", errors="replace")
                self._steps.output(log.vertex, text, stream=log.stream)
        # Completions last: a step's last lines may come in the message that ends it.
        for vertex in trace.vertices:
            if vertex.completed is not None and vertex.started is not None:
                self._complete(vertex, vertex.completed - vertex.started)

    def _vertex(self, vertex: Vertex) -> None:
        stage, title = "", vertex.name
        if named := _NAME.fullmatch(vertex.name):
            stage, title = named["stage"] or "", named["title"]
        elif internal := _INTERNAL.fullmatch(vertex.name):
            title = internal["title"]
        self._steps.start(vertex.digest, stage=stage, title=title)

    def _complete(self, vertex: Vertex, seconds: float) -> None:
        step = self._steps[vertex.digest]
        if not step.ended:
            self._steps.finish(vertex.digest, cached=vertex.cached, error=vertex.error, seconds=seconds)
            # A cache that can't be had does not end the build.
            if vertex.error and not vertex.name.startswith(_CACHE):
                self._failed.append(step)
