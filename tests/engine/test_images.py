"""Importing, pulling, reading out and removing, on both engines."""

from __future__ import annotations

import io
import resource
import secrets
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.engine.archive import ArchiveStream
from orchestrator.engine.base import Engine
from orchestrator.errors import BuildStepError, EngineError, InputError
from orchestrator.events import StepFinished, ignore
from orchestrator.inputs.bases import load_image
from orchestrator.inputs.image_archive import read_image
from orchestrator.inputs.store import Store
from orchestrator.label import LABEL
from orchestrator.staged import ImageFiles
from tests.support.engines import Events, request

MIB = 1024 * 1024


@pytest.fixture
def build_id(engine: Engine) -> Iterator[str]:
    """A build's id; what carries it is removed afterwards."""
    identity = f"test-{secrets.token_hex(6)}"
    yield identity
    for leftover in engine.leftovers():
        if leftover.build_id == identity:
            engine.remove(leftover)


def mine(engine: Engine, build_id: str) -> list[str]:
    return [item.kind for item in engine.leftovers() if item.build_id == build_id]


def test_archive_of_a_tree(engine: Engine, base_image: str, build_id: str) -> None:
    text = f"""\
FROM {base_image}
RUN mkdir -p /out/deep/er && cd /out && printf hello > a && ln a hard && ln -s a soft && ln -s /nowhere dangling \\
 && truncate -s 100M holes && printf end | dd of=holes bs=1 seek=104857600 conv=notrunc 2>/dev/null \\
 && printf x > "deep/er/with space" && chmod 755 a
"""
    image = engine.build(request(text, build_id), ignore)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    members: dict[str, tarfile.TarInfo] = {}
    tail = b""
    with (
        engine.open_archive(image, "/out", build_id) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        assert "container" in mine(engine, build_id)
        for member in tar:
            members[member.name.strip("/")] = member
            if member.name.endswith("holes"):
                file = tar.extractfile(member)
                assert file is not None
                while chunk := file.read(MIB):
                    tail = chunk[-8:]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 48 * 1024, f"{grown} KiB more memory for 100 MiB"
    assert members["out/holes"].size == 100 * MIB + 3
    assert tail.endswith(b"end")
    assert members["out/soft"].linkname == "a"
    assert members["out/dangling"].linkname == "/nowhere"
    assert members["out/a"].mode & 0o111
    assert members["out/deep/er/with space"].isfile()
    pair = sorted((members["out/a"], members["out/hard"]), key=lambda member: member.islnk())
    assert pair[0].isreg()
    assert pair[1].isreg() or pair[1].linkname.endswith(("/a", "/hard"))
    assert set(mine(engine, build_id)) == {"image"}, "the container stays"


LAYERS = """\
RUN mkdir -p /d/e /moving/on && echo one > /d/e/f && echo keep > /d/keep && echo deep > /moving/on/file \\
 && echo m > /mode
RUN echo two > /d/e/f && echo gone > /d/gone && mkdir /moved && echo old > /moved/file
RUN rm -rf /d/e /d/gone /moved && mkdir /d/e && echo three > /d/e/g
RUN mv /d/keep /kept && mv /moving/on /moved && chmod 600 /mode && ln -s /etc /link && ln -s /kept /d/link
"""


def read(files: ImageFiles, path: str) -> bytes | None:
    stored = files.open_file(path)
    if stored is None:
        return None
    with stored:
        return stored.read()


def test_files_from_the_engines_storage_are_those_of_the_archive(
    engine: Engine, base_image: str, build_id: str
) -> None:
    image = engine.build(request(f"FROM {base_image}\n{LAYERS}", build_id), ignore)
    there = {"/d/e/g": "three\n", "/kept": "keep\n", "/moved/file": "deep\n", "/mode": "m\n"}
    with engine.open_image(image, build_id) as files:
        # One archive in the other, and a file beside them.
        with files.open_archive("/d") as outer, files.open_archive("/kept") as inner:
            for path, text in there.items():
                assert read(files, path) in (None, text.encode()), path
            for stream in (outer, inner):
                with tarfile.open(fileobj=stream, mode="r|") as tar:
                    assert tar.next() is not None
        for path in ("/d/e/f", "/d/gone", "/link/passwd", "/d/link", "/d/../kept", "/d/e", "/no/such", "kept"):
            assert read(files, path) is None, path
        if read(files, "/bin/busybox") is not None:  # the storage can be read here
            assert read(files, "/d/e/g") is not None
        assert mine(engine, build_id).count("container") == 3
    assert set(mine(engine, build_id)) == {"image"}


def test_archive_of_an_image_from_scratch(engine: Engine, build_id: str) -> None:
    asked = request("FROM scratch\nCOPY data.txt /only/data.txt\n", build_id, files={"data.txt": "content"})
    image = engine.build(asked, ignore)
    with (
        engine.open_archive(image, "/only/data.txt", build_id) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        member = tar.next()
        assert member is not None
        assert (member.name, member.size) == ("data.txt", 7)


def test_archive_of_a_path_that_is_not_there(engine: Engine, base_image: str, build_id: str) -> None:
    with (
        pytest.raises(BuildStepError, match=r"/no/such"),
        engine.open_archive(base_image, "/no/such", build_id),
    ):
        pass
    assert mine(engine, build_id) == []


def test_archive_left_early_or_by_an_exception(engine: Engine, base_image: str, build_id: str) -> None:
    with engine.open_archive(base_image, "/", build_id) as stream:
        assert len(stream.read(512)) == 512
    with pytest.raises(KeyboardInterrupt), engine.open_archive(base_image, "/bin", build_id) as stream:
        stream.read(512)
        raise KeyboardInterrupt
    assert mine(engine, build_id) == []


def test_archive_of_an_image_that_is_not_there(engine: Engine, build_id: str) -> None:
    with pytest.raises(EngineError), engine.open_archive("localhost/no-such-image:1", "/", build_id):
        pass


def test_a_saved_image_is_the_same_by_its_id_and_gets_one_name(
    engine: Engine, base_image: str, build_id: str, tmp_path: Path
) -> None:
    own = f"localhost/orchestrator-test/saved:{build_id}"
    image = engine.build(replace(request(f"FROM {base_image}\nRUN echo 1 > /one\n", build_id), tag=own), ignore)
    engine.save(own, tmp_path / "saved.tar")
    assert engine.image_id(own) == image
    saved = read_image(tmp_path / "saved.tar")
    assert saved.id == image
    for leftover in engine.leftovers():
        if leftover.build_id == build_id:
            engine.remove(leftover)
    other = f"localhost/orchestrator-test/loaded:{build_id}"
    load_image(Store(tmp_path / "cache"), engine, saved, other)
    assert (engine.image_id(other), engine.image_digest(own)) == (image, None)


def copies_of_archives() -> set[Path]:
    folders = {
        Path("/var/tmp"),
        Path(tempfile.gettempdir()),
        *Path(tempfile.gettempdir()).glob("orchestrator-podman-*"),
    }
    return {copy for folder in folders for copy in folder.glob("*.tar*")}


def test_import_names_and_labels(engine: Engine, build_id: str, tmp_path: Path) -> None:
    tar = tmp_path / "root.tar"
    with tarfile.open(tar, "w") as writing:
        member = tarfile.TarInfo("etc/made-by")
        member.size = 4
        writing.addfile(member, io.BytesIO(b"test"))
    tag = f"localhost/orchestrator-test/imported:{build_id}"
    before = copies_of_archives()
    image = engine.import_rootfs(tar, tag, {LABEL: build_id, "quoted": 'a "b" $c \\d'})
    assert copies_of_archives() == before, "Podman keeps a copy of what it imports"
    assert engine.image_digest(tag) is not None
    assert [(item.id, item.name) for item in engine.leftovers() if item.build_id == build_id] == [(image, tag)]
    events = Events()
    asked = request(f"FROM {tag}\nCOPY x /x\n", build_id, files={"x": "x"})
    engine.build(asked, events)
    with engine.open_archive(tag, "/etc/made-by", build_id) as stream:
        assert b"test" in stream.read()


def test_import_of_a_file_that_is_no_tar(engine: Engine, tmp_path: Path) -> None:
    junk = tmp_path / "junk.tar"
    junk.write_bytes(b"not a tar " * 1000)
    with pytest.raises(EngineError):
        engine.import_rootfs(junk, "localhost/orchestrator-test/junk:1", {})
    with pytest.raises(InputError):
        engine.import_rootfs(tmp_path / "missing.tar", "localhost/orchestrator-test/junk:1", {})


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("127.0.0.1:9/nobody/nothing:1", "refuses connections"),
        ("registry.invalid/nobody/nothing:1", "does not resolve"),
        ("Not A Reference", ""),
    ],
)
def test_pull_says_why_not(engine: Engine, reference: str, reason: str) -> None:
    events = Events()
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        engine.pull(reference, events)
    assert reason in caught.value.message
    assert reference in caught.value.message
    assert caught.value.remedy
    assert time.monotonic() - began < 60
    assert [event.error != "" for event in events.seen if isinstance(event, StepFinished)] == [True]


def test_digest_of_an_image_that_is_not_there(engine: Engine) -> None:
    assert engine.image_digest("localhost/no-such-image:1") is None


def test_cut_archives_are_errors() -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name in ("a", "b"):
            member = tarfile.TarInfo(name)
            member.size = 700
            tar.addfile(member, io.BytesIO(b"x" * 700))
    data = whole.getvalue()
    assert ArchiveStream(iter([data[:100], data[100:]]), "x").readall() == data
    for cut in (0, 1, 512, 1536, 3072, 3072 + 512):  # within a header, a file, between two files, half an end
        with pytest.raises(EngineError, match="early"):
            ArchiveStream(iter([data[:cut]] if cut else []), "x").readall()


@pytest.mark.parametrize("reference", ["localhost/orchestrator-not-there:429", "localhost/orchestrator-not-there"])
def test_an_image_of_this_machine_that_is_not_there(engine: Engine, reference: str) -> None:
    with pytest.raises(InputError, match="the engine has no such image"):
        engine.pull(reference, ignore)
