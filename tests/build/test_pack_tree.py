"""`pack`: a tree that was staged by hand becomes an image with a receipt, without an engine."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import BuildStepError, InputError
from orchestrator.staged import CHUNK, LARGE, LIMITS, file_entry, read_entries
from tests.cli.conftest import cli
from tests.support.engines import need

BIG = os.urandom(1024) * (LARGE // 1024 + 1)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A static program, a link to it, a large file, an empty directory; in a directory to work in."""
    monkeypatch.chdir(tmp_path)
    top = tmp_path / "tree"
    (top / "app/data").mkdir(parents=True)
    (top / "app/empty").mkdir()
    shutil.copy(need("busybox"), top / "app/prove")
    (top / "app/link").symlink_to("prove")
    (top / "app/data/key").write_bytes(BIG)
    yield top


def pack(tree: Path | str, out: str, *more: str) -> bytes:
    done = cli("pack", str(tree), "-o", out, "--name", "hand", "--program", "app/prove", "--nanos", "stub", *more)
    assert done.code == 0, done.err
    assert done.text == f"{out}/hand.img\n"
    return Path(out, "hand.img").read_bytes()


def tar_of(tree: Path, name: str) -> Path:
    with tarfile.open(name, "w:gz" if name.endswith(".gz") else "w") as archive:
        archive.add(tree, arcname=".")
    return Path(name)


def test_a_directory_and_a_tar_give_the_same_image(tree: Path) -> None:
    image = pack(tree, "one")
    assert pack(tar_of(tree, "tree.tar"), "two") == image
    assert pack(tar_of(tree, "tree.tar.gz"), "three") == image
    assert cli("verify", "one/hand.img").code == 0
    listed = cli("inspect", "one/hand.img", "tree").text
    assert "link -> prove" in listed
    assert "empty" in listed
    receipt = json.loads(Path("one/hand.receipt.json").read_text())
    assert receipt["engine"] == {"kind": "none", "version": "", "builder": "none", "private": False}
    assert [row["name"] for row in receipt["inputs"]] == ["nanos"]
    receipts = [json.loads(Path(f"{out}/hand.receipt.json").read_text()) for out in ("one", "two")]
    assert receipts[0]["context_sha256"] == receipts[1]["context_sha256"]


def test_an_exported_container_is_the_tree_that_its_stage_left(tree: Path) -> None:
    """As `render -o` is built by hand: /stage with a placeholder for the large file, which lies elsewhere."""
    image = pack(tree, "one")
    container = Path("container")
    shutil.copytree(tree, container / "stage", symlinks=True)
    (container / "stage/app/data/key").write_bytes(b"")
    (container / "klibs").mkdir()
    (container / "sbom").mkdir()
    (container / "sbom/large").write_text(f"app/data/key\t/build/key\t{len(BIG)}\n")
    (container / "sbom/warnings").write_text("a word of the staging step\n")
    (container / "build").mkdir()
    (container / "build/key").write_bytes(BIG)
    assert pack(tar_of(container, "container.tar"), "two") == image
    receipt = json.loads(Path("two/hand.receipt.json").read_text())
    assert {"source": "staging", "text": "a word of the staging step"} in receipt["warnings"]


def test_a_project_says_the_rest(tree: Path) -> None:
    Path("project.yaml").write_text(
        "name: hand\nbuild: {run: make, program: prove}\nnanos: {kernel: stub}\npacker: native\n"
        "manifest: {Program: app/prove, Args: [--now]}\n"
    )
    done = cli("pack", "tree", "--project", "project.yaml", "-o", "out")
    assert done.code == 0, done.err
    assert json.loads(cli("inspect", "out/hand.img", "manifest").text)["arguments"] == ["app/prove", "--now"]
    Path("args.json").write_text('{"Args": ["--now"]}')
    assert pack("tree", "two", "--manifest", "args.json") == Path("out/hand.img").read_bytes()


