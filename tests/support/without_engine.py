"""`python -m tests.support.without_engine …` is the command line with an engine whose builds are scripted.

Each build stages the program that STAGED_PROGRAM names, with this machine's C library. For scripts that call the
command by its name: `write_command` puts it into a directory for PATH.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from orchestrator.cli.main import main
from orchestrator.engine import select
from orchestrator.events import StepFinished, StepOutput, StepStarted
from tests.support.fake_engine import FakeEngine, Scripted
from tests.support.imports import ROOT

SYSTEM = ("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2")
EVENTS = (
    StepStarted(id="1", stage="program", title="RUN make"),
    StepOutput(id="1", text="cc -o program"),
    StepFinished(id="1", seconds=0.7),
)


def write_command(folder: Path) -> None:
    """An `orchestrator` in this directory."""
    folder.mkdir(parents=True, exist_ok=True)
    command = folder / "orchestrator"
    words = shlex.join([sys.executable, "-P", "-m", "tests.support.without_engine"])
    command.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {words} "$@"\n')
    command.chmod(0o755)


def staged(program: bytes) -> dict[str, bytes]:
    """What a container has after staging."""
    libraries = {f"/stage{path}": Path(path).read_bytes() for path in SYSTEM}
    return {"/stage/program": program, **libraries, "/sbom/large": b"", "/sbom/warnings": b""}


def fake_engine(program: bytes) -> FakeEngine:
    """An engine whose every build gives an image of this program."""
    digest = f"sha256:{'1' * 64}"
    registry = {"debian:bookworm": digest, f"debian@{digest}": digest}
    return FakeEngine(registry=registry, builds=[Scripted(files=staged(program), events=EVENTS)])


if __name__ == "__main__":
    engine = fake_engine(Path(os.environ["STAGED_PROGRAM"]).read_bytes())
    select.connect = lambda *_, **__: engine  # type: ignore[assignment]
    main()
