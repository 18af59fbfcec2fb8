"""The rehearsal inside an engine's container: does what `errand.py` says, and answers with a file. Run there alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import google.protobuf.message
import grpc

from orchestrator import files
from orchestrator.documents import read_document
from orchestrator.errors import OrchestratorError
from orchestrator.events import Event, Notice
from orchestrator.run.elsewhere.errand import (
    ANSWER,
    ERRAND,
    IMAGE,
    WORKSPACE,
    Errand,
    FailedErrand,
    Rehearsed,
    write_answer,
    write_message,
)
from orchestrator.run.sandbox.rehearsal import RehearseOptions, rehearse

TASK = f"{ERRAND}.task"
LATE = (google.protobuf.message, grpc)
"""What a rehearsal imports late: what this process has imported is what is sent (`own_python.py`)."""


def main(libraries: str) -> None:
    """Run the errand. `libraries`: where the interpreter finds its own, with colons between, for what we start."""
    os.environ.update(LD_LIBRARY_PATH=libraries)
    try:
        answer = write_answer(_run(read_document(Path(ERRAND), Errand)))
    except OrchestratorError as error:
        answer = write_answer(FailedErrand(message=error.message, remedy=error.remedy, exit_code=error.exit_code))
    files.write_bytes(Path(ANSWER), answer)


def _run(errand: Errand) -> Rehearsed:
    task = None
    if errand.task is not None:
        task = Path(TASK)
        files.write_text(task, errand.task.model_dump_json())
    options = RehearseOptions(
        engine="none",
        timeout=errand.timeout,
        spent=errand.spent,
        memory=errand.memory,
        cpus=errand.cpus,
        disk=errand.disk,
        threads=errand.threads,
        runtime="local" if errand.local else "devnet",
        task=task,
        workspace=Path(WORKSPACE),
        trace=errand.trace,
        sink=_show if errand.shows else None,
    )
    done = rehearse(Path(IMAGE), options, _tell)
    return Rehearsed(outcome=done.run, opened=done.opened, limits=done.limits)


def _show(stream: str, data: bytes) -> None:
    _write(write_message("stderr" if stream == "stderr" else "stdout", data))


def _tell(event: Event) -> None:
    if isinstance(event, Notice):
        _write(write_message("notice", event.text))


def _write(message: bytes) -> None:
    sys.stdout.buffer.write(message)
    sys.stdout.buffer.flush()
