"""Nothing is written through a link: each way that the program writes, with a link laid in its way."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pytest

from orchestrator import files, process
from orchestrator.build.finish import only_build_of
from orchestrator.clean import clean_directory
from orchestrator.containerfile.context import BuildContext, Content
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.events import ignore
from orchestrator.inputs.store import Store
from orchestrator.nanos.packers.ops import extract_image
from orchestrator.run.node.files import prepare
from orchestrator.run.node.task import Task
from orchestrator.run.sandbox.gpus import swap_driver_libraries
from orchestrator.scaffold.write import init_project


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the user's, outside of what is written to."""
    path = tmp_path / "victim"
    path.write_text("mine")
    return path


@pytest.fixture
def where(tmp_path: Path) -> Path:
    path = tmp_path / "where"
    path.mkdir()
    return path


WAYS: dict[str, Callable[[Path], object]] = {
    "write_text": lambda path: files.write_text(path, "x"),
    "write_bytes": lambda path: files.write_bytes(path, b"x"),
    "write_new": lambda path: files.write_new(path, b"x"),
    "new": lambda path: files.create(path).close(),
    "fill": lambda path: files.fill(path, b"x"),
    "emptied": lambda path: files.open_emptied(path).close(),
    "appended": lambda path: files.open_for_append(path).close(),
    "copy": lambda path: files.copy(Path(__file__), path),
    "lock": lambda path: files.FileLock(path).acquire(),
    "tree": lambda path: files.GuardedTree(path.parent).create_file(PurePosixPath(path.name)),
    "log": lambda path: process.stop(process.start(["true"], log=path)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("there", [True, False], ids=["to-a-file", "to-nothing"])
def test_a_link_is_replaced_or_refused(victim: Path, where: Path, way: str, there: bool) -> None:
    target = victim if there else victim.with_name("nothing")
    (where / "out").symlink_to(target)
    try:
        WAYS[way](where / "out")
    except OSError:
        assert (where / "out").is_symlink()
    assert victim.read_text() == "mine"
    assert not victim.with_name("nothing").exists()


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("write_text", "write_bytes")])
def test_a_pipe_is_not_waited_for(where: Path, way: str) -> None:
    os.mkfifo(where / "out")
    with pytest.raises(OSError):
        WAYS[way](where / "out")


def test_an_output_directory(victim: Path, where: Path) -> None:
    (where / ".orchestrator-p.lock").symlink_to(victim)
    with pytest.raises(OSError), only_build_of(where, "p", ignore):
        pass
    (where / ".orchestrator-p.lock").unlink()
    with only_build_of(where, "p", ignore):
        assert not files.FileLock(where / ".orchestrator-p.lock").acquire(timeout=0)
    assert victim.read_text() == "mine"


def test_a_directory_of_a_results_name_is_found_before_the_build(where: Path) -> None:
    (where / "p.img").mkdir()
    with pytest.raises(UsageError, match=r"p\.img is a directory"), only_build_of(where, "p", ignore):
        pass


def test_clean_takes_only_what_nobody_holds(where: Path) -> None:
    for name in (".orchestrator-q.lock", ".orchestrator-q.img-1.partial", "q.img.rejected", "p.img.rejected"):
        (where / name).touch()
    with only_build_of(where, "p", ignore), files.replacing(where / "p.img") as partial:
        cleaned = clean_directory(where, dry_run=False)
        assert {path.name for path in cleaned.removed} == {
            ".orchestrator-q.lock", ".orchestrator-q.img-1.partial", "q.img.rejected",
        }  # fmt: skip
        assert {path.name for path in cleaned.kept} == {".orchestrator-p.lock", partial.name, "p.img.rejected"}
        assert {path.name for path in where.iterdir()} == {path.name for path in cleaned.kept}


def test_a_killed_writers_file_goes_with_the_next(where: Path) -> None:
    (where / ".orchestrator-out-1.partial").touch()
    with files.replacing(where / "out"):
        files.write_text(where / "out", "beside")
    assert {path.name for path in where.iterdir()} == {"out"}


def test_a_rendered_context(victim: Path, where: Path) -> None:
    """A link for a file is replaced; one for a directory of ours is refused, with what is below it untouched."""
    outside = victim.with_name("outside")
    outside.mkdir()
    (where / "file").symlink_to(victim)
    context = BuildContext(parts=[Content(path="file", data=b"new"), Content(path="dir/file", data=b"new")])
    context.write_to(where)
    assert ((where / "file").read_text(), (where / "file").is_symlink(), victim.read_text()) == ("new", False, "mine")
    (where / "dir/file").unlink()
    (where / "dir").rmdir()
    (where / "dir").symlink_to(outside)
    context.write_to(where)
    assert ((where / "dir").is_symlink(), list(outside.iterdir())) == (False, [])


