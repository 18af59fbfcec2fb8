"""Entries of stage.files: files, directories and globs of the build stage; and what programs load by name."""

from __future__ import annotations

import os
import ssl
import zoneinfo
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.staging.conftest import Staged, Workshop, Write


@pytest.fixture(autouse=True)
def program(workshop: Workshop) -> None:
    workshop.compile("prog", "int main(void) { return 0; }", "-static")


@pytest.fixture
def tables(workshop: Workshop, write: Write) -> Path:
    """A directory with a bit of everything."""
    for name in ("t0.bin", "t1.bin", "note.txt", "[x].bin", "a/t2.bin", "a/b/t3.bin", "a/b/.hidden", "a/t/x.tmp"):
        write(f"tables/{name}", name)
    (workshop.build / "tables/empty").mkdir()
    (workshop.build / "tables/l.bin").symlink_to("a/t2.bin")
    return workshop.build / "tables"


def staged_paths(staged: Staged) -> set[str]:
    assert staged.status == 0, staged.stderr
    assert "warning" not in staged.stderr
    return staged.paths() - {"/prog"}


EVERYTHING = {
    "t0.bin", "t1.bin", "note.txt", "[x].bin", "a/t2.bin", "a/b/t3.bin", "a/b/.hidden", "a/t/x.tmp", "l.bin",
}  # fmt: skip


BINARIES = {"t0.bin", "t1.bin", "[x].bin", "a/t2.bin", "a/b/t3.bin", "l.bin"}
ENTRIES: list[tuple[tuple[str, ...], set[str]]] = [
    (("tables",), EVERYTHING),
    (("./tables//",), EVERYTHING),
    (("tables", "*.bin"), EVERYTHING - BINARIES),
    (("tables", "a"), EVERYTHING - {"a/t2.bin", "a/b/t3.bin", "a/b/.hidden", "a/t/x.tmp"}),
    (("tables", "/a/b"), EVERYTHING - {"a/b/t3.bin", "a/b/.hidden"}),
    (("tables", "a/**/*.tmp", "t[0-9].bin"), {"note.txt", "[x].bin", "a/b/.hidden", "l.bin"}),
    (("tables/t?.bin",), {"t0.bin", "t1.bin"}),
    (("tables/[!t]*.bin",), {"l.bin", "[x].bin"}),
    (("tables/*",), EVERYTHING),
    (("tables/**/*.bin",), BINARIES),
    (("tables/**/t*", "t0*"), {"t1.bin", "a/t2.bin", "a/b/t3.bin", "a/t/x.tmp"}),
    (("tables/a/*",), {"t2.bin", "b/t3.bin", "b/.hidden", "t/x.tmp"}),
]
"""A path with what it excludes, and what of it goes to a directory of its own."""


def test_what_is_named(workshop: Workshop, tables: Path) -> None:
    (tables / "a/t2.bin").write_text("l.bin")  # which is a link to it
    arguments = ["--path", "tables/t0.bin", "--to", "deep/er/zero"]
    for number, ((path, *excludes), _) in enumerate(ENTRIES):
        arguments += ["--path", path, "--to", f"{number}", *(word for name in excludes for word in ("--exclude", name))]
    staged = workshop.stage(*arguments)
    assert staged.status == 0, staged.stderr
    assert (staged.root / "deep/er/zero").read_text() == "t0.bin"
    for number, (entry, names) in enumerate(ENTRIES):
        where = staged.root / f"{number}"
        paths = {str(path.relative_to(where)): path for path in where.rglob("*") if not path.is_dir()}
        # A link into what stays out leads nowhere: `verify` says so.
        assert paths.keys() == names, entry
        assert all(path.read_text() in (name, "l.bin", f"a/{name}") for name, path in paths.items() if path.exists())
        assert (where / "empty").is_dir() == ("note.txt" in names)  # kept where nothing narrower is asked for
    assert (staged.root / "0/l.bin").is_symlink()


def test_paths_stay_without_another_place(workshop: Workshop, tables: Path) -> None:
    assert staged_paths(workshop.stage("--path", "tables")) == {f"/tables/{name}" for name in EVERYTHING}
    (workshop.build.parent / "stage").rename(workshop.build.parent / "earlier")
    staged = workshop.stage("--path", "tables/[x].bin", "--path", "tables/a/**/*.bin", "--path", ".", "--to", "all")
    assert {"/tables/[x].bin", "/tables/a/t2.bin", "/tables/a/b/t3.bin", "/all/tables/note.txt"} <= staged_paths(staged)


def test_absolute_paths_keep_their_place(workshop: Workshop, tables: Path) -> None:
    there = f"{tables}"
    staged = workshop.stage("--path", f"{there}/a", "--path", "/etc/passwd", "--path", f"{there}/*.txt", "--to", "t")
    assert staged_paths(staged) == {
        f"{there}/a/t2.bin", f"{there}/a/b/t3.bin", f"{there}/a/b/.hidden", f"{there}/a/t/x.tmp",
        "/etc/passwd", "/t/note.txt",
    }  # fmt: skip
    assert f"staged: {there}/a/ <- {there}/a (4 files)" in staged.stdout
    assert f"staged: /etc/passwd <- /etc/passwd ({Path('/etc/passwd').stat().st_size} bytes)" in staged.stdout


