"""task.json and task_result.json: what people and programs write into them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.run.node.files import RESULT, read_result, read_task
from orchestrator.run.node.task import ProgramResult, Task

NO_RESULT = "the program's result is not of the shim's form"


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("{}", Task(id="rehearsal", files=("/workspace/in",))),
        ('{"id": "7", "args": ["-n"], "files": ["/workspace/in", "/workspace/x"]}',
         Task(id="7", args=("-n",), files=("/workspace/in", "/workspace/x"))),
    ],
)  # fmt: skip
def test_a_task_and_the_files_given_with_it(tmp_path: Path, text: str, task: Task) -> None:
    (tmp_path / "t.json").write_text(text)
    assert read_task(tmp_path / "t.json", (Path("some/in"),), "/workspace") == task


@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        ("{", "is not JSON", "write {"),
        ("[]", "must be an object", "write {"),
        ("[" * 100_000, "is not JSON", "write {"),
        ('{"arg": []}', "unknown key arg", "did you mean `args`?"),
        ('{"args": "-n"}', "args: must be a list", "write {"),
        ('{"args": ["-n", 7]}', "args[1]: must be text", "write {"),
        ('{"id": 7}', "id: must be text", "write {"),
        ('{"x\\u001b\\n": 1}', "unknown key x\\x1b\\n", "known here: args, files, id"),
    ],
)
def test_what_is_no_task_is_said_in_one_line(tmp_path: Path, text: str, says: str, remedy: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_task(tmp_path / "t.json", (), "/workspace")
    assert caught.value.message.startswith(f"{tmp_path / 't.json'}: {says}")
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('{"Ok": {"id": "t", "data": [104, 105], "files": ["/workspace/o"]}}',
         ProgramResult(data=b"hi", files=("/workspace/o",))),
        ('{"Err": "told to"}', ProgramResult(error="told to")),
        ("{}", ProgramResult(error=f"{NO_RESULT}: it has neither Ok nor Err")),
        ('{"Ok": {"data": [256], "files": []}}',
         ProgramResult(error=f"{NO_RESULT}: Ok.data[0]: is 256, must be at most 255")),
        ('{"Ok": {"data": 5, "files": []}}',
         ProgramResult(error=f"{NO_RESULT}: Ok.data: must be a list")),
    ],
)  # fmt: skip
def test_a_result(tmp_path: Path, text: str, result: ProgramResult) -> None:
    (tmp_path / RESULT).write_text(text)
    assert read_result(tmp_path) == result


def test_results_that_are_no_documents(tmp_path: Path) -> None:
    assert read_result(tmp_path).error == "the program wrote no result"
    (tmp_path / RESULT).symlink_to("/etc/passwd")
    assert read_result(tmp_path).error == "the program's result is not a file"
    (tmp_path / RESULT).unlink()
    os.mkfifo(tmp_path / RESULT)
    assert read_result(tmp_path).error == "the program's result is not a file"
    (tmp_path / RESULT).unlink()
    (tmp_path / RESULT).write_text("[" * 100_000)
    assert str(read_result(tmp_path).error).startswith("the program's result is not JSON")