def test_a_workspace_that_a_program_has_written_to(victim: Path, where: Path, tmp_path: Path) -> None:
    source = tmp_path / "given"
    source.write_text("input")
    for name in ("task.json", "given"):
        (where / name).symlink_to(victim)
    prepare(where, Task(id="1", args=("a",), files=()), (source,), local=True)
    assert victim.read_text() == "mine"
    assert (where / "given").read_text() == "input"
    assert '"a"' in (where / "task.json").read_text()


def test_driver_libraries_of_this_machine(where: Path, tmp_path: Path) -> None:
    outside, library = tmp_path / "outside", tmp_path / "libcuda.so.1"
    outside.mkdir()
    library.write_text("driver")
    (where / "lib").symlink_to(outside)
    # As in the guest, the link leads on within the tree.
    assert swap_driver_libraries(where, [library]) == ("libcuda.so.1",)
    assert list(outside.iterdir()) == []
    assert (where / str(outside).lstrip("/") / "x86_64-linux-gnu/libcuda.so.1").read_text() == "driver"
    (where / "lib").unlink()
    assert swap_driver_libraries(where, [library]) == ("libcuda.so.1",)
    assert (where / "lib/x86_64-linux-gnu/libcuda.so.1").read_text() == "driver"


def test_a_new_project(where: Path, victim: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (where / "src").symlink_to(outside)
    (where / "Cargo.toml").symlink_to(tmp_path / "nothing")
    with pytest.raises(OSError):
        init_project(where, language="rust", gpu=False)
    assert (list(outside.iterdir()), (tmp_path / "nothing").exists()) == ([], False)


def test_an_image_out_of_a_container(victim: Path, where: Path) -> None:
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("p")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))

    class Image:
        @contextmanager
        def open_archive(self, _path: str) -> Iterator[BinaryIO]:
            yield io.BytesIO(out.getvalue())

        def open_file(self, _path: str) -> BinaryIO | None:
            return None

        def sorted_entries(self, _path: str) -> None:
            return None

    (where / "p").symlink_to(victim)
    with pytest.raises(OSError):
        extract_image("p", Image(), where / "p", lambda _done, _total: None)
    assert victim.read_text() == "mine"


def test_a_tree_and_links_on_the_way(where: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with files.GuardedTree(where) as tree:
        tree.make_symlink(PurePosixPath("out"), str(outside))
        for name in ("out/x", "out/y/x"):
            with pytest.raises(OSError):
                tree.create_file(PurePosixPath(name))
            with pytest.raises(OSError):
                tree.make_symlink(PurePosixPath(name), "x")
        with pytest.raises(OSError):
            tree.make_directory(PurePosixPath("out/y"))
        with pytest.raises(OSError):
            tree.make_directory(PurePosixPath("../y"))
        with tree.create_file(PurePosixPath("a/b/c"), 0o755) as sink:
            sink.write(b"x")
        tree.make_hard_link(PurePosixPath("a/d"), PurePosixPath("a/b/c"))
        with pytest.raises(OSError):
            tree.make_hard_link(PurePosixPath("a/e"), PurePosixPath("out/x"))
        assert [tree.kind_of(PurePosixPath(name)) for name in ("out", "a", "a/d", "none")] == [
            "link", "directory", "file", "",
        ]  # fmt: skip
    assert list(outside.iterdir()) == []
    assert (where / "a/d").samefile(where / "a/b/c")


def test_a_lock_between_threads_and_after_its_file_is_gone(where: Path) -> None:
    held, order = files.FileLock(where / "lock"), []
    assert held.acquire()
    other = files.FileLock(where / "lock")
    assert not other.acquire(timeout=0.1)

    def wait() -> None:
        other.acquire()
        order.append("other")
        other.release()

    thread = threading.Thread(target=wait)
    thread.start()
    # `clean` removes the file; who waits on the old one must not hold it beside who makes a new one.
    (where / "lock").unlink()
    third = files.FileLock(where / "lock")
    assert third.acquire()
    held.release()
    thread.join(0.3)
    assert order == []
    third.release()
    thread.join(5)
    assert order == ["other"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_nothing_is_writable_for_everyone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = Store(tmp_path / "cache")

        def fill(path: Path) -> dict[str, str]:
            files.write_new(path, b"x")
            return {}

        store.keep("url-x", fill)
        with files.GuardedTree(tmp_path / "tree") as tree, tree.create_file(PurePosixPath("a/b")):
            pass
        files.write_text(tmp_path / "text", "x")
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert not path.stat().st_mode & stat.S_IWOTH, path


def test_a_link_in_the_way_is_said_in_a_line(where: Path, victim: Path) -> None:
    from orchestrator.cli.console import as_user_error

    (where / "lock").symlink_to(victim)
    with pytest.raises(OSError) as caught:
        files.FileLock(where / "lock").acquire()
    said = as_user_error(caught.value)
    assert isinstance(said, OrchestratorError)
    assert str(where / "lock") in said.message
