"""`rehearse` on the command line: answers, exit codes, tasks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import yaml

from orchestrator.digest import file_blake3
from tests.support.cli import OUTCOME, ROOT, orchestrator
from tests.support.linkers import lld_flags
from tests.support.packed import Packed
from tests.support.receipts import receipt_text

WORKER = r"""
#include <stdio.h>
#include <string.h>
int main(void) {
    char task[4096] = "", file[64] = "";
    FILE *f = fopen("/workspace/task.json", "r");
    if (!f) return 2;
    fread(task, 1, sizeof task - 1, f); fclose(f);
    f = fopen("/workspace/input.txt", "r");
    if (!f) return 3;
    fread(file, 1, sizeof file - 1, f); fclose(f);
    f = fopen("/workspace/task_result.json", "w");
    if (strstr(task, "\"7\"") && strstr(task, "/workspace/input.txt"))
        fprintf(f, "{\"Ok\":{\"id\":\"t\",\"data\":[%d,%d],\"files\":[]}}", file[0], file[1]);
    else
        fprintf(f, "{\"Err\":\"no such task\"}");
    return fclose(f);
}
"""


def test_a_task_is_given_and_its_result_read(packed: Packed, tmp_path: Path) -> None:
    image = packed.image(WORKER)
    (tmp_path / "input.txt").write_text("ok")
    for args, code, result in ((["7"], 0, "ok"), (["8"], 7, None)):
        (tmp_path / "task.json").write_text(json.dumps({"args": args}))
        options = ["--task", str(tmp_path / "task.json"), "--file", str(tmp_path / "input.txt"), "--engine", "none"]
        done = orchestrator("rehearse", str(image), *options, "--json")
        assert done.code == code, done.stderr
        document = json.loads(done.stdout)
        assert document["ok"] is (code == 0)
        assert document["result"]["error"] == (None if result else "no such task")
        assert document["result"]["data"] == (result or "")


def test_a_long_name_of_the_temporary_directory_is_no_obstacle(packed: Packed, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    image = packed.image("int main(void) { return 0; }")
    for runtime in ("local", "devnet"):  # a socket's path may have 107 bytes, and devnet has one more
        done = orchestrator("rehearse", image, "--engine", "none", "--runtime", runtime, env={"TMPDIR": str(folder)})
        assert done.code == 0, done.stderr
    assert not list(folder.iterdir())


def test_a_result_that_is_no_file_is_not_read(packed: Packed, tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text("{}")
    for call in ('symlink("/etc/passwd", RESULT)', "mkdir(RESULT, 0700)"):
        source = '#include <sys/stat.h>\n#include <unistd.h>\n#define RESULT "/workspace/task_result.json"\n'
        image = packed.image(f"{source}int main(void) {{ return {call}; }}")
        done = orchestrator("rehearse", image, "--task", tmp_path / "task.json", "--engine", "none")
        assert done.code == 7
        assert "is not a file" in done.stderr


def test_a_failing_program_is_7_and_its_output_shown(packed: Packed) -> None:
    image = packed.image('#include <stdio.h>\nint main(void) { puts("out"); return 3; }')
    done = orchestrator("rehearse", str(image), "--engine", "none")
    assert (done.code, done.stdout) == (7, "out\n")
    assert "exit code 3" in done.stderr
    assert "see its output, above; --trace lists the files that it did not find" in done.stderr
    traced = orchestrator("rehearse", str(image), "--engine", "none", "--trace")
    assert traced.code == 7
    assert "--trace lists" not in traced.stderr


def test_how_it_ended_stands_in_the_receipt_of_the_image(packed: Packed) -> None:
    image = packed.image("int main(int count, char **words) { return 3; }")
    options = ("rehearse", image, "--engine", "none", "--record")
    assert f"not recorded: there is no {image.stem}.receipt.json beside" in orchestrator(*options).stderr
    path = image.with_suffix(".receipt.json")
    path.write_text(receipt_text("x", file_blake3(image)))
    before = json.loads(path.read_text())
    done = orchestrator(*options, "--json")
    assert (done.code, done.json()["recorded"]) == (7, True)
    kept = json.loads(path.read_text())
    seen = kept.pop("rehearsal")
    assert kept == before
    assert (seen["passed"], seen["engine"], seen["peak_memory"]) == (False, "none", done.json()["peak_memory"])
    assert seen["reason"] == done.json()["reason"]


def test_a_program_that_the_guests_kernel_damages_is_7_though_it_runs_here(packed: Packed) -> None:
    source = "int data[2000] = {1}; int main(void) { return data[0] - 1; }"
    image = packed.image(source, *lld_flags())
    done = orchestrator("rehearse", image)
    assert done.code == 7
    assert "/prog: its segments at 0x" in done.stderr and "-fuse-ld=bfd" in done.stderr
    assert "error: the program ran here, but Nanos would not load all of it" in done.stderr
    told = orchestrator("rehearse", image, "--json")
    assert told.code == 7
    assert told.json()["exit_code"] == 0 and told.json()["ok"] is False
    assert told.json().keys() > OUTCOME and "would not load all of it" in told.json()["reason"]
    assert [row["code"] for row in told.json()["damaged"]] == ["elf-page-shared"]
    assert orchestrator("rehearse", packed.image(source, "-fuse-ld=bfd")).code == 0


MISSES = r"""
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
    const char *paths[] = {"/p/q", "/p", "/left/out", "/etc/optional.conf", "/build/p/q", "/a, b"};
    for (int i = 0; i < 6; i++) fopen(paths[i], "r");
    dlopen("libabsent.so.2", RTLD_NOW);
    return RETURN;
}
"""


def test_fix_writes_what_helps_and_says_why_not_the_rest(packed: Packed, tmp_path: Path) -> None:
    project = tmp_path / "project.yaml"
    (tmp_path / ".dockerignore").write_text("left\n")
    for path in ("p/q", "left/out", "a, b"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    project.write_text("name: x\n")
    fix = ("--engine", "none", "--trace", "--fix", project)

    done = orchestrator("rehearse", packed.image(MISSES, "-DRETURN=0"), *fix)
    assert done.code == 0
    assert yaml.safe_load(done.stdout)["stage"]["files"][-1] == "a, b"
    assert project.read_text() == "name: x\n"
    assert "not added: libabsent.so.2, /p/q, /p, /left/out" in done.stderr
    assert "note: the program succeeded without what follows" in done.stderr
    assert ": the program succeeded without it" in done.stderr

    done = orchestrator("rehearse", packed.image(MISSES, "-DRETURN=1"), *fix, "--json")
    assert done.code == 7
    assert project.read_text() == "name: x\nstage:\n  files: [p/q, 'a, b']\n"
    assert done.json()["fix"]["added"] == ["stage.files: p/q", "stage.files: a, b"]
    why = {row["name"]: row["reason"] for row in done.json()["fix"]["not_added"]}
    assert why.keys() == {"/p", "/left/out", "/etc/optional.conf", "/build/p/q", "libabsent.so.2"}
    assert "left out of the build by .dockerignore" in why["/left/out"]
    assert "a directory, which comes with its files" in why["/p"]


def test_what_is_done_again_and_again_is_one_line(packed: Packed) -> None:
    source = """
    #include <fcntl.h>
    #include <stdio.h>
    int main(void) {
        char name[32];
        for (int i = 0; i < 40; i++) { sprintf(name, "/out%d", i); open(name, O_WRONLY | O_CREAT, 0600); }
        return 0;
    }
    """
    image = packed.image(source)
    said = [line for line in orchestrator("rehearse", image, "--engine", "none").stderr.splitlines() if "/out" in line]
    assert len(said) == 1
    assert "/out0 " in said[0] and "and 39 more: /out1, " in said[0] and said[0].endswith("(40 times)")
    (listed,) = orchestrator("rehearse", image, "--engine", "none", "--json").json()["violations"]
    assert listed["count"] == 40


def test_misspelt_words_are_2_with_the_right_one(packed: Packed, tmp_path: Path) -> None:
    image = packed.image("int main(void) { return 0; }")
    (tmp_path / "task.json").write_text('{"agrs": ["--n"]}')
    task = orchestrator("rehearse", image, "--task", tmp_path / "task.json", "--engine", "none")
    assert task.code == 2
    assert "unknown key agrs" in task.stderr and "args" in task.stderr.replace("agrs", "")
    engine = orchestrator("rehearse", image, "--engine", "dockr")
    assert engine.code == 2
    assert "none, docker" in engine.stderr


def test_no_engine_is_3(packed: Packed) -> None:
    image = packed.image("int main(void) { return 0; }")
    done = orchestrator("rehearse", str(image), "--engine", "unix:///nowhere.sock")
    assert done.code == 3


TICKING = r"""
#include <fcntl.h>
#include <unistd.h>
int main(void) {
    for (;;) {
        int f = open("/workspace/ticks", O_WRONLY | O_CREAT | O_APPEND, 0644);
        write(f, "x", 1); close(f); usleep(20000);
    }
}
"""


def test_a_killed_rehearsal_takes_its_program_with_it(packed: Packed, tmp_path: Path) -> None:
    ticks = tmp_path / "ticks"
    command: list[str | Path] = [sys.executable, "-m", "orchestrator", "rehearse", packed.image(TICKING)]
    with subprocess.Popen([*command, "--engine", "none", "--workspace", tmp_path], cwd=ROOT) as running:
        deadline = time.monotonic() + 60
        while not ticks.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        running.kill()
    seen = -1
    while ticks.stat().st_size != seen and time.monotonic() < deadline:
        seen = ticks.stat().st_size
        time.sleep(0.5)
    assert 0 < ticks.stat().st_size == seen
