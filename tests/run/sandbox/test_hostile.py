"""Images that mean ill, neighbours who do, and programs that take more than they may."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from orchestrator.errors import ProgramError
from orchestrator.run.sandbox.rehearsal import RehearseOptions, rehearse
from tests.image import handmade as h
from tests.support.cli import ROOT, orchestrator
from tests.support.packed import Packed
from tests.support.user import NOBODY, as_user, users_ground

NOTHING = "int main(void) { return 0; }"


@contextmanager
def forging(folder: Path) -> Iterator[None]:
    """Another user who connects to every socket of a rehearsal below `folder`, and says that all went well."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            while True:
                _forge(folder)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def _forge(folder: Path) -> None:
    for top in folder.glob("orchestrator-rehearse-*"):
        for path in (top / "launcher/socket", top / "launcher/socket/socket"):
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as forged:
                forged.connect(str(path))
                reading, _writing = os.pipe()
                socket.send_fds(forged, [struct.pack("<IIi", ord("L"), 0, 0)], [reading])
                _, descriptors, _, _ = socket.recv_fds(forged, 10, 2)
                os.write(descriptors[0], b"forged")
                forged.send(struct.pack("<IIi", ord("S"), 0, 0))
                time.sleep(1)


def test_another_user_forges_nothing(
    packed: Packed, rehearsal_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = packed.image("#include <unistd.h>\nint main(void) { usleep(300000); return 3; }")
    with users_ground() as ground:
        monkeypatch.setattr("tempfile.tempdir", str(ground))
        with forging(ground):
            done = rehearse(image, RehearseOptions(engine=rehearsal_engine))
    assert (done.run.exit_code, done.run.output["stdout"]) == (3, b"")


def test_an_image_that_is_nearly_all_holes_is_refused(tmp_path: Path) -> None:
    holes = h.file_node("huge", 1 << 62, [])
    program = h.sym("program") + h.text("/huge")
    image = h.put(tmp_path, h.disk(h.filesystem(h.tree(holes, attributes=[program]))))
    began = time.monotonic()
    for arguments in (("inspect", image, "extract", tmp_path / "out"), ("rehearse", image, "--engine", "none")):
        done = orchestrator(*arguments, timeout=60)
        assert done.code != 0
        assert f"claim {1 << 62} bytes" in done.stderr and "nearly all holes" in done.stderr
    assert not (tmp_path / "out").exists()
    assert time.monotonic() - began < 30


def test_an_image_larger_than_the_free_space_is_refused(packed: Packed) -> None:
    """Before anything is written: neither `extract` nor a rehearsal fills the disk."""
    image = packed.image(NOTHING, extra={"/data": bytes(range(256)) * 8192})
    program = [sys.executable, "-m", "orchestrator"]
    with users_ground() as ground:
        script = 'mount -t tmpfs -o size=1m none "$PLACE"; "$@"; code=$?; ls -A "$PLACE"; exit $code'
        for command, variable in (
            (["inspect", str(image), "extract", str(ground)], "PLACE"),
            (["rehearse", str(image), "--engine", "none"], "TMPDIR"),
        ):
            done = subprocess.run(
                ["unshare", "--mount", "sh", "-c", script, "sh", *program, *command],
                cwd=ROOT, env=os.environ | {"PLACE": str(ground), variable: str(ground)},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (done.returncode, done.stdout) == (2, ""), done
            assert "the image's files hold" in done.stderr and "are free at" in done.stderr


def test_no_path_of_an_image_is_followed(packed: Packed, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    up = "/.." * 12
    cases = (
        packed.image(NOTHING, mount=f"{up}{outside}/made"),
        packed.image(NOTHING, mount="/out/made", links={"/out": str(outside)}),
        packed.image(NOTHING, links={"/proc": str(outside)}),
        packed.image(NOTHING, links={"/.rehearse": str(outside)}),
    )
    for image in cases:
        done = orchestrator("rehearse", image, "--engine", "none")
        assert done.code == 2, done
        assert "is not followed" in done.stderr
    assert orchestrator("rehearse", packed.image(NOTHING, mount="/proc/x"), "--engine", "none").code == 2
    assert not list(outside.iterdir())


def test_a_link_in_a_used_workspace_is_not_followed(packed: Packed, tmp_path: Path) -> None:
    workspace, outside = tmp_path / "workspace", tmp_path / "outside"
    workspace.mkdir()
    for name in ("task.json", "in.txt"):
        (workspace / name).symlink_to(outside)
        (tmp_path / name).write_text("{}")
    options: list[str | Path] = [
        "--task",
        tmp_path / "task.json",
        "--file",
        tmp_path / "in.txt",
        "--workspace",
        workspace,
    ]
    assert orchestrator("rehearse", packed.image(NOTHING), "--engine", "none", *options).code == 7  # it wrote no result
    assert not outside.exists()
    assert (workspace / "in.txt").read_text() == "{}" and not (workspace / "in.txt").is_symlink()


GREEDY = r"""
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static void *wait_for_ever(void *p) { for (;;) pause(); }
int main(void) {
    char mode[16] = "", block[1 << 16];
    FILE *f = fopen("/workspace/mode", "r");
    if (!f || !fgets(mode, sizeof mode, f)) return 2;
    memset(block, 1, sizeof block);
    if (!strcmp(mode, "memfd")) return memfd_create("x", 0) < 0 && errno == ENOSYS ? 0 : 3;
    if (!strcmp(mode, "shared"))
        for (int i = 0; i < 1500; i++) {
            char *m = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            memset(m, 1, 1 << 20);
            madvise(m, 1 << 20, MADV_DONTNEED);  /* gone from the resident set, and still held */
            usleep(2000);
        }
    if (!strcmp(mode, "threads"))
        for (;;) {
            pthread_t t;
            pthread_attr_t a;
            pthread_attr_init(&a);
            pthread_attr_setstacksize(&a, 16384);
            if (pthread_create(&t, &a, wait_for_ever, 0)) pause();
        }
    if (!strcmp(mode, "files") || !strcmp(mode, "unnamed"))
        for (int i = 0;; i++) {
            char name[40];
            snprintf(name, sizeof name, "/workspace/%d", i);
            int file = open(name, O_CREAT | O_WRONLY, 0644);
            if (*mode == 'u') unlink(name);
            for (int j = 0; j < 160; j++) if (write(file, block, sizeof block) < 0) return 4;
            usleep(20000);
        }
    if (!strcmp(mode, "file")) {
        int file = open("/workspace/x", O_CREAT | O_WRONLY, 0644);
        for (;;) if (write(file, block, sizeof block) < 0) return 5;
    }
    return 6;
}
"""
LIMITS = {"memory": 64, "disk": 100, "threads": 50}


@pytest.fixture(scope="module")
def greedy(packed: Packed) -> Path:
    """A program that takes what the file `mode` says."""
    return packed.image(GREEDY, "-w")


@pytest.mark.parametrize(
    ("mode", "end"),
    [("memfd", "exit"), ("shared", "memory"), ("threads", "threads"), ("files", "disk"), ("unnamed", "disk"),
     ("file", "disk")],
)  # fmt: skip
def test_what_a_program_takes_is_limited(greedy: Path, mode: str, end: str) -> None:
    with users_ground() as ground:  # a user has no cgroup, and a watch is all there is
        shutil.copy(greedy, ground / "x.img")
        (ground / "mode").write_text(mode)
        limits = [word for name, most in LIMITS.items() for word in (f"--{name}", str(most))]
        arguments: list[str | Path] = [
            "rehearse",
            ground / "x.img",
            "--engine",
            "none",
            "--file",
            ground / "mode",
            *limits,
        ]
        done = as_user(ground, *arguments, "--timeout", "60", "--json")
    assert done.code == (0 if end == "exit" else 7), done
    document = json.loads(done.stdout)
    assert document["end"] == end, document
    if end != "exit":
        assert str(LIMITS[end]) in document["message"]


@pytest.mark.parametrize("mode", ["threads", "files"])
def test_the_limits_hold_in_every_place(greedy: Path, rehearsal_engine: str, mode: str, tmp_path: Path) -> None:
    (tmp_path / "mode").write_text(mode)
    done = rehearse(
        greedy, RehearseOptions(engine=rehearsal_engine, files=(tmp_path / "mode",), timeout=60, disk=100, threads=50)
    )
    assert done.run.end == ("disk" if mode == "files" else mode), done.run


GUEST = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    char name[65] = "", got[3] = "";
    struct rlimit stack;
    struct sockaddr_in at = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *) &at, size) || listen(server, 1)) return 2;
    getsockname(server, (struct sockaddr *) &at, &size);
    if (connect(client, (struct sockaddr *) &at, size)) return 3;
    if (write(accept(server, 0, 0), "hi", 2) != 2 || read(client, got, 2) != 2) return 4;
    gethostname(name, sizeof name);
    getrlimit(RLIMIT_STACK, &stack);
    printf("%d %d %s %lu %s\n", getuid(), getegid(), name, (unsigned long) stack.rlim_cur, got);
    return 0;
}
"""


def test_user_host_name_stack_and_loopback_are_the_guests(packed: Packed, rehearsal_engine: str) -> None:
    done = rehearse(packed.image(GUEST), RehearseOptions(engine=rehearsal_engine))
    assert done.run.output["stdout"] == b"0 0  2097152 hi\n", done.run


def test_a_place_that_cannot_be_had_is_said(packed: Packed) -> None:
    """Never a lesser one: root whose user namespace has no other id, and a directory from which nothing may run."""
    image = packed.image(NOTHING)
    alone = [sys.executable, "-m", "orchestrator", "rehearse", str(image), "--engine", "none"]
    done = subprocess.run(["unshare", "-Ur", *alone], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done
    assert "root has no unused user id here" in done.stderr and "--engine podman" in done.stderr
    with users_ground() as ground:
        script = 'mount -t tmpfs -o noexec none "$TMPDIR"; exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", *alone]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"TMPDIR": str(ground)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 3, done
        assert f"no program can run from {ground}, which is mounted noexec" in done.stderr
        assert "set TMPDIR" in done.stderr


def test_the_time_counts_from_the_start(packed: Packed) -> None:
    with pytest.raises(ProgramError, match="had not begun after"):
        rehearse(packed.image(NOTHING), RehearseOptions(engine="none", timeout=0.001))
