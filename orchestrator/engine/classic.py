"""The classic builder's stream as steps: `Step N/M : INSTRUCTION`, then its output, one step after the other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.engine.build import base_error, build_error, engine_fault, exit_status, step_failed
from orchestrator.engine.steps import Step, Steps
from orchestrator.errors import OrchestratorError

_STEP = re.compile(r"Step (\d+)/\d+ : (.*)", re.DOTALL)
_FROM = re.compile(r"FROM\s+(?:--\S+\s+)*\S+(?:\s+AS\s+(?P<name>\S+))?\s*", re.IGNORECASE)
_NOISE = re.compile(r"\s*---> \S+\s*|Removing intermediate container \S+\s*")


class ClassicLog:
    """Feeds `Steps` from the messages of a classic build, and words its failure."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._current: Step | None = None
        self._cached = self._runs = False
        self._stages = 0
        self._stage = ""

    def feed(self, message: Mapping[str, Any]) -> None:
        """One message of the stream."""
        text = str(message.get("stream", ""))
        if match := _STEP.fullmatch(text.rstrip("\n")):
            self._begin(match[1], match[2])
        elif text.startswith("Successfully built "):
            self._end()
        elif self._current is not None and not self._current.ended:
            self._output(self._current, text)

    def failure(self, problem: str, code: int | None = None) -> OrchestratorError:
        """The error for a build that ended with `problem`."""
        step = self._current
        if step is None:
            return build_error(problem)
        self._steps.finish(step.id, error=problem)
        if step.title.upper().startswith("FROM "):
            return base_error(step, problem)
        status = code if code is not None else exit_status(problem)
        if status is None and (fault := engine_fault("Docker", step.title, problem)):
            return fault
        return step_failed(step, step.title, problem, status)

    def _begin(self, number: str, title: str) -> None:
        self._end()
        if match := _FROM.fullmatch(title):
            self._stage = match["name"] or f"stage-{self._stages}"  # BuildKit's name for one without a name
            self._stages += 1
        self._current = self._steps.start(number, stage=self._stage, title=title)

    def _output(self, step: Step, text: str) -> None:
        if text.strip() == "---> Using cache":
            self._cached = True
        elif "---> Running in " in text:
            self._runs = True
        elif self._runs and not _NOISE.fullmatch(text):
            self._steps.output(step.id, text)

    def _end(self) -> None:
        if self._current is not None:
            self._steps.finish(self._current.id, cached=self._cached)
        self._cached = self._runs = False
