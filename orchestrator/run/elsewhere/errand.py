"""What is asked of the rehearsal inside an engine's container, and what it answers: documents that travel."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

from orchestrator.documents import Document, parse_document
from orchestrator.run.node.task import Task
from orchestrator.run.outcome import Outcome
from orchestrator.run.sandbox.outcome import OpenedPath, SandboxLimits

HOME: Final = "/orchestrator"
"""Where in the container all of ours lies, beside Python itself."""
PACKAGES: Final = f"{HOME}/packages"
IMAGE: Final = f"{HOME}/program.img"
ERRAND: Final = f"{HOME}/errand.json"
BACK: Final = f"{HOME}/back"
"""What is fetched: the answer, and the workspace."""
WORKSPACE: Final = f"{BACK}/workspace"
ANSWER: Final = f"{BACK}/answer.json"
MOST_ANSWER: Final = 512 << 20
"""Bytes: a result may have some hundred MiB, and base64 makes a third more of it."""
_END: Final = b";"


class Errand(Document):
    """One rehearsal. `timeout`: seconds, of which `spent` are over; `memory` and `disk`: MiB; `local`: the task is a
    file; `task`: None without one; `shows`: what the program writes is wanted while it runs."""

    timeout: float
    spent: float
    memory: int
    cpus: int
    disk: int | None
    threads: int
    local: bool
    trace: bool
    shows: bool
    task: Task | None


@dataclass(frozen=True, kw_only=True)
class FailedErrand:
    """Why it did not come to an outcome, as an OrchestratorError has it."""

    message: str
    remedy: str
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """How the program ended, what it opened, and within which limits."""

    outcome: Outcome
    opened: tuple[OpenedPath, ...]
    limits: SandboxLimits


@dataclass(frozen=True, kw_only=True)
class _Answer:
    failed: FailedErrand | None = None
    rehearsed: Rehearsed | None = None


def write_answer(answer: Rehearsed | FailedErrand) -> bytes:
    """As JSON; the bytes in it as base64."""
    if isinstance(answer, FailedErrand):
        return json.dumps({"failed": asdict(answer)}).encode()
    document = asdict(answer)
    outcome = document["outcome"]
    outcome["output"] = {name: _text(data) for name, data in outcome["output"].items()}
    if outcome["result"] is not None:
        outcome["result"]["data"] = _text(outcome["result"]["data"])
    return json.dumps({"rehearsed": document}).encode()


def read_answer(data: bytes) -> Rehearsed | FailedErrand:
    """What `write_answer` wrote. DocumentError or ValueError for anything else."""
    answer = parse_document(_Answer, data, limit=MOST_ANSWER)
    if answer.failed is not None:
        return answer.failed
    if answer.rehearsed is None:
        raise ValueError("the answer is empty")
    outcome = answer.rehearsed.outcome
    outcome = replace(outcome, output={name: base64.b64decode(data) for name, data in outcome.output.items()})
    if outcome.result is not None:
        outcome = replace(outcome, result=replace(outcome.result, data=base64.b64decode(outcome.result.data)))
    return replace(answer.rehearsed, outcome=outcome)


class Message(Document):
    """Something that is told while it runs: a notice, or what the program wrote (base64)."""

    kind: Literal["notice", "stdout", "stderr"]
    text: str

    @property
    def data(self) -> bytes:
        """What the program wrote."""
        return base64.b64decode(self.text)


def write_message(kind: Literal["notice", "stdout", "stderr"], text: str | bytes) -> bytes:
    """One message, as it is written to stdout."""
    text = text if isinstance(text, str) else _text(text)
    return base64.b64encode(json.dumps({"kind": kind, "text": text}).encode()) + _END + b"\n"


def read_messages(chunks: Iterable[bytes]) -> Iterator[Message]:
    """The messages in a container's log. Line ends are no part of them: Podman's log has more than were written."""
    rest = b""
    for chunk in chunks:
        *texts, rest = (rest + chunk.replace(b"\n", b"")).split(_END)
        for text in texts:
            yield parse_document(Message, base64.b64decode(text))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
