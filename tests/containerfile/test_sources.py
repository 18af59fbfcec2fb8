"""A tree that people work in: the order of its times, what is ours, what is a cache."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.containerfile.context import MTIME, ORDER, BuildContext, Content, HostTree
from orchestrator.containerfile.ours import OUTPUTS
from orchestrator.events import Event, Notice
from orchestrator.inputs.store import Store
from orchestrator.inputs.transfer import export_entries
from orchestrator.lock.project_lock import ProjectLock, lock_text
from orchestrator.provenance.attach import SUFFIXES

SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n"
OBJECT = b"\x7fELF\0\0"


def context(root: Path, told: list[Event] | None = None) -> BuildContext:
    tree = HostTree(prefix="src", source=root, ignore_file=True, sources=True)
    return BuildContext(parts=[tree], emit=(told if told is not None else []).append)


def times(root: Path) -> dict[str, int]:
    """The files of the sources by name, with the seconds by which each is newer than the oldest can be."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(context(root).stream()))) as tar:
        assert all(member.mtime == MTIME for member in tar if not member.isfile())
        seconds = {m.name[4:]: int(m.mtime) - MTIME for m in tar if m.isfile() and m.name.startswith("src/")}
    return {name: age for name, age in seconds.items() if not name.startswith(".git")}


