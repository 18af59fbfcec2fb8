"""Files' bytes are looked at many at once, and in pieces: what is found is what one look at each file finds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.image.reader import open_image
from orchestrator.image.tree import File
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.nanos.verify.stored import ELF, TEXT, elf_files, marked_files, search

MARKS = (b"first-mark", b"another")
PARTS = st.sampled_from([*MARKS, b"first-", b"mark", ELF, b"\0" * 300, b"text ", b"x" * 600])
CONTENTS = st.lists(PARTS, max_size=6).map(b"".join)


def whole(data: bytes) -> dict[bytes, bytes]:
    return {mark: data[data.find(mark) + len(mark) :][:TEXT] for mark in MARKS if mark in data}


@given(CONTENTS, st.integers(1, 900))
def test_a_mark_is_found_wherever_pieces_are_cut(data: bytes, size: int) -> None:
    assert search([data[at : at + size] for at in range(0, len(data), size)], MARKS) == whole(data)


@given(st.lists(CONTENTS, min_size=1, max_size=8))
def test_neighbours_are_told_apart(contents: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with ImageWriter(Path(folder) / "x.img", BootFiles(boot_img=None, kernel=b"kernel")) as writer:
            for number, data in enumerate(contents):
                writer.add_bytes(f"{number}", data)
            writer.finish({})
        with open_image(Path(folder) / "x.img") as image:
            files = [(path, node) for path, node in image.rootfs.walk() if isinstance(node, File)]
            elves = list(elf_files(image.rootfs, files))
            marked = dict(marked_files(image.rootfs, files, lambda _: MARKS))
    assert elves == [f"/{number}" for number, data in enumerate(contents) if data.startswith(ELF)]
    expected = {f"/{number}": whole(data) for number, data in enumerate(contents) if whole(data)}
    assert {path: marks for path, marks in marked.items() if marks} == expected
