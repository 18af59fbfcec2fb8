"""What every engine's build has in common: its query, the measured upload, and its errors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn
from urllib.parse import unquote_to_bytes

from orchestrator.engine.base import BuildRequest, EngineInfo, LayerLostError, StepFailedError
from orchestrator.engine.docker_api import GoneError
from orchestrator.engine.logins import Login, find_login
from orchestrator.engine.mask import Mask
from orchestrator.engine.reasons import image_error
from orchestrator.engine.steps import Step
from orchestrator.errors import BuildStepError, EngineError, InputError, OrchestratorError
from orchestrator.events import Emit, StepFinished, StepProgress, StepStarted

CONTEXT_STEP = "context"
MIN_PASSWORD: Final = 4
"""Characters of a proxy's password that is hidden: a shorter one would be found in anything."""
_FAULT = re.compile(r"failed to create endpoint|could not find bridge|container networking|cgroup|rlimit|netns", re.I)
_LOST = re.compile(r"\b(?:layer|image) not known")  # Podman, whose builds lock nothing that they take from the cache
_CLIPPED = re.compile(r"\[output clipped, log limit \S+ reached\]\s*$")
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
MAKE_ROOM = "free space there: `orchestrator clean` removes what builds left, and the engine's own prune removes more"
CLIPPED_REMEDY = (
    "BuildKit dropped the rest of the step's output: let the step print less, or start dockerd with"
    " BUILDKIT_STEP_LOG_MAX_SIZE=-1 and BUILDKIT_STEP_LOG_MAX_SPEED=-1 in its environment"
)
_EXIT = re.compile(r"(?:exit code: |exit status |non-zero code: )(\d+)")
_PARSE = re.compile(
    r"parse error|unknown instruction|Dockerfile.*cannot be empty|no contents in|no FROM statement|"
    r"no build stage in current context|target stage|build target|The target ",
    re.IGNORECASE,
)


def build_parameters(request: BuildRequest) -> dict[str, Any]:
    """The query that Docker and Podman read alike. `rm`/`forcerm`: no working container stays."""
    return {
        "t": request.tag,
        "dockerfile": request.containerfile,
        "target": request.target,
        "buildargs": dict(request.build_args),
        "nocache": request.no_cache,
        "rm": True,
        "forcerm": True,
    }


def count_sent(chunks: Iterable[bytes], emit: Emit, total: int = 0) -> Iterator[bytes]:
    """`chunks`, of about `total` bytes (0 = unknown), with events that say how much has been sent.

    The step begins when the engine takes the first.
    """
    began, sent, told = time.monotonic(), 0, 0.0
    emit(StepStarted(id=CONTEXT_STEP, stage="context", title="send the build context"))
    error = "not sent whole"
    try:
        for chunk in chunks:
            yield chunk
            sent += len(chunk)
            now = time.monotonic()
            if now - told > 0.2:  # a terminal can't show more, and a log should not
                told = now
                emit(StepProgress(id=CONTEXT_STEP, done=sent, total=total and max(total, sent)))
        emit(StepProgress(id=CONTEXT_STEP, done=sent, total=sent))
        error = ""
    finally:
        emit(StepFinished(id=CONTEXT_STEP, seconds=time.monotonic() - began, error=error))


def mask_of(request: BuildRequest) -> Mask:
    """What hides the request's secrets, and the passwords in the addresses of its proxies: a fleet's worker has them,
    and a step of another's project prints its environment."""
    return Mask([*(secret.data for secret in request.secrets if secret.hide), *_proxy_passwords(request.build_args)])


def _proxy_passwords(arguments: Mapping[str, str]) -> Iterator[bytes]:
    """As they stand in the addresses, and as they are."""
    for name, address in arguments.items():
        user, at, _ = address.rpartition("@")
        password = user.rpartition("//")[2].partition(":")[2]
        if name.lower().endswith("_proxy") and at and len(password) >= MIN_PASSWORD:
            yield from {password.encode(), unquote_to_bytes(password)}


