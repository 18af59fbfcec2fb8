from __future__ import annotations

import hashlib
import io
import os
import socket
import subprocess
import tarfile
import tempfile
import tracemalloc
from pathlib import Path

import pytest

from orchestrator.containerfile.context import MTIME, BuildContext, Content, HostFile, HostTree, Part
from orchestrator.containerfile.tree import list_tree
from orchestrator.errors import UsageError
from orchestrator.events import Event, Notice


def members(context: BuildContext) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.stream()))) as tar:
        return {member.name: member for member in tar}


def content(context: BuildContext, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.stream()))) as tar:
        stream = tar.extractfile(name)
        assert stream is not None
        return stream.read()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    (root / "src/main.rs").write_text("fn main() {}\n")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o700)
    (root / "empty").mkdir()
    (root / "link").symlink_to("src/../src//main.rs")
    (root / "out").symlink_to("/nowhere/at/all")
    (root / ("long-" * 30)).mkdir()
    (root / ("long-" * 30) / "näme").write_text("x")
    return root


def test_same_content_same_bytes_on_any_day_and_owner(tree: Path, tmp_path: Path) -> None:
    parts: list[Part] = [Content(path="Containerfile", data=b"FROM x\n"), HostTree(prefix="src", source=tree)]
    first = b"".join(BuildContext(parts=parts).stream())
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", "--no-dereference", str(tree), str(copy)], check=True)
    (copy / "src/main.rs").chmod(0o666)
    os.utime(copy / "src/main.rs", (5, 5))
    parts[1] = HostTree(prefix="src", source=copy)
    assert b"".join(BuildContext(parts=list(reversed(parts))).stream()) == first
    assert BuildContext(parts=parts).digest() == BuildContext(parts=list(reversed(parts))).digest()
    (copy / "src/main.rs").write_text("fn main() { }")
    assert (
        BuildContext(parts=parts).digest()
        != BuildContext(parts=[parts[0], HostTree(prefix="src", source=tree)]).digest()
    )


def test_members_are_normal(tree: Path) -> None:
    by_path = members(BuildContext(parts=[HostTree(prefix="src", source=tree)]))
    assert {(m.uid, m.gid, m.mtime) for m in by_path.values()} == {(0, 0, MTIME)}
    assert by_path["src/run"].mode == 0o755
    assert by_path["src/src/main.rs"].mode == 0o644
    assert by_path["src/empty"].isdir()
    assert by_path["src/link"].linkname == "src/../src//main.rs"
    assert by_path["src/out"].linkname == "/nowhere/at/all"
    assert f"src/{'long-' * 30}/näme" in by_path
    assert list(by_path) == sorted(by_path, key=lambda name: name.split("/"))


def test_gnu_tar_reads_it(tree: Path, tmp_path: Path) -> None:
    context = BuildContext(parts=[HostTree(prefix="", source=tree)])
    (tmp_path / "c.tar").write_bytes(b"".join(context.stream()))
    done = subprocess.run(["tar", "-tf", str(tmp_path / "c.tar")], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "src/main.rs" in done.stdout.splitlines()


def test_names_that_are_not_utf8_and_odd_ones(tmp_path: Path) -> None:
    root = tmp_path / "t"
    root.mkdir()
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b" "):
        (Path(os.fsdecode(bytes(root) + b"/" + name))).write_bytes(name)
    context = BuildContext(parts=[HostTree(prefix="", source=root)])
    (tmp_path / "c.tar").write_bytes(b"".join(context.stream()))
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xf", str(tmp_path / "c.tar"), "-C", str(out)], check=True)
    assert sorted(os.fsencode(path.name) for path in out.iterdir()) == sorted([b"\xff\xfe", b"new\nline", b"-rf", b" "])
    assert len(context.digest()) == 64


def test_later_parts_replace_earlier_files_and_parents_are_made(tree: Path) -> None:
    context = BuildContext(
        parts=[
            HostTree(prefix="", source=tree),
            Content(path="src/main.rs", data=b"mine"),
            Content(path="a/b/c", data=b"deep", executable=True),
            HostFile(path="copied", source=tree / "run"),
            HostFile(path="plain", source=tree / "run", executable=False),
        ]
    )
    by_path = members(context)
    assert content(context, "src/main.rs") == b"mine"
    assert by_path["a"].isdir()
    assert by_path["a/b"].isdir()
    assert [by_path[name].mode for name in ("a/b/c", "copied", "plain")] == [0o755, 0o755, 0o644]


def test_ignore_file_counts_only_where_asked(tree: Path) -> None:
    (tree / ".dockerignore").write_text("*\n!src\n!.dockerignore\n")
    assert "p/run" in members(BuildContext(parts=[HostTree(prefix="p", source=tree)]))
    by_path = members(BuildContext(parts=[HostTree(prefix="p", source=tree, ignore_file=True)]))
    assert list(by_path) == ["p", "p/.dockerignore", "p/src", "p/src/main.rs"]


def test_file_brought_back_below_an_ignored_directory_has_its_parents(tree: Path) -> None:
    (tree / ".dockerignore").write_text("src\n!src/main.rs\n")
    by_path = members(BuildContext(parts=[HostTree(prefix="", source=tree, ignore_file=True)]))
    assert by_path["src"].isdir()
    assert "src/main.rs" in by_path


def test_output_directory_and_our_temporaries_stay_out(tree: Path) -> None:
    (tree / "target").mkdir()
    (tree / "target/big.img").write_text("x")
    (tree / "src/.orchestrator-a.img-x.partial").write_text("x")
    (tree / "src/mine.partial").write_text("x")
    by_path = members(BuildContext(parts=[HostTree(prefix="", source=tree, exclude=(tree / "target",))]))
    assert not [name for name in by_path if "target" in name or "orchestrator" in name]
    assert "src/mine.partial" in by_path


