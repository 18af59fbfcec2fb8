"""A project's own Dockerfile, a finished image, a binary that is there: packed without a build step of ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from orchestrator.engine.base import Engine
from tests.build.projects import BASE, write_project
from tests.support.cli import Run, orchestrator

DOCKERFILE = f"""\
# syntax=docker/dockerfile:1
FROM {BASE["image"]} AS build
ARG FLAGS=-Dwrong
COPY . /src/
RUN --mount=type=secret,id=orchestrator-ca,target=/etc/ssl/ca.pem grep -q "BEGIN CERT" /etc/ssl/ca.pem
RUN --mount=type=secret,id=word gcc $FLAGS -DWORD="\\"$(cat /run/secrets/word)\\"" -o /src/hi /src/hi.c

FROM scratch AS prover
COPY --from=build /src/hi /app/hi
COPY --from=build /src/built/part /data/part
COPY --from=build /lib/x86_64-linux-gnu/libc.so.6 /lib/x86_64-linux-gnu/
COPY --from=build /lib64/ld-linux-x86-64.so.2 /lib64/
ENV GREETING=hello PATH=/app
WORKDIR /data
USER 1000:1000
ENTRYPOINT ["hi", "--prove"]
CMD ["a b"]

FROM registry.invalid/that/nobody:needs
"""
SOURCE = """\
#include <stdio.h>
#include <stdlib.h>
int main(int n, char **words) { printf("%s %s %s %s\\n", getenv("GREETING"), WORD, words[1], words[n - 1]); return 0; }
"""
CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n"


def build(engine: Engine, project: Path, out: Path, *more: str, code: int = 0) -> Run:
    done = orchestrator("build", project, "-o", out, "--engine", engine.info.endpoint, *more, env={"WORD": "secret"})
    assert done.code == code, done.stderr[-4000:]
    return done


def manifest(image: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(orchestrator("inspect", image, "manifest", "--json").stdout)
    return document


def test_what_is_there_already_is_packed(engine: Engine, tmp_path: Path) -> None:
    files = {
        "Dockerfile": DOCKERFILE, "hi.c": SOURCE, ".dockerignore": "left-out\n", "left-out/a b": "", "part": "",
        "built/part": "of a cache", "built/CACHEDIR.TAG": CACHE_TAG,
    }  # fmt: skip
    own = {"containerfile": "Dockerfile", "target": "prover", "args": {"FLAGS": "-O1"}}
    secrets = [{"id": "word", "env": "WORD"}]
    project = write_project(
        tmp_path / "own", files=files, build={**own, "secrets": secrets}, stage={"files": ["data/*"]}
    )
    build(engine, project, tmp_path / "out")
    image = tmp_path / "out/program.img"
    said = manifest(image)
    assert said["arguments"] == ["app/hi", "--prove", "a b"]
    assert (said["program"], said["cwd"]) == ("/app/hi", "/data")
    assert said["environment"]["GREETING"] == "hello"
    assert orchestrator("inspect", image, "cat", "/data/part").stdout == "of a cache"
    assert orchestrator("inspect", image, "extract", tmp_path / "tree").code == 0
    assert b"secret" in (tmp_path / "tree/app/hi").read_bytes()
    assert "nothing has changed" in build(engine, project, tmp_path / "out").stderr

    # The image that came of it, as a finished one of this machine; its WORKDIR is there, with nothing in it.
    kept = next(left for left in engine.leftovers() if left.name.startswith("localhost/orchestrator/program:"))
    finished = write_project(tmp_path / "image", build={"image": kept.name}, manifest={"Args": ["mine"]})
    build(engine, finished, tmp_path / "out2")
    said = manifest(tmp_path / "out2/program.img")
    assert (said["arguments"], said["cwd"]) == (["app/hi", "mine"], "/data")
    assert "/data/part" not in orchestrator("inspect", tmp_path / "out2/program.img", "ls").stdout
    locked = json.loads((tmp_path / "image/project.lock").read_text())["inputs"]["image"]
    assert (locked["kind"], locked["ground"]) == ("image", "engine")

    # The program as a binary of the context, in a directory that calls itself a cache.
    plain = write_project(tmp_path / "binary", files={"target/CACHEDIR.TAG": CACHE_TAG}, build={"program": "target/hi"})
    shutil.copy(tmp_path / "tree/app/hi", tmp_path / "binary/target/hi")
    build(engine, plain, tmp_path / "out3")
    assert manifest(tmp_path / "out3/program.img")["program"] == "/hi"
    engine.remove(kept)