def logins_of(request: BuildRequest) -> dict[str, Login]:
    """Logins for the registries of the request's images, by registry."""
    logins = (find_login(image) for image in (*request.images, *request.cache_from, *filter(None, [request.cache_to])))
    return {login.registry: login for login in logins if login is not None}


def exit_status(text: str) -> int | None:
    """The exit status that an engine's error names, if any."""
    statuses = _EXIT.findall(text)
    return int(statuses[-1]) if statuses else None  # the last: the step's own text, which may say the same, comes first


def engine_fault(engine: str, instruction: str, problem: str) -> EngineError | None:
    """The error for a step that the engine could not even begin to run, else None.

    COPY and ADD run nothing: what their errors name is a path of the user's.
    """
    if instruction.upper().startswith(("COPY ", "ADD ")) or not _FAULT.search(problem):
        return None
    return EngineError(
        f"{engine} cannot run containers here: {problem}",
        remedy="see `orchestrator doctor`, and the engine's log; --engine private starts a Podman with settings"
        " that work on this machine",
        said=problem,
    )


def step_failed(step: Step, instruction: str, problem: str, status: int | None) -> StepFailedError:
    """A StepFailedError for `step`. `problem` is what the engine said; shown when there is no status."""
    where = f"stage {step.stage}: " if step.stage else ""
    short = instruction if len(instruction) <= 160 else f"{instruction[:157]}..."
    what = f"exit status {status}" if status is not None else problem
    tail = step.text()
    if step.shared:
        others = ", ".join(sorted(step.shared))
        tail = f"(the engine does not say which stage a line is from; some may be from stage {others})\n{tail}"
    if _CLIPPED.search(tail):
        tail += f"\n({CLIPPED_REMEDY})"
    return StepFailedError(
        f"{where}{short} failed: {what}",
        stage=step.stage,
        instruction=instruction,
        tail=tail,
        status=status,
        said=problem,
    )


def lost_layer(problem: str) -> LayerLostError | None:
    """The error for a layer that went while the build began to use it, else None."""
    if exit_status(problem) is not None or not _LOST.search(problem):
        return None
    return LayerLostError(f"a layer of the build was removed during the build: {problem}", remedy="build again")


def storage_full(problem: str) -> EngineError | None:
    """The error where the engine itself, and not a step of the user's, found no room to write; else None."""
    if exit_status(problem) is not None or not is_full(problem):
        return None
    return EngineError(f"the engine has no space left: {problem}", remedy=MAKE_ROOM, said=problem)


def is_full(text: str) -> bool:
    """Whether a text of an engine or of a step says that a disk is full."""
    return _FULL.search(text) is not None


def build_error(problem: str) -> OrchestratorError:
    """The error of a build that failed outside of any step."""
    if full := storage_full(problem):
        return full
    if _PARSE.search(problem):
        return BuildStepError(
            f"the engine rejected the Containerfile: {problem}",
            remedy="look at it with `orchestrator render`",
            said=problem,
        )
    return BuildStepError(f"the build failed: {problem}", remedy="see the engine's log", said=problem)


def base_error(step: Step, problem: str) -> InputError:
    """The error of a FROM whose image can't be had."""
    words = [word for word in step.title.split() if not word.startswith("--")]
    after = next((i for i, word in enumerate(words) if word in ("FROM", "for")), -1)
    reference = words[after + 1] if 0 <= after < len(words) - 1 else step.title
    return image_error(reference, problem)


def engine_gone(info: EngineInfo, error: GoneError) -> EngineError:
    """An engine that died, or was stopped, during a build."""
    name = "the private Podman service" if info.private else f"{info.kind} at {info.endpoint}"
    remedy = (
        "build again; it will be restarted"
        if info.private
        else "check that it runs (`orchestrator doctor`), look at its log, then build again"
    )
    return EngineError(f"{name} stopped answering during the build ({error.message})", remedy=remedy)


def raise_no_image(info: EngineInfo) -> NoReturn:
    """The stream of a build ended without an error and without an image."""
    raise EngineError(
        f"{info.kind} at {info.endpoint} ended the build without an image; it may have been stopped",
        remedy="check that it runs (`orchestrator doctor`), look at its log, then build again",
    )
