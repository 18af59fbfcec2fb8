"""Programs that ask a node for their task: the stand-in shim in a packed image, our stand-in of the node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.run.sandbox.rehearsal import RehearseOptions, rehearse
from tests.examples.conftest import EXAMPLES, cargo
from tests.support.packed import Packed

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shim.h"
static void *work(const struct Task *task) {
    int size = atoi(task->args[0]), count = 0;
    while (task->args[count]) count++;
    char *data = malloc(size + 1);
    memset(data, 'x', size);
    FILE *f = fopen("/workspace/big", "w");
    fwrite(data, 1, size, f);
    fclose(f);
    printf("%d arguments, first file %s\n", count, task->files[0] ? task->files[0] : "none");
    if (size == 13) return NULL;
    void *result = new_task_result((uint8_t *) data, size);
    add_file_to_result(result, "/workspace/big");
    return result;
}
int main(void) { run(work); return 0; }
"""


@pytest.fixture(scope="module")
def image(packed: Packed) -> Path:
    workspace = EXAMPLES / "standin-gevulot"
    library = cargo(workspace, "build", "--release", "-p", "gevulot-shim-ffi") / "release"
    flags = (f"-I{workspace / 'crates/shim-ffi'}", f"-L{library}", "-lgevulot_shim_ffi", f"-Wl,-rpath,{library}")
    return packed.image(PROGRAM, *flags)


def options(folder: Path, rehearsal_engine: str, *args: str) -> RehearseOptions:
    (folder / "task.json").write_text(json.dumps({"id": "t", "args": args}))
    (folder / "in.txt").write_text("in")
    return RehearseOptions(
        engine=rehearsal_engine, runtime="devnet", task=folder / "task.json", files=(folder / "in.txt",), timeout=60,
        workspace=folder / "workspace", memory=96,
    )  # fmt: skip


# 70 kB and more are over HTTP/2's first window: the shim has to wait for the node's leave to send on.
@pytest.mark.parametrize("size", [0, 5, 70_000, 3_000_000])
def test_a_task_comes_from_the_node_and_its_result_goes_there(
    image: Path, rehearsal_engine: str, tmp_path: Path, size: int
) -> None:
    done = rehearse(image, options(tmp_path, rehearsal_engine, str(size), *["word"] * 4000))
    assert done.ok, done.run
    assert done.run.result is not None
    assert done.run.result.data == b"x" * size
    assert done.run.result.files == ("/workspace/big",)
    assert (tmp_path / "workspace/big").stat().st_size == size
    assert "4001 arguments, first file /workspace/in.txt" in done.run.output["stdout"].decode()
    assert not done.run.violations


def test_a_task_that_failed_is_said_by_the_node(image: Path, tmp_path: Path) -> None:
    done = rehearse(image, options(tmp_path, "none", "13"))
    assert not done.ok
    assert done.run.result is not None
    assert "its task failed" in (done.run.result.error or "")


def test_without_a_task_the_node_has_none(image: Path) -> None:
    done = rehearse(image, RehearseOptions(engine="none", runtime="devnet", timeout=60))
    assert not done.ok
    assert "the node has no task" in done.run.output["stderr"].decode()
