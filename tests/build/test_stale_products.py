"""Products of an earlier build among the sources: believed while they are newer, as on the host, and never longer."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.engine.base import Engine
from tests.build.projects import RUST, write_project
from tests.support.cli import orchestrator

# Each tool has a source that includes what a command made of `word`; ninja takes its times from a log (`restat`).
SOURCES = {
    "word": "ONE\n",
    "make.c": '#include <stdio.h>\n#include "make.h"\nint main(void) { puts("by make: " WORD); return 0; }\n',
    "Makefile": (
        'by-make: make.c make.h\n\tgcc -o $@ make.c\nmake.h: word\n\techo "#define WORD \\"$$(cat word)\\"" > $@\n'
    ),
    "ninja.c": '#include <stdio.h>\n#include "ninja.h"\nint main(void) { puts("by ninja: " WORD); return 0; }\n',
    "header.sh": 'echo "#define WORD \\"$(cat "$1")\\"" > "$2"\n',
    # As CMake writes it: what a custom command makes has `restat`, and a compiler says what it read.
    "build/build.ninja": (
        "rule header\n  command = sh ../header.sh ../word ninja.h\n  restat = 1\n"
        "rule cc\n  command = gcc -I. -MD -MF $out.d -o $out $in\n  depfile = $out.d\n  deps = gcc\n"
        "build ninja.h: header ../word\n"
        "build by-ninja: cc ../ninja.c || ninja.h\n"
    ),
    "src/main.rs": 'fn main() { println!("by cargo: ONE"); }\n',
    "Cargo.toml": '[package]\nname = "by-cargo"\nversion = "1.0.0"\nedition = "2021"\n',
    ".dockerignore": "!target\n",  # cargo marks it as a cache, which would be left out
}
RUN = """\
make
cargo build --release --offline
ninja -C build
"""
PRODUCTS = ["by-make", "make.h", "target", "build"]
PROGRAM = "target/release/by-cargo"
FILES = ["by-make", "build/by-ninja"]


@dataclass(frozen=True, kw_only=True)
class Built:
    """A finished build: what its packed programs print, what was said, and for each step whether it was cached."""

    printed: set[str]
    said: str
    cached: dict[str, bool]


def write(folder: Path, run: str, files: list[str]) -> Path:
    build = {"packages": ["make", "ninja-build"], "run": run, "program": PROGRAM}
    return write_project(folder, base=RUST, build=build, stage={"files": files})


def build(project: Path, out: Path, engine: Engine, *more: str) -> Built:
    done = orchestrator("build", project, "-o", out, "--engine", engine.info.endpoint, *more)
    assert done.code == 0, done.stderr[-4000:]
    image = (out / "program.img").read_bytes()
    lines = [f"by {tool}: {word}" for tool in ("make", "cargo", "ninja") for word in ("ONE", "TWO")]
    receipt = json.loads((out / "program.receipt.json").read_text())
    return Built(
        printed={line for line in lines if line.encode() in image},
        said=done.stderr,
        cached={row["step"]: row["cached"] for row in receipt["stages"] if _is_of_the_build(row)},
    )


def _is_of_the_build(row: dict[str, Any]) -> bool:
    return row["stage"] in ("program", "staging") and row["step"].startswith(("RUN", "COPY"))


def with_products(folder: Path, engine: Engine) -> None:
    """Sources, and beside them what the same tools at the same place made of them: a first build's own."""
    for name, text in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    project = write(folder, f"{RUN}tar cf products.tar {' '.join(PRODUCTS)}\n", ["products.tar"])
    out = folder.with_name("first")
    assert build(project, out, engine).printed == {"by make: ONE", "by cargo: ONE", "by ninja: ONE"}
    assert orchestrator("inspect", out / "program.img", "extract", out / "tree").code == 0
    subprocess.run(["tar", "xf", out / "tree/products.tar", "-C", folder], check=True)


def test_stale_products_are_made_anew_and_layers_kept(engine: Engine, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    with_products(sources, engine)
    for name in ("word", "src/main.rs"):
        (sources / name).write_text(SOURCES[name].replace("ONE", "TWO"))
    project = write(sources, RUN, FILES)
    first = build(project, sources / "target", engine)
    assert first.printed == {"by make: TWO", "by cargo: TWO", "by ninja: TWO"}, first.said
    assert first.said.count("left out of the build context") == 1
    assert "build/.ninja_log" in first.said

    # Called from elsewhere, written to elsewhere; and a copy of the project: not one step again.
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", sources, copy], check=True)
    for project, out in ((sources, "out"), (copy, "target")):
        # (Of the same sources, the image would be made of the first one without any step.)
        again = build(project / "project.yaml", project / out, engine, "--verify-cached")
        assert again.printed == first.printed
        assert set(again.cached.values()) == {True}, again.cached

    # On the host, make would believe this product now, although nothing but a time is another.
    os.utime(sources / "by-make")
    os.utime(sources / "make.h")
    os.utime(sources / "by-make")
    believed = build(sources / "project.yaml", sources / "out", engine)
    assert believed.printed == {"by make: ONE", "by cargo: TWO", "by ninja: TWO"}
