"""Files, Dirs, MapDirs and klibs, by ops's rules, inside the build container."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.staging.conftest import Staged, Workshop, Write


@pytest.fixture(autouse=True)
def program(workshop: Workshop) -> None:
    workshop.compile("prog", "int main(void) { return 0; }", "-static")


def failed(staged: Staged, said: str) -> bool:
    return staged.status == 1 and staged.stderr.splitlines()[-1] != "" and said in staged.stderr


def test_files_are_read_below_the_work_directory_absolute_ones_too(workshop: Workshop, write: Write) -> None:
    write("params/a b.srs", "one")
    write("etc/passwd", "two")
    (workshop.build / "link").symlink_to("params/a b.srs")
    staged = workshop.stage("--file", "params/a b.srs", "--file", "/etc/passwd", "--file", "./link")
    assert staged.status == 0, staged.stderr
    assert staged.paths() == {"/prog", "/params/a b.srs", "/etc/passwd", "/link"}
    assert (staged.root / "etc/passwd").read_text() == "two"
    assert not (staged.root / "link").is_symlink()
    assert "staged: /params/a b.srs <- " in staged.stdout


def test_an_absolute_file_falls_back_to_the_containers_own(workshop: Workshop) -> None:
    staged = workshop.stage("--file", "/etc/passwd")
    assert (staged.root / "etc/passwd").read_bytes() == Path("/etc/passwd").read_bytes()


def test_a_staged_library_satisfies_a_file_entry(workshop: Workshop) -> None:
    """The guide's GPU manifest names libraries in Files."""
    workshop.compile("prog", "int main(void) { return 0; }")
    staged = workshop.stage("--file", "lib/x86_64-linux-gnu/libc.so.6", "--dir", "lib")
    assert staged.status == 0, staged.stderr
    assert "warning" not in staged.stderr


def test_directories_keep_links_and_empty_directories(workshop: Workshop, write: Write) -> None:
    write("data/in side/x", "x")
    (workshop.build / "data/empty").mkdir()
    (workshop.build / "data/good").symlink_to("in side/x")
    (workshop.build / "data/bad").symlink_to("nowhere")
    staged = workshop.stage("--dir", "data/")
    assert staged.status == 0, staged.stderr
    assert (staged.root / "data/empty").is_dir()
    assert (staged.root / "data/good").readlink() == Path("in side/x")
    assert staged.paths() == {"/prog", "/data/in side/x", "/data/good"}
    assert f"warning: {workshop.build}/data/bad is left out" in staged.stderr


def test_a_directory_merges_with_what_was_staged_and_wins(workshop: Workshop, write: Write) -> None:
    workshop.compile("prog", "int main(void) { return 0; }")
    write("lib/x86_64-linux-gnu/libc.so.6", "mine")
    write("lib/other", "other")
    staged = workshop.stage("--dir", "lib")
    assert staged.status == 0
    assert (staged.root / "lib/x86_64-linux-gnu/libc.so.6").read_text() == "mine"
    assert (staged.root / "lib/other").is_file()
    assert "warning: /lib/x86_64-linux-gnu/libc.so.6 from" in staged.stderr


