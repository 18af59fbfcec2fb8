"""Rehearsals on an engine that does not see this machine's files: what it needs goes there, and comes back."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from orchestrator.engine.select import connect
from orchestrator.rpc import join_sockets
from tests.run.sandbox.test_escape import check, targets
from tests.support.cli import ROOT, Run
from tests.support.packed import Packed
from tests.support.user import users_ground

PROGRAM = r"""
#include <stdio.h>
#include <unistd.h>
#include <sys/stat.h>
int main(int argc, char **argv) {
    char line[64] = "";
    FILE *in = fopen("/workspace/in.txt", "r");
    if (!in || !fgets(line, sizeof line, in)) return 3;
    mkdir("/workspace/out", 0755);
    FILE *out = fopen("/workspace/out/answer", "w");
    fprintf(out, "%s!", line);
    fclose(out);
    unlink("/workspace/old.txt");
    printf("%d %d %d\n", getuid(), access("/orchestrator", F_OK), access("/usr/bin/python3", F_OK));
    fflush(stdout);
    fopen("/missing.dat", "r");
    return write(1, "bye\n", 4) == 4 ? argc - 3 : 4;
}
"""


def rehearsed(image: Path, ground: Path, engine: str, *options: str) -> Run:
    """By a command whose TMPDIR is a file system of its own, as an engine elsewhere has another."""
    script = 'mount -t tmpfs none "$TMPDIR"; exec "$@"'
    command = [sys.executable, "-m", "orchestrator", "rehearse", str(image), "--engine", engine, *options]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *command],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(ground)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Run(code=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.mark.engine
@pytest.mark.parametrize("rehearsal_engine", ["podman", "docker"], indirect=True)
def test_a_program_runs_where_the_engine_does_not_see_our_files(
    packed: Packed, rehearsal_engine: str, tmp_path: Path
) -> None:
    image, workspace = packed.image(PROGRAM), tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "old.txt").write_text("old")
    os.chown(workspace, 1234, 1234)
    (tmp_path / "in.txt").write_text("hello")
    # Docker's by TCP: of that nobody can tell beforehand what files it sees.
    reached = relayed if "docker" in rehearsal_engine else nullcontext
    with users_ground() as ground, reached(rehearsal_engine) as address:
        asked = ("--file", str(tmp_path / "in.txt"), "--workspace", str(workspace), "--trace", "--json")
        done = rehearsed(image, ground, address, *asked)
        assert done.code == 0, done
        document = json.loads(done.stdout)
        assert (document["stdout"], document["exit_code"]) == ("0 -1 -1\nbye\n", 0), document
        assert document["missing"]["files"] == ["/missing.dat"]
        assert document["engine"] in ("docker", "podman")
        assert (workspace / "out/answer").read_text() == "hello!"
        assert (workspace / "out/answer").stat().st_uid == 1234
        assert not (workspace / "old.txt").exists()
        assert not list(ground.iterdir())
    engine = connect(rehearsal_engine)
    try:
        assert not [left for left in engine.leftovers() if left.build_id.startswith("rehearse-")]
    finally:
        engine.close()


@pytest.mark.engine
@pytest.mark.parametrize("rehearsal_engine", ["podman", "docker"], indirect=True)
def test_no_way_leads_out_there(packed: Packed, rehearsal_engine: str, tmp_path: Path) -> None:
    image = packed.image((Path(__file__).parent / "escape.c").read_text(), "-w")
    workspace = tmp_path / "workspace"
    with users_ground() as ground, targets(workspace):
        done = rehearsed(image, ground, rehearsal_engine, "--workspace", str(workspace))
    assert done.code == 0, done
    check(done.stdout, workspace)


@contextmanager
def relayed(endpoint: str) -> Iterator[str]:
    """The engine's socket by TCP."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        relaying = threading.Thread(target=relay, args=(server, endpoint.removeprefix("unix://"), stack))
        relaying.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        relaying.join()


def relay(server: socket.socket, path: str, stack: ExitStack) -> None:
    """Every connection to `server` is one to the socket at `path`."""
    with suppress(OSError):
        while True:
            client = stack.enter_context(server.accept()[0])
            engine = stack.enter_context(socket.socket(socket.AF_UNIX))
            engine.connect(path)
            join_sockets(client, engine)
