"""The stand-in shim through its C interface, as any program uses it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples.conftest import cargo
from tests.examples.guest import Guest

MARKER = b"GEVULOT-ORCHESTRATOR-STAND-IN: Gevulot shim (task files, or a node by vsock)\0"

# Answers with everything that the task holds, each text behind its length; `null` as first argument: with NULL.
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shim.h"

static char *data;
static size_t length;

static void add(const char *text) {
  size_t size = strlen(text);
  data = realloc(data, length + size + 32);
  length += (size_t)sprintf(data + length, "%zu:", size);
  memcpy(data + length, text, size);
  length += size;
}

static void *work(const Task *task) {
  puts("called");
  if (task->args[0] != NULL && strcmp(task->args[0], "null") == 0) return NULL;
  add(task->id);
  for (int i = 0; task->args[i] != NULL; i++) add(task->args[i]);
  void *result = new_task_result((uint8_t *)data, length);
  for (int i = 0; task->files[i] != NULL; i++) add_file_to_result(result, task->files[i]);
  memset(data, 0, length);
  return result;
}

int main(void) {
  run(work);
  puts("back");
  return 0;
}
"""


@pytest.fixture(scope="module")
def echo(shim: Path, examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("echo")
    (folder / "echo.c").write_text(PROGRAM)
    include = examples / "standin-gevulot/crates/shim-ffi"
    strict = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic")
    library = (f"-I{include}", f"-L{shim.parent}", "-lgevulot_shim_ffi")
    subprocess.run(["gcc", *strict, "-o", folder / "echo", folder / "echo.c", *library], check=True)
    return folder / "echo"


@pytest.fixture
def ready(guest_with_shim: Guest, echo: Path) -> Guest:
    guest_with_shim.put(echo, "echo")
    return guest_with_shim


def test_the_library_exports_the_c_interface_and_nothing_else(shim: Path) -> None:
    symbols = subprocess.run(["nm", "-D", "--defined-only", shim], check=True, capture_output=True, text=True).stdout
    assert sorted(line.split()[-1] for line in symbols.splitlines()) == ["add_file_to_result", "new_task_result", "run"]


def test_the_library_says_that_it_is_a_stand_in(shim: Path, tmp_path: Path, ready: Guest) -> None:
    stripped = tmp_path / "stripped.so"
    subprocess.run(["strip", "-o", stripped, shim], check=True)
    assert MARKER in stripped.read_bytes()
    ready.give_task()
    assert ready.run("echo").stdout.startswith(MARKER[:-1].decode() + "\n")


def test_the_task_goes_in_and_the_result_comes_out(ready: Guest) -> None:
    ready.give_task("--n", "12", files=("in.bin", "/workspace/other"))
    ended = ready.run("echo")
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[1:] == ["called", "back"]
    data = list(b"6:task-13:--n2:12")
    assert ready.result() == {"Ok": {"id": "task-1", "data": data, "files": ["in.bin", "/workspace/other"]}}


# Any text without NUL, which C can't hold, and without lone surrogates, which UTF-8 can't.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@given(args=st.lists(TEXT, max_size=5), files=st.lists(TEXT, max_size=5), ascii_only=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives_both_ways(ready: Guest, args: list[str], files: list[str], ascii_only: bool) -> None:
    ready.give_task("-", *args, files=tuple(files), ascii_only=ascii_only)  # "-": never `null` as the first
    assert ready.run("echo").status == 0
    expected = "".join(f"{len(text.encode())}:{text}" for text in ("task-1", "-", *args))
    assert ready.data() == expected
    assert ready.result()["Ok"]["files"] == files


def test_a_stale_result_aborts_the_program_and_stays(ready: Guest) -> None:
    ready.give_task()
    (ready.workspace / "task_result.json").write_text('{"Err":"old"}')
    ended = ready.run("echo")
    assert ended.status == -signal.SIGABRT
    assert "task_result.json" in ended.stderr
    assert "back" not in ended.stdout
    assert ready.result() == {"Err": "old"}


@pytest.mark.parametrize("text", [None, "", "[]", '{"id": 1, "args": [], "files": []}', '{"id": "a"}', b"\xff{}"])
def test_without_a_task_the_program_is_not_called(ready: Guest, text: str | bytes | None) -> None:
    if text is not None:
        (ready.workspace / "task.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = ready.run("echo")
    assert ended.status == -signal.SIGABRT
    assert "/workspace/task.json" in ended.stderr
    assert "called" not in ended.stdout
    assert not (ready.workspace / "task_result.json").exists()


def test_what_c_cannot_hold_or_does_not_give_back_is_an_error_result(ready: Guest) -> None:
    ready.give_task("null")
    assert ready.run("echo").status == 0
    assert "NULL" in ready.result()["Err"]
    ready.give_task("a\0b")
    ended = ready.run("echo")
    assert "called" not in ended.stdout
    assert "nul byte" in ready.result()["Err"]


def test_an_empty_result_is_a_result(ready: Guest) -> None:
    (ready.workspace / "task.json").write_text(json.dumps({"files": [], "args": [], "id": "", "later": {"x": [1e3]}}))
    assert ready.run("echo").status == 0
    assert ready.result() == {"Ok": {"id": "", "data": list(b"0:"), "files": []}}


def test_its_own_tests_pass(examples: Path) -> None:
    cargo(examples / "standin-gevulot", "test")
