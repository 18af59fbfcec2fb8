"""The task that a program is given, and its result, in the files of `runtime: local`."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any, BinaryIO, Final

from orchestrator.amounts import size
from orchestrator.errors import UsageError
from orchestrator.node.model import Result, Task
from orchestrator.suggest import did_you_mean

TASK: Final = "task.json"
RESULT: Final = "task_result.json"
_MOST_RESULT: Final = 256 << 20
"""Bytes: each of its data's is up to four in JSON."""
_KEYS: Final = ("id", "args", "files")


def read_task(path: Path | None, files: tuple[Path, ...], workspace_at: str) -> Task:
    """The task of a JSON file (`{"id", "args", "files"}`, each may be absent), with `files` in the workspace added."""
    document: Any = {}
    if path is not None:
        try:
            document = json.loads(path.read_bytes())
        except OSError as error:
            raise UsageError(f"can't read {path}: {error.strerror}", remedy="give a task's JSON file") from error
        except ValueError as error:
            raise UsageError(f"{path}: not JSON: {error}", remedy='write {"args": ["…"]}') from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: not a JSON object", remedy='write {"args": ["…"]}')
    for key in sorted(document.keys() - set(_KEYS)):
        raise UsageError(f"{path}: unknown key {key}", remedy=did_you_mean(key, _KEYS))
    for key in ("args", "files"):
        value = document.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise UsageError(f"{path}: {key}: not a list of texts", remedy=f'write "{key}": ["…"]')
    names = [f"{workspace_at}/{file.name}" for file in files]
    wanted = dict.fromkeys([*document.get("files", []), *names])
    return Task(id=str(document.get("id", "rehearsal")), args=tuple(document.get("args", [])), files=tuple(wanted))


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
            with file.open("rb") as source, _new(workspace, file.name) as target:
                shutil.copyfileobj(source, target)
        except OSError as error:
            raise UsageError(f"can't copy {file}: {error.strerror}", remedy="check the path") from error
    if task is not None and local:
        with _new(workspace, TASK) as target:
            target.write(json.dumps(task.to_dict()).encode())


def _new(workspace: Path, name: str) -> BinaryIO:
    """A new file in the place of what has its name: in a workspace of an earlier run that may be a link."""
    path = workspace / name
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror}", remedy="take another folder") from error
    return os.fdopen(descriptor, "wb")


def read_result(workspace: Path) -> Result:
    """The result in the workspace; none, or one that isn't well-formed, is an error of the program's."""
    path = workspace / RESULT
    try:
        # The program made it: a link may lead to the host's files, and a pipe would be read for ever.
        if not stat.S_ISREG(path.lstat().st_mode):
            return Result(error="the program's result is not a file")
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(_MOST_RESULT + 1)
        if len(data) > _MOST_RESULT:
            return Result(error=f"the program's result is larger than {size(_MOST_RESULT)}")
        document = json.loads(data)
    except OSError:
        return Result(error="the program wrote no result")
    except ValueError:
        return Result(error="the program's result is not JSON")
    if isinstance(document, dict) and "Err" in document:
        return Result(error=str(document["Err"]))
    done = document.get("Ok") if isinstance(document, dict) else None
    try:
        return Result(data=bytes(done["data"]), files=tuple(str(each) for each in done["files"]))  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return Result(error="the program's result is not of the shim's form")
