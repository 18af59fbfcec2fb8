"""Workflows on the command line: what goes from program to program, and every way to write one wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from tests.support.cli import OUTCOME, Run, orchestrator
from tests.support.packed import Packed

# Reads /workspace/in.txt, writes it with a "+" to /workspace/sub/out.txt, and gives the task's arguments as data.
PROGRAM = r"""
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
int main(void) {
    char task[4096] = "", text[256] = "";
    FILE *f = fopen("/workspace/task.json", "r");
    if (!f) return 2;
    fread(task, 1, sizeof task - 1, f); fclose(f);
    if ((f = fopen("/workspace/in.txt", "r"))) { fread(text, 1, sizeof text - 2, f); fclose(f); }
    else if ((f = fopen("/workspace/sub/out.txt", "r"))) { fread(text, 1, sizeof text - 2, f); fclose(f); }
    mkdir("/workspace/sub", 0755);
    f = fopen("/workspace/sub/out.txt", "w"); fputs(text, f); fputc('+', f); fclose(f);
    f = fopen("/workspace/task_result.json", "w");
    if (strstr(task, "\"fail\"")) fputs("{\"Err\":\"told to\"}", f);
    else {
        fputs("{\"Ok\":{\"id\":\"t\",\"data\":[", f);
        char *from = strstr(task, "\"args\"");
        for (char *p = from; *p != ']'; p++) fprintf(f, "%s%d", p == from ? "" : ",", *p);
        fputs("],\"files\":[\"/workspace/sub/out.txt\"]}}", f);
    }
    return fclose(f);
}
"""
PARENT = {"Output": {"source_program": "one", "file_name": "/workspace/sub/out.txt"}}


@pytest.fixture(scope="module")
def image(packed: Packed) -> Path:
    return packed.image(PROGRAM)


def run(folder: Path, image: Path, steps: Any, *more: str | Path) -> Run:
    (folder / "w.json").write_text(steps if isinstance(steps, str) else json.dumps(steps))
    options = ["--program", f"one={image}", "--program", f"two={image}", "--engine", "none"]
    return orchestrator("run-workflow", folder / "w.json", *options, *more)


def two_steps(folder: Path) -> list[dict[str, Any]]:
    (folder / "given.txt").write_text("proof")
    return [
        {
            "program": "one",
            "cmd_args": [{"name": "--n", "value": "7"}, {"name": "", "value": "x"}],
            "inputs": [{"Input": {"local_path": "given.txt", "vm_path": "/workspace/in.txt"}}],
        },
        {"program": "two", "cmd_args": [], "inputs": [PARENT]},
    ]


def test_a_results_file_goes_to_the_next_program(tmp_path: Path, image: Path) -> None:
    done = run(tmp_path, image, two_steps(tmp_path), "--json", "-o", tmp_path / "kept")
    assert done.code == 0, done.stderr
    first, second = done.json()["tasks"]
    assert first.keys() & second.keys() > OUTCOME
    assert (first["ok"], first["end"], first["exit_code"]) == (True, "exit", 0)
    assert (first["transaction"], second["transaction"]) == ("proof", "verification")
    assert first["data"] == '"args": ["--n", "7", "x"'
    assert first["inputs"] == [{"path": "/workspace/in.txt", "blake3": blake3(b"proof").hexdigest(), "size": 5}]
    handed = {"path": "/workspace/sub/out.txt", "blake3": blake3(b"proof+").hexdigest(), "size": 6}
    assert first["files"] == second["inputs"] == [handed]
    assert second["files"][0]["blake3"] == blake3(b"proof++").hexdigest()
    assert [path.read_text() for path in sorted((tmp_path / "kept").glob("*/sub/out.txt"))] == ["proof+", "proof++"]


def test_a_program_without_a_result_ends_it_with_7(tmp_path: Path, image: Path) -> None:
    steps = two_steps(tmp_path)
    steps[0]["cmd_args"] = [{"name": "fail", "value": ""}]
    done = run(tmp_path, image, steps)
    assert done.code == 7
    assert "one: told to" in done.stderr
    assert "two" not in done.stdout


def test_a_file_from_a_url_must_have_its_blake3(tmp_path: Path, image: Path) -> None:
    steps = two_steps(tmp_path)
    step_input = steps[0]["inputs"][0]["Input"]
    step_input |= {"file_url": (tmp_path / "given.txt").as_uri(), "local_path": blake3(b"proof").hexdigest()}
    assert run(tmp_path, image, steps).code == 0
    step_input["local_path"] = "0" * 64
    done = run(tmp_path, image, steps)
    assert done.code == 2
    assert "has BLAKE3" in done.stderr


def _set(*path: Any, value: Any) -> Callable[[list[dict[str, Any]]], Any]:
    def change(steps: list[dict[str, Any]]) -> Any:
        at: Any = steps
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        return steps

    return change


WRONG: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "not JSON": (lambda _steps: "[", "not JSON"),
    "empty": (lambda _steps: [], "holds no step"),
    "misspelt key": (
        lambda steps: [{"program": "one", "args": []}, steps[1]], "[0]: unknown key args; did you mean `cmd_args`?",
    ),
    "misspelt in an input": (
        _set(0, "inputs", 0, "Input", "vm_pth", value="/workspace/x"),
        "[0].inputs[0].Input: unknown key vm_pth; did you mean `vm_path`?",
    ),
    "twice": (_set(1, "program", value="one"), "occurs twice"),
    "parent of the first": (_set(0, "inputs", value=[PARENT]), "no program before it"),
    "outside": (_set(0, "inputs", 0, "Input", "vm_path", value="/etc/passwd"), "below /workspace"),
    "upwards": (_set(0, "inputs", 0, "Input", "vm_path", value="/workspace/../x"), "below /workspace"),
    "task itself": (_set(0, "inputs", 0, "Input", "vm_path", value="/workspace/task.json"), "below /workspace"),
    "absent": (_set(0, "inputs", 0, "Input", "local_path", value="nothing.txt"), "there is no file"),
    "late": (_set(1, "inputs", value=[{"Input": {"local_path": "no", "vm_path": "/workspace/x"}}]), "there is no file"),
    "same place": (
        lambda steps: [{**steps[0], "inputs": steps[0]["inputs"] * 2}, steps[1]], "two inputs are /workspace/in.txt",
    ),
    "no such result": (
        _set(1, "inputs", 0, "Output", "file_name", value="/workspace/no"), "produced no file /workspace/no",
    ),
    "unknown program": (_set(1, "program", value="three"), "has no program two"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_workflow_is_2_with_its_place(tmp_path: Path, image: Path, name: str) -> None:
    change, says = WRONG[name]
    done = run(tmp_path, image, change(two_steps(tmp_path)))
    assert done.code == 2, done.stderr
    assert says in done.stderr
    if name == "late":
        assert "gave its result" not in done.stderr


def test_an_image_that_is_not_given(tmp_path: Path, image: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps(two_steps(tmp_path)))
    done = orchestrator("run-workflow", tmp_path / "w.json", "--program", f"one={image}")
    assert done.code == 2
    assert "which image is program two?" in done.stderr and "--program two=IMAGE" in done.stderr


def test_booted_programs_end_it_as_well(tmp_path: Path, image: Path) -> None:
    done = run(tmp_path, image, two_steps(tmp_path), "--boot")
    assert done.code == 7
    assert "one: the program wrote no result (the stub kernel ran" in done.stderr