def test_sockets_and_pipes_are_skipped_once_and_said(tree: Path) -> None:
    events: list[Event] = []
    os.mkfifo(tree / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.relpath(tree / "sock"))
    context = BuildContext(parts=[HostTree(prefix="", source=tree)], emit=events.append)
    assert not {"pipe", "sock"} & set(members(context))
    context.digest()
    listener.close()
    assert len([event for event in events if isinstance(event, Notice)]) == 2


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite"])
def test_file_that_changes_while_read_is_an_error(tmp_path: Path, change: str) -> None:
    root = tmp_path / "t"
    root.mkdir()
    big = root / "big"
    big.write_bytes(b"x" * 3_000_000)
    stream = BuildContext(parts=[HostTree(prefix="", source=root)]).stream()
    next(stream)  # the header
    next(stream)
    if change == "grow":
        with big.open("ab") as sink:
            sink.write(b"more")
    elif change == "shrink":
        os.truncate(big, 1000)
    else:
        with big.open("r+b") as sink:
            sink.write(b"y")
    with pytest.raises(UsageError, match="changed while it was read") as caught:
        list(stream)
    assert str(big) in caught.value.message


def test_file_that_became_a_pipe_does_not_hang(tmp_path: Path) -> None:
    root = tmp_path / "t"
    root.mkdir()
    (root / "a").write_text("first")
    (root / "b").write_text("second")
    stream = BuildContext(parts=[HostTree(prefix="", source=root)]).stream()
    next(stream)
    (root / "b").unlink()
    os.mkfifo(root / "b")
    with pytest.raises(UsageError, match="changed"):
        list(stream)


@pytest.mark.parametrize("missing", ["file", "tree"])
def test_what_is_not_there_is_named(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "none"
    part = HostFile(path="x", source=path) if missing == "file" else HostTree(prefix="x", source=path)
    with pytest.raises(UsageError, match=str(path)):
        list(BuildContext(parts=[part]).stream())


def test_unreadable_file_is_named() -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        (root / "secret").write_text("x")
        (root / "secret").chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may read everything
            with pytest.raises(UsageError, match="secret cannot be read"):
                list(BuildContext(parts=[HostTree(prefix="", source=root)]).stream())
        finally:
            os.seteuid(user)


def test_large_files_are_streamed(tmp_path: Path) -> None:
    root = tmp_path / "t"
    root.mkdir()
    with (root / "big").open("wb") as sink:
        sink.truncate(200_000_000)
    context = BuildContext(parts=[HostTree(prefix="", source=root)])
    tracemalloc.start()
    total = sum(len(chunk) for chunk in context.stream())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total >= 200_000_000
    assert peak < 4_000_000


def test_write_to_gives_the_same_tree(tree: Path, tmp_path: Path) -> None:
    context = BuildContext(parts=[HostTree(prefix="src", source=tree), Content(path="Containerfile", data=b"FROM x")])
    out = tmp_path / "rendered"
    (out / "src").mkdir(parents=True)
    (out / "src/link").write_text("older")
    context.write_to(out)
    context.write_to(out)
    assert BuildContext(parts=[HostTree(prefix="", source=out)]).digest() == context.digest()
    assert (out / "src/link").is_symlink()


def test_write_to_follows_no_links_out(tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    victim.write_text("precious")
    (out / "Containerfile").symlink_to(victim)
    BuildContext(parts=[Content(path="Containerfile", data=b"FROM x")]).write_to(out)
    assert victim.read_text() == "precious"
    assert (out / "Containerfile").read_bytes() == b"FROM x"


def test_digest_is_stable_across_releases() -> None:
    context = BuildContext(parts=[Content(path="a/b", data=b"x", executable=True)])
    expected = hashlib.sha256(b"a\0d\0" + b"a/b\0x " + hashlib.sha256(b"x").hexdigest().encode() + b"\0")
    assert context.digest() == expected.hexdigest()


def test_links_out_of_the_sources_come_in_a_tar_of_their_own(tree: Path) -> None:
    (tree / "src/up").symlink_to("../../..")
    (tree / "inside").symlink_to("src/../..")  # of the sources, but not of the context
    context = BuildContext(parts=[HostTree(prefix="src", source=tree, sources=True)])
    assert "src/src/up" not in members(context)
    assert {"src/inside", "src/link", "src/out"} <= members(context).keys()
    with tarfile.open(fileobj=io.BytesIO(content(context, "links.tar"))) as links:
        assert [(member.name, member.linkname) for member in links] == [("src/up", "../../..")]
    before = context.digest()
    (tree / "src/up").unlink()
    (tree / "src/up").symlink_to("../../../x")
    assert BuildContext(parts=context.parts).digest() != before


def test_sources_are_listed_once_and_the_digest_is_of_what_was_sent(tree: Path) -> None:
    listed = list_tree(HostTree(prefix="src", source=tree, sources=True))
    context = BuildContext(parts=[listed])
    (tree / "later").write_text("after the listing")
    (tree / "src/main.rs").write_text("changed before it is sent")
    sent = b"".join(context.stream())
    assert b"later" not in sent
    assert b"changed before it is sent" in sent
    digest = context.digest()
    assert digest == BuildContext(parts=[listed]).digest()
    (tree / "src/main.rs").write_text("changed after it was sent")
    assert context.digest() == digest != BuildContext(parts=[listed]).digest()