def order(root: Path) -> bytes:
    """What the engine's cache knows of the times."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(context(root).stream()))) as tar:
        stream = tar.extractfile(ORDER)
        assert stream is not None
        return stream.read()


def write(root: Path, **files: bytes) -> Path:
    """Files of these contents, each 1 ns newer than the one before."""
    root.mkdir(parents=True, exist_ok=True)
    for age, (name, data) in enumerate(files.items()):
        (root / name).write_bytes(data)
        os.utime(root / name, ns=(0, 1_700_000_000_000_000_000 + age))
    return root


def git(root: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    subprocess.run(["git", *settings, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = write(tmp_path / "repository", parser_c=b"made of parser_y", parser_y=b"rules", data=b"\0")
    (root / "deep").mkdir()
    (root / "deep/er").write_bytes(b"below")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")
    return root


def test_order_is_kept_to_the_nanosecond_and_nothing_else_of_the_times(tmp_path: Path) -> None:
    root = write(tmp_path / "t", new=b"3", old=b"1", middle=b"2", same=b"2")
    for name, age in (("old", 1), ("middle", 2), ("same", 2), ("new", 3)):
        os.utime(root / name, ns=(0, 1_700_000_000_000_000_000 + age))
    assert times(root) == {"old": 0, "middle": 1, "same": 1, "new": 2}
    first = b"".join(context(root).stream())
    for name, year in (("old", 5), ("middle", 6_000), ("same", 6_000), ("new", 4_000_000_000)):
        os.utime(root / name, (0, year))
    assert b"".join(context(root).stream()) == first


def test_only_a_products_place_in_the_order_makes_another_key(tmp_path: Path) -> None:
    root = write(tmp_path / "t", main_c=b"int main", util_c=b"int util", program=OBJECT)
    newest = order(root)
    write(root, util_c=b"int util", main_c=b"int main", program=OBJECT)
    assert order(root) == newest
    write(root, main_c=b"int main", program=OBJECT, util_c=b"int util")
    assert order(root) != newest
    (root / "program").unlink()
    assert order(root) == b"all of one age\n"


def test_digest_is_of_contents(tmp_path: Path) -> None:
    root = write(tmp_path / "t", program=OBJECT, main_c=b"int main")
    before = context(root).digest()
    write(root, main_c=b"int main", program=OBJECT)
    assert context(root).digest() == before


@pytest.mark.parametrize("version", ["2", "4"])
def test_what_git_has_is_of_one_age_in_every_checkout(repository: Path, tmp_path: Path, version: str) -> None:
    git(repository, "update-index", "--index-version", version)
    assert set(times(repository).values()) == {0}
    assert order(repository) == b"all of one age\n"
    clone, tree, copy = tmp_path / "clone", tmp_path / "tree", tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    git(repository, "worktree", "add", "-q", str(tree))
    shutil.copytree(repository, copy, copy_function=shutil.copyfile)
    for checkout in (clone, tree, copy):
        assert times(checkout) == dict.fromkeys(("parser_c", "parser_y", "data", "deep/er"), 0)
        assert order(checkout) == b"all of one age\n"


def test_an_edited_or_untracked_file_has_its_place_among_those_of_git(repository: Path) -> None:
    (repository / "product").write_bytes(OBJECT)
    assert times(repository) == {"parser_c": 0, "parser_y": 0, "data": 0, "deep/er": 0, "product": 1}
    key = order(repository)
    os.utime(repository / "parser_y", (0, 4_000_000_000))  # touched only: git has its content
    assert times(repository) == {"parser_c": 0, "data": 0, "deep/er": 0, "product": 1, "parser_y": 2}
    assert order(repository) != key
    (repository / "product").unlink()
    (repository / "data").write_bytes(b"1")  # of the same size, at the same time for all that git sees
    os.utime(repository / "data", ns=(0, 1_700_000_000_000_000_002))
    (repository / "parser_y").write_bytes(b"other")
    assert times(repository)["parser_y"] > times(repository)["parser_c"]


def test_an_index_that_is_none_counts_as_no_git(tmp_path: Path) -> None:
    root = write(tmp_path / "t", b=b"1", a=b"2")
    for broken in (b"", b"DIRC\0\0\0\2\0\0\0\5", b"DIRC\0\0\0\7\0\0\0\0", b"x" * 100):
        (root / ".git").mkdir(exist_ok=True)
        (root / ".git/index").write_bytes(broken)
        seconds = times(root)
        assert seconds["a"] == seconds["b"] + 1


def test_written_context_has_the_same_times(tmp_path: Path) -> None:
    root = write(tmp_path / "t", source=b"1", product=OBJECT)
    out = tmp_path / "out"
    context(root).write_to(out)
    assert (out / "src/source").stat().st_mtime_ns == MTIME * 10**9
    assert (out / "src/product").stat().st_mtime_ns == (MTIME + 1) * 10**9
    assert (out / "src").stat().st_mtime_ns == MTIME * 10**9
    assert (out / ORDER).is_file()


def write_receipt(folder: Path) -> None:
    document = {"schema": 1, "orchestrator": "1", "name": "hello", "image": {}, "context_sha256": "0"}
    (folder / "hello.receipt.json").write_text(json.dumps(document))


def lock(folder: Path) -> None:
    (folder / "project.ops.yaml").write_text("name: x")
    (folder / "project.ops.lock").write_text(lock_text(ProjectLock(entries={})))


def built(folder: Path, marker: Callable[[Path], None]) -> None:
    folder.mkdir(parents=True)
    for end in OUTPUTS:
        if end != ".receipt.json":
            (folder / f"hello{end}").write_bytes(b"x")
    marker(folder)


def test_only_our_own_files_stay_out_wherever_they_lie(tmp_path: Path) -> None:
    root = write(tmp_path / "t", main_c=b"int main", Cargo_lock=b"{}")
    before = context(root).digest()
    lock(root)
    (root / "project.ops.yaml").unlink()
    (root / "project.ops.lock").rename(root / "project.lock")
    (root / "project.yaml").write_text("name: x")
    with_project = context(root).digest()
    assert with_project != before
    built(root / "target", write_receipt)
    built(root / "out/deep", lambda folder: (folder / ".orchestrator-hello.lock").touch())
    (root / "target/.orchestrator-hello.img-x.partial").touch()
    BuildContext(
        parts=[
            Content(path="Containerfile", data=b"# x: rendered by gevulot-orchestrator 1\n"),
            Content(path="scripts/step/orchestrator/build.sh", data=b""),
        ]
    ).write_to(root / "ctx")
    (root / "ctx.ca.crt").touch()
    for name in ("air-gap.tar.zst", "cache.tar"):
        export_entries(Store(tmp_path / "cache"), [], root / name)
    assert context(root).digest() == with_project
    # A user's own, beside ours and under names that look like ours.
    (root / "target/release").mkdir()
    for name in ("target/release/hello", "target/other.img", "Cargo.lock", "data.tar", "data.zst", "my.receipt.json"):
        (root / name).write_text("{}")
    assert set(times(root)) == {
        "main_c", "Cargo_lock", "project.yaml", "target/release/hello", "target/other.img", "Cargo.lock", "data.tar",
        "data.zst", "my.receipt.json",
    }  # fmt: skip
    assert {f".{suffix}" for suffix in SUFFIXES} <= set(OUTPUTS)


def cache(root: Path, ignore: str = "") -> tuple[set[str], list[str]]:
    """What is kept of a tree with two caches, and what is said of it."""
    for folder in ("target/release", "crates/a/target", "crates/a/src"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "x").write_text("x")
    for folder in ("target", "crates/a/target"):
        (root / folder / "CACHEDIR.TAG").write_text(SIGNATURE + "# by cargo\n")
    (root / ".dockerignore").write_text(ignore)
    told: list[Event] = []
    made = context(root, told)
    names = {member.path[4:] for member in made.members() if member.kind == "file"} - {".dockerignore"}
    made.digest()
    return names, [event.text for event in told if isinstance(event, Notice)]


def test_caches_stay_out_and_one_line_says_so(tmp_path: Path) -> None:
    names, told = cache(tmp_path)
    assert names == {"crates/a/src/x"}
    assert len(told) == 1
    assert "crates/a/target/ (CACHEDIR.TAG marks it as a cache), target/ (" in told[0]
    assert "`!PATH` in .dockerignore" in told[0]


@pytest.mark.parametrize(
    ("ignore", "kept", "said"),
    [
        ("!target/release/x", {"crates/a/src/x", "target/release/x"}, 1),
        ("!target/release", {"crates/a/src/x", "target/release/x"}, 1),
        ("!target", {"crates/a/src/x", "target/release/x", "target/CACHEDIR.TAG"}, 1),
        # Naming what a cache lies in isn't naming the cache.
        ("*\n!crates", {"crates/a/src/x"}, 1),
        ("target\n**/target", {"crates/a/src/x"}, 0),
        ("!target/release/x\ntarget", {"crates/a/src/x"}, 1),
    ],
)
def test_an_ignore_file_keeps_what_it_names_in_a_cache(tmp_path: Path, ignore: str, kept: set[str], said: int) -> None:
    names, told = cache(tmp_path, ignore)
    assert names == kept
    assert len(told) == said


@pytest.mark.parametrize("tag", ["", "Signature: 0", "directory", "link"])
def test_a_tag_must_be_valid(tmp_path: Path, tag: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "real/TAG").write_text(SIGNATURE)
    path = tmp_path / "target/CACHEDIR.TAG"
    if tag == "directory":
        path.mkdir()
    elif tag == "link":
        path.symlink_to("../real/TAG")
    else:
        path.write_text(tag)
    (tmp_path / "target/x").touch()
    assert "target/x" in times(tmp_path)


def test_a_context_that_is_a_cache_itself_is_what_the_user_asked_for(tmp_path: Path) -> None:
    (tmp_path / "CACHEDIR.TAG").write_text(SIGNATURE)
    assert set(times(tmp_path)) == {"CACHEDIR.TAG"}


def test_ninjas_log_stays_out_unless_named(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build/.ninja_log").write_text("# ninja log v5\n")
    told: list[Event] = []
    assert [m.path for m in context(tmp_path, told).members()] == ["src", "src/build"]
    assert "build/.ninja_log (it records this host" in str(told)
    (tmp_path / ".dockerignore").write_text("!build/.ninja_log")
    assert "build/.ninja_log" in times(tmp_path)