def test_nothing_is_written_through_a_link(workshop: Workshop, write: Write, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    write("more/here/x", "x")
    (workshop.build / "data").mkdir()
    (workshop.build / "data/here").symlink_to(outside)
    staged = workshop.stage("--dir", "data", "--map", "more/*=data")
    assert failed(staged, "/data/here is a file or a link in the image already")
    assert list(outside.iterdir()) == []


def test_maps_match_every_descendants_name(workshop: Workshop, write: Write) -> None:
    write("data/a.txt", "a")
    write("data/sub/b.txt", "b")
    write("data/sub/c.bin", "c")
    (workshop.build / "data/l.txt").symlink_to("sub/b.txt")
    staged = workshop.stage("--map", "data/*.txt=/in", "--map", "data/*=all")
    assert staged.status == 0, staged.stderr
    assert staged.paths() == {
        "/prog", "/in/a.txt", "/in/sub/b.txt", "/in/l.txt",
        "/all/a.txt", "/all/sub/b.txt", "/all/sub/c.bin", "/all/l.txt",
    }  # fmt: skip
    assert not (staged.root / "in/l.txt").is_symlink()


def test_klibs_are_copied_aside(workshop: Workshop, write: Write) -> None:
    write("assets/gpu_nvidia", "klib")
    staged = workshop.stage("--klib", "gpu_nvidia", "--klib-dir", "assets")
    assert staged.status == 0, staged.stderr
    assert (staged.klibs / "gpu_nvidia").read_text() == "klib"
    assert staged.paths() == {"/prog"}
    assert "staged: klib gpu_nvidia <- assets/gpu_nvidia (4 bytes)" in staged.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--file", "gone"), "Files: gone is not there"),
        (("--file", "/gone"), "and /gone"),
        (("--file", "../up"), "'..' has no meaning"),
        (("--file", "data"), "put it in stage.files, which takes directories"),
        (("--dir", "data/x"), "Dirs: data/x is a file"),
        (("--dir", "gone"), "Dirs: gone is not there"),
        (("--dir", "."), "would copy everything"),
        (("--dir", "prog2", "--file", "prog2/.."), "'..' has no meaning"),
        (("--map", "gone/*=x"), "is not there"),
        (("--map", "dangling/*=x"), "a link whose target does not exist"),
        (("--klib", "gpu_nvidia"), "Klibs: gpu_nvidia is not in"),
        (("--klib", "a/b"), "is a path"),
        (("--file", "prog/inside"), "prog/inside is not there"),
        (("--map", "data/*=prog"), "/prog is a file or a link"),
        (("--dir", "conflict", "--map", "data/*=conflict"), "is a directory in the image already"),
        (("--dir", "broken"), "holds a line break"),
        (("--extra", "a\nb"), "may not hold a line break"),
        (("--what", "x"), "unknown option --what"),
    ],
)
def test_refusals(workshop: Workshop, write: Write, arguments: tuple[str, ...], said: str) -> None:
    write("data/x", "x")
    write("prog2/x", "x")
    write("conflict/x/y", "y")
    write("broken/a\nb", "x")
    (workshop.build / "dangling").mkdir()
    (workshop.build / "dangling/l").symlink_to("nowhere")
    staged = workshop.stage(*arguments)
    assert failed(staged, said), staged.stderr


def test_a_tree_that_is_not_empty_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage/left").write_text("x")
    assert failed(workshop.stage(), "is not empty")


def test_a_link_that_only_the_guest_can_follow_is_kept(workshop: Workshop, write: Write) -> None:
    """Absolute guest paths mean nothing in the build container; a mount is there when the guest runs."""
    write("data/v1/key", "k")
    links = {
        "current": "/data/v1", "key": "current/key", "out": "/workspace/out", "up": "../../../data/v1/key",
        "gone": "/data/v2", "in file": "v1/key/x", "in mount's name": "/workspaces/x", "one": "two", "two": "one",
        "tab\there": "/data/v3",
    }  # fmt: skip
    for name, target in links.items():
        (workshop.build / "data" / name).symlink_to(target)
    staged = workshop.stage("--dir", "data", "--runtime-dir", "workspace")
    assert staged.status == 0, staged.stderr
    kept = {"current", "key", "out", "up"}
    assert staged.paths() == {"/prog", "/data/v1/key", *(f"/data/{name}" for name in kept)}
    assert {name: str((staged.root / "data" / name).readlink()) for name in kept} == {n: links[n] for n in kept}
    assert sorted(staged.warnings) == sorted(
        f"{workshop.build}/data/{name} is left out: its target does not exist: {target}"
        for name, target in links.items()
        if name not in kept
    )


def test_warnings_are_kept_one_a_line(workshop: Workshop, write: Write) -> None:
    write("data/x", "x")
    (workshop.build / "data/bad").symlink_to("nowhere")
    staged = workshop.stage("--dir", "data")
    assert [f"warning: {line}" for line in staged.warnings] == staged.stderr.splitlines() != []
    (workshop.build / "data/bad").unlink()
    (workshop.build.parent / "stage").rename(workshop.build.parent / "earlier")
    assert workshop.stage("--dir", "data").warnings == ()