def test_hard_links_of_a_tar_are_files(tree: Path) -> None:
    """Also those that sort before what they repeat, and those that repeat a link."""
    with tarfile.open("links.tar", "w") as archive:
        archive.add(tree / "app/prove", arcname="app/prove")
        for name, target in (("app/again", "app/prove"), ("app/third", "app/again")):
            again = tarfile.TarInfo(name)
            again.type, again.linkname = tarfile.LNKTYPE, target
            archive.addfile(again)
    pack("links.tar", "out")
    for name in ("again", "third"):
        assert cli("inspect", "out/hand.img", "cat", f"/app/{name}").out == Path(need("busybox")).read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tree"], "which of its files is the program?\n  give --program PATH"),
        (["tree", "--program", "prove"], "/prove is not in tree\n  did you mean --program app/prove?"),
        (["tree", "--program", "app"], "/app is a directory in tree"),
        (["tree", "--program", "../x"], "--program: `../x` is not allowed here"),
        (["tree", "--program", "x", "--nanos", "a b"], "--nanos: `a b` is not allowed here\n  it must be a version"),
        (["tree", "--program", "x", "--name", "a/b"], "--name: `a/b` is not allowed here\n  it must be letters"),
        (["gone", "--program", "x"], "there is no file or directory gone"),
        (["nothing", "--program", "x"], "nothing is empty"),
        (["text", "--program", "x"], "text is not a whole tar"),
        (["pipes", "--program", "x"], "pipes/pipe is a device, socket or pipe"),
        (["tree", "--program", "x", "--project", "."], "--project names program, manifest and kernel itself"),
    ],
)
def test_what_is_no_tree_is_said(words: list[str], said: str, tree: Path) -> None:
    Path("nothing").mkdir()
    Path("pipes").mkdir()
    os.mkfifo("pipes/pipe")
    Path("text").write_text("no tar " * 200)
    kernel = [] if "--nanos" in words or "--project" in words else ["--nanos", "stub"]
    done = cli("pack", *words, *kernel, "-o", "out")
    assert (done.code, done.out) == (2, b"")
    assert said in done.err
    assert not list(Path("out").glob("*.img")) if Path("out").exists() else True


def test_a_tree_of_too_many_files_is_refused_with_that_reason(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a million: nothing is broken then, neither the tar nor the engine that sends one."""
    for module in ("orchestrator.staged", "orchestrator.build.staged_tree"):
        monkeypatch.setattr(f"{module}.LIMITS", replace(LIMITS, members=4))
    for form in (tree, tar_of(tree, "tree.tar")):
        done = cli("pack", form, "--program", "app/prove", "--nanos", "stub", "-o", "out")
        assert done.code == 2
        assert "has more than 4 files, directories and links\n  leave out what" in done.err
    with Path("tree.tar").open("rb") as stream, pytest.raises(BuildStepError, match="it has more than 4 members"):
        list(read_entries(stream, "stage"))


@pytest.mark.parametrize("size", [0, 1, 5000, CHUNK - 1, CHUNK, CHUNK + 1])
def test_a_file_that_changes_while_it_is_packed_is_an_error(size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    entry = file_entry("file", str(path), size)
    assert entry.content() == path.read_bytes()
    for changed in {size + 1, max(size - 1, 0)} - {size}:
        os.truncate(path, changed)
        with pytest.raises(InputError, match="changed during the build"):
            entry.content()
    path.unlink()
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        entry.content()


def test_a_directory_that_cannot_be_read_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it would be missing in the image."""

    def scandir(path: Path) -> object:
        if Path(path).name == "data":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    real = os.scandir
    monkeypatch.setattr("os.scandir", scandir)
    done = cli("pack", tree, "--program", "app/prove", "--nanos", "stub", "-o", "out")
    assert (done.code, done.out) == (2, b"")
    assert "app/data: Permission denied" in done.err


def test_a_tree_that_lacks_a_library_is_refused_by_verification(tree: Path) -> None:
    shutil.copy("/usr/bin/env", tree / "app/prove")
    done = cli("pack", "tree", "--program", "app/prove", "--nanos", "stub", "-o", "out", "--name", "hand")
    assert done.code == 6
    assert "loader /lib64/ld-linux-x86-64.so.2 is not in the image" in done.err
    assert not Path("out/hand.img").exists()
