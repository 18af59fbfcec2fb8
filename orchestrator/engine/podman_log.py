"""Podman's build stream as steps.

The stream is text: `STEP 2/5: RUN …` (`[1/3] STEP 2/5: …` with several stages), `--> Using cache ID`, `--> ID` when a
step's layer is there, and what the steps write, without any prefix. Stages run in parallel, so `-->` lines and
output may belong to any of the steps that run. What can be told for certain:

- a step has ended when its stage's next step begins, when it runs alone at its `-->`, when a step that copies from
  its stage has ended, and, the only last step of a stage, when another stage begins on an image's id;
- a line is from a RUN step that has begun and not ended.

With one such step its output is exact. With several, a line is shown under the step that began last and is kept
in the tail of each of them, which `StepFailedError` says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.engine.build import (
    base_error,
    build_error,
    engine_fault,
    exit_status,
    lost_layer,
    step_failed,
    storage_full,
)
from orchestrator.engine.steps import Step, Steps
from orchestrator.errors import OrchestratorError

_STEP = re.compile(
    r"(?:\[(?P<stage>\d+)/(?P<stages>\d+)\] )?STEP (?P<step>\d+)/(?P<steps>\d+): (?P<title>.*)\n?", re.DOTALL
)
_FROM = re.compile(r"FROM\s+(?:--\S+\s+)*(?P<base>\S+)(?:\s+AS\s+(?P<name>\S+))?\s*", re.IGNORECASE)
_CACHED = re.compile(r"--> Using cache ([0-9a-f]{64})\n")
_LAYER = re.compile(r"--> [0-9a-f]{10,64}\n")
_END = re.compile(r"(?:\[\d+/\d+\] )?COMMIT .*\n|Successfully (?:tagged|built) .*\n|[0-9a-f]{64}\n")
_STAGE_IMAGE = re.compile(r"[0-9a-f]{64}")
_NEEDS = re.compile(r"(?:--from=|[, ]from=)([^\s,]+)")
_FAILED_AT = re.compile(r'building at STEP "(?P<title>.*?)": (?P<problem>.*)', re.DOTALL)
_RUNTIME = re.compile(r"^error running container: (?:from|did not get) .*", re.DOTALL)


@dataclass(kw_only=True)
class _Stage:
    number: int
    names: set[str] = field(default_factory=set)
    label: str = ""
    current: Step | None = None
    needs: set[str] = field(default_factory=set)
    """Stages that the current step copies from."""
    last: bool = False
    """Whether the current step is the stage's last: no further step of the stage will say that it has ended."""


class PodmanLog:
    """Feeds `Steps` from the messages of a Podman build, and words its failure."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._stages: dict[int, _Stage] = {}
        self._layers: list[bool] = []
        """Layers (`-->`) that no ended step accounts for yet; True = from the cache."""
        self._cached = False
        self._over = False
        self._runtime_error = ""

    def feed(self, message: Mapping[str, Any]) -> None:
        """One message of the stream."""
        text = str(message.get("stream", ""))
        if match := _STEP.fullmatch(text):
            self._begin(match)
        elif _CACHED.fullmatch(text):
            self._cached = True
        elif _LAYER.fullmatch(text):
            self._layer()
        elif _END.fullmatch(text) and not self._writers():
            self._over = True
        elif text and not self._over:
            self._output(text)

    def failure(self, problem: str) -> OrchestratorError:
        """The error for a build that ended with `problem`."""
        if problem.startswith("creating build container: "):
            base = next((s for s in reversed(self._steps.running()) if _FROM.fullmatch(s.title)), None)
            if base is not None:
                self._steps.finish(base.id, error=problem)
                return base_error(base, problem.partition(": ")[2])
        if known := lost_layer(problem) or storage_full(problem):
            return known
        at = _FAILED_AT.fullmatch(problem)
        if at is None or at["problem"].startswith("Build error: Unknown instruction"):
            return build_error(problem)
        step = self._guilty(at["title"])
        if step is None:
            return build_error(problem)
        status = exit_status(at["problem"])
        if self._runtime_error and (fault := engine_fault("Podman", "RUN", self._runtime_error)):
            return fault
        self._steps.finish(step.id, error=at["problem"])
        return step_failed(step, step.title, at["problem"], status)

    def _begin(self, match: re.Match[str]) -> None:
        stage = self._stages.setdefault(int(match["stage"] or 1), _Stage(number=int(match["stage"] or 1)))
        title = match["title"].strip()
        self._end(stage)
        if base := _FROM.fullmatch(title):
            # Numbered from 0 where there is no name, as COPY --from counts them and BuildKit names them.
            stage.label = base["name"] or f"stage-{stage.number - 1}"
            stage.names = {stage.label.lower(), str(stage.number - 1)}
            stage.needs = {base["base"].lower()}
            if _STAGE_IMAGE.fullmatch(base["base"]):
                self._end_of_base()
        else:
            stage.needs = {name.lower() for name in _NEEDS.findall(title)}
        stage.last = match["step"] == match["steps"]
        key = f"{stage.number}.{match['step']}"
        stage.current = self._steps.start(key, stage=stage.label, title=title)

    def _end(self, stage: _Stage) -> None:
        """The current step of `stage` has ended; so have the last steps of stages that it copied from."""
        step, stage.current = stage.current, None
        if step is None:
            return
        cached = False
        if not _FROM.fullmatch(step.title) and self._layers:
            cached = self._layers.pop()  # a stage's next STEP line follows its `-->` at once
        self._steps.finish(step.id, cached=cached)
        for other in self._stages.values():
            if other.names & stage.needs and other is not stage:
                self._end(other)

    def _end_of_base(self) -> None:
        """A stage begins on what another made, which Podman names by its image's id: the other one has ended."""
        ended = [stage for stage in self._stages.values() if stage.current is not None and stage.last]
        if len(ended) == 1:
            self._end(ended[0])

    def _layer(self) -> None:
        self._layers.append(self._cached)
        self._cached = False
        working = [stage for stage in self._stages.values() if stage.current is not None]
        if len(working) == 1:
            self._end(working[0])

    def _writers(self) -> list[Step]:
        return [
            stage.current
            for stage in self._stages.values()
            if stage.current is not None and stage.current.title.startswith("RUN")
        ]

    def _output(self, text: str) -> None:
        if _RUNTIME.match(text):
            self._runtime_error = text.strip()
        steps = self._writers() or self._steps.running()[-1:]
        if steps:
            steps.sort(key=lambda step: step.began)
            self._steps.output(steps[-1].id, text, also=tuple(steps[:-1]))

    def _guilty(self, title: str) -> Step | None:
        running = self._steps.running()
        exact = [step for step in running if _plain(step.title) == _plain(title)]
        writers = [step for step in self._writers() if title.startswith("RUN")]
        return next(iter([*exact, *reversed(writers), *reversed(running)]), None)


def _plain(title: str) -> str:
    """An instruction without its flags and spacing: the error line and the STEP line differ in both."""
    return " ".join(word for word in title.split() if not word.startswith("--"))
