"""The task that a program is given, and its result, in the files of `runtime: local`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from orchestrator import files as files_of_ours
from orchestrator.documents import Document, DocumentError, Many, parse_document, read_document
from orchestrator.errors import UsageError
from orchestrator.run.node.task import ProgramResult, Task

TASK: Final = "task.json"
RESULT: Final = "task_result.json"
_MOST_RESULT: Final = 256 << 20
"""Bytes: each of its data's is up to four in JSON."""


class _ShimResult(Document):
    """What the program did, as the shim writes it; it also has the task's id."""

    data: Many[Annotated[int, Field(ge=0, le=255)]]
    files: Many[str]


class _Answer(Document):
    """task_result.json, as the shim writes it: Ok or Err."""

    done: _ShimResult | None = Field(default=None, alias="Ok")
    error: Any = Field(default=None, alias="Err")


def read_task(path: Path | None, files: tuple[Path, ...], workspace_at: str) -> Task:
    """The task of a JSON file (`{"id", "args", "files"}`, each may be absent), with `files` in the workspace added."""
    task = Task()
    if path is not None:
        try:
            task = parse_document(Task, path.read_bytes())
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}", remedy="give a task's JSON file") from error
        except DocumentError as error:
            problem = error.problems[0]
            raise UsageError(f"{path}: {problem.said}", remedy=problem.remedy or 'write {"args": ["…"]}') from error
    names = [f"{workspace_at}/{file.name}" for file in files]
    return task.model_copy(update={"files": tuple(dict.fromkeys([*task.files, *names]))})


def prepare(workspace: Path, task: Task | None, files: tuple[Path, ...], *, local: bool) -> None:
    """Put the files, and for `local` the task, into the workspace. UsageError for a result that is there already."""
    if os.path.lexists(workspace / RESULT):
        raise UsageError(
            f"{workspace / RESULT} is there already, and the shim would abort",
            remedy="remove it, or take another folder",
        )
    if len({file.name for file in files}) < len(files):
        raise UsageError("two of the files have the same name", remedy="rename one: all lie in the workspace")
    for file in files:
        try:
            # The workspace may be one that a program has written to: what it left under a name is replaced.
            with files_of_ours.replacing(workspace / file.name) as temporary:
                files_of_ours.copy_over(file, temporary)
        except OSError as error:
            raise UsageError(f"cannot copy {file}: {error.strerror}", remedy="check the path") from error
    if task is not None and local:
        files_of_ours.write_text(workspace / TASK, json.dumps(task.to_dict()))


def read_result(workspace: Path) -> ProgramResult:
    """The result in the workspace; none, or one that isn't well-formed, is an error of the program's."""
    try:
        # The program made it: a link may lead to the host's files, and a pipe would be waited for.
        answer = read_document(workspace / RESULT, _Answer, newer=True, limit=_MOST_RESULT, links=False)
    except OSError:
        return ProgramResult(error="the program wrote no result")
    except DocumentError as error:
        field = error.problems[0].field
        said = "is not of the shim's form: " if field else ""
        return ProgramResult(error=f"the program's result {said}{error}")
    if "error" in answer.model_fields_set:
        return ProgramResult(error=str(answer.error))
    if answer.done is None:
        return ProgramResult(error="the program's result is not of the shim's form: it has neither Ok nor Err")
    return ProgramResult(data=bytes(answer.done.data), files=answer.done.files)