def test_an_absolute_program_stays_where_it_is(workshop: Workshop) -> None:
    program = workshop.compile("bin/tool", "int main(void) { return 0; }")
    staged = workshop.stage(program=str(program), name=str(program).lstrip("/"))
    assert staged.status == 0, staged.stderr
    assert str(program) in staged.paths()
    assert "/lib/x86_64-linux-gnu/libc.so.6" in staged.paths()


def test_entries_meet_in_one_directory_and_the_later_one_wins(workshop: Workshop, tables: Path, write: Write) -> None:
    write("other/a/t2.bin", "another")
    write("other/a/b/new", "new")
    write("other/note.txt", "note.txt")  # the same: nothing to say
    staged = workshop.stage("--dir", "tables", "--path", "other", "--to", "tables", "--path", "tables/a/b")
    assert staged.status == 0, staged.stderr
    assert staged.paths() == {"/prog", "/tables/a/b/new", *(f"/tables/{name}" for name in EVERYTHING)}
    assert (staged.root / "tables/a/t2.bin").read_text() == "another"
    assert (staged.root / "tables/empty").is_dir()
    assert staged.stderr.splitlines() == [
        f"warning: /tables/a/t2.bin from {workshop.build}/other/a/t2.bin replaces another file of that name"
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--path", "gone"), "stage.files: gone is not there (looked for"),
        (("--path", "/gone"), "stage.files: /gone is not there (looked for /gone)"),
        (("--path", "tables/*.srs"), "stage.files: tables/*.srs matches nothing (looked below"),
        (("--path", "gone/*"), "stage.files: gone/* matches nothing: there is no"),
        (("--path", "/*"), "would look through the whole container"),
        (("--path", "."), "would copy everything"),
        (("--path", "/proc/self"), "only exists while the container runs"),
        (("--path", "tables/../x"), "'..' has no meaning"),
        (("--path", "tables", "--to", "prog"), "/prog is a file or a link in the image already"),
        (("--path", "tables/t0.bin", "--to", "t/x", "--path", "prog", "--to", "t"), "/t: is a directory in the image"),
        (("--path", "tables", "--path", "prog", "--to", "tables/l.bin/x"), "/tables/l.bin is a file or a link"),
        (("--path", "lost"), "is a link whose target does not exist: nowhere"),
        (("--include", "zoneinfo"), "stage.include: zoneinfo is not known"),
    ],
)
def test_what_is_refused(workshop: Workshop, tables: Path, arguments: tuple[str, ...], said: str) -> None:
    (workshop.build / "lost").symlink_to("nowhere")
    staged = workshop.stage(*arguments)
    assert staged.status == 1
    assert said in staged.stderr, staged.stderr


def test_a_file_that_was_staged_already_need_not_be_there(workshop: Workshop) -> None:
    workshop.compile("prog", "int main(void) { return 0; }")
    staged = workshop.stage("--path", "lib/x86_64-linux-gnu/libc.so.6")
    assert staged.status == 0, staged.stderr


def leads_somewhere(link: Path, root: Path) -> bool:
    """Whether a link of the tree leads to something of the tree."""
    target = os.readlink(link)  # noqa: PTH115 (as written)
    return (Path(f"{root}/{target}") if target.startswith("/") else link.parent / target).exists()


def test_certificates_and_time_zones(workshop: Workshop) -> None:
    """This machine is the build stage. Whatever is staged can be used from the tree alone: no link leads out of it."""
    workshop.compile("prog", "int main(void) { return 0; }")
    staged = workshop.stage("--include", "certificates", "--include", "tzdata")
    assert staged.status == 0, staged.stderr
    bundle = (staged.root / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert len(ssl.create_default_context(cadata=bundle).get_ca_certs()) > 10
    zones = staged.root / "usr/share/zoneinfo"
    with (zones / "Europe/Berlin").open("rb") as file:
        berlin = zoneinfo.ZoneInfo.from_file(file)
    assert datetime(2026, 7, 1, tzinfo=berlin).utcoffset() == timedelta(hours=2)
    assert not (zones / "right").exists() and not (zones / "posix").exists()
    lost = [path for path in staged.root.rglob("*") if path.is_symlink() and not leads_somewhere(path, staged.root)]
    assert lost == []


def test_thousands_of_files_take_seconds(workshop: Workshop) -> None:
    """Left out, replaced, renamed and linked to as well: no process for each."""
    for number in range(10):
        folder = workshop.build / f"many/d{number}"
        folder.mkdir(parents=True)
        for name in range(200):
            (folder / f"{name}.js").touch()
    staged = workshop.stage("--path", "many/*/1*.js", "--to", "some", "--path", "many", "--exclude", "7.js")
    assert len(staged_paths(staged)) == 10 * (199 + 111)


def test_what_is_loaded_by_name(workshop: Workshop) -> None:
    """This machine is the build stage; what every glibc has."""
    workshop.compile("prog", '#include <iconv.h>\nint main(void) { return iconv_open("a", "b") != 0; }')
    assert "include: [gconv]" in workshop.stage().stderr
    (workshop.build.parent / "stage").rename(workshop.build.parent / "earlier")
    staged = workshop.stage("--include", "gconv", "--include", "nss", "--include", "locale")
    assert staged.status == 0, staged.stderr
    assert "gconv" not in staged.stderr
    assert {
        "/usr/lib/x86_64-linux-gnu/gconv/UTF-16.so", "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache",
        "/etc/nsswitch.conf", "/usr/lib/locale/C.utf8/LC_CTYPE",
    } <= staged.paths()  # fmt: skip
