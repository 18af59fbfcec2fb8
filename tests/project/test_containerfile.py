"""What we read of a Containerfile of the user's own, and what becomes of its FROM lines."""

from __future__ import annotations

import pytest

from orchestrator.project.containerfile import Containerfile, containerfile_of, stages_of
from orchestrator.project.images import qualified

TEXT = """\
# syntax=docker/dockerfile:1.7
ARG SUITE=bookworm
ARG IMAGE="debian:${SUITE}"
FROM --platform=linux/amd64 \\
    # the compiler
    rust:${SUITE} AS Build
RUN <<WORDS
FROM not/an/instruction
WORDS
RUN --mount=type=bind,from=tools.example/protoc:3,target=/protoc \\

    make FROM=here
FROM $IMAGE as runtime
FROM runtime
ADD https://example.org/key.bin /key.bin
COPY --from=build /p /p
COPY --from=busybox:1 /bin/sh /sh
FROM unreachable.example/never AS other
FROM other
"""


def read(text: str, target: int = -1, **arguments: str) -> Containerfile:
    stages = stages_of(text, arguments)
    return containerfile_of(text, stages, stages[target])


def test_only_what_the_target_needs_is_asked_for() -> None:
    assert [stage.name for stage in stages_of(TEXT, {})] == ["build", "runtime", "2", "other", "4"]
    file = read(TEXT, 2)
    assert file.images == ("rust:bookworm", "debian:bookworm")
    assert read(TEXT, 2, SUITE="trixie").images == ("rust:trixie", "debian:trixie")
    assert read(TEXT).images == ("unreachable.example/never",)


def test_what_no_lock_can_pin_is_named() -> None:
    assert read(TEXT, 2).unpinned == ("tools.example/protoc:3", "busybox:1", "https://example.org/key.bin")
    assert read("FROM $NOWHERE\n").unpinned == ("$NOWHERE",)


def test_from_lines_are_pinned_and_nothing_else_changes() -> None:
    pinned = read(TEXT, 2).pinned({"rust:bookworm": "rust@sha256:1", "debian:bookworm": "debian@sha256:2"})
    changed = [(old, new) for old, new in zip(TEXT.splitlines(), pinned.splitlines(), strict=True) if old != new]
    assert changed == [
        ("# syntax=docker/dockerfile:1.7", "# (left out) syntax=docker/dockerfile:1.7"),
        ("    rust:${SUITE} AS Build", "    rust@sha256:1 AS Build"),
        ("FROM $IMAGE as runtime", "FROM debian@sha256:2 as runtime"),
    ]


def test_labels_come_after_whole_instructions() -> None:
    text = "FROM a \\\n  AS one\nRUN x\nFROM b"
    assert read(text, 0).pinned({}, "LABEL l=1") == "FROM a \\\n  AS one\nLABEL l=1\nRUN x\nFROM b"
    assert read(text).pinned({}, "LABEL l=1") == "FROM a \\\n  AS one\nRUN x\nFROM b\nLABEL l=1"


def test_another_escape_character() -> None:
    text = "# escape=`\nFROM a AS c\\\nRUN x `\n  y\nFROM b `\n  AS d\n"
    assert [(stage.name, stage.image) for stage in stages_of(text, {})] == [("c\\", "a"), ("d", "b")]


def test_a_default_and_an_alternative() -> None:
    text = "ARG A\nARG B=2\nFROM x:${A:-1}-${B:+b}-${B}\n"
    assert read(text).images == ("x:1-b-2",)
    assert read(text, A="7").images == ("x:7-b-2",)


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("rust:1.80", "docker.io/library/rust:1.80"),
        ("me/prover", "docker.io/me/prover:latest"),
        ("localhost/prover:1", "localhost/prover:1"),
        ("registry.example:5000/a/b", "registry.example:5000/a/b:latest"),
        ("debian@sha256:00", "docker.io/library/debian@sha256:00"),
    ],
)
def test_names_as_docker_reads_them(written: str, whole: str) -> None:
    assert qualified(written) == whole
