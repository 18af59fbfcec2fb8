from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import resource
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import archive as reading
from orchestrator.errors import InputError
from orchestrator.inputs import trees
from orchestrator.inputs.archives import ArchiveLimits, extract

Members = list[tuple[str, bytes | str | tuple[str, str]]]
"""(name, bytes = a file, "dir", or (kind, target))."""


def tar(members: Members) -> bytes:
    kinds = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                info.size = len(what)
                info.mode = 0o6755 if "tool" in name else 0o600
                archive.addfile(info, io.BytesIO(what))
                continue
            info.type = tarfile.DIRTYPE if isinstance(what, str) else kinds[what[0]]
            info.linkname = "" if isinstance(what, str) else what[1]
            info.mode = 0o000
            archive.addfile(info)
    return out.getvalue()


HONEST: Members = [
    ("top", "dir"),
    ("top/file", b"data"),
    ("top/bin/tool", b"\x7fELF"),
    ("top/link", ("link", "bin/tool")),
    ("top/up/link", ("link", "../file")),
    ("top/same", ("hard", "top/file")),
]


def unpack(data: bytes, where: Path, **limits: int) -> Path:
    where.mkdir(exist_ok=True)
    archive = where / "archive"
    archive.write_bytes(data)
    target = where / "out"
    extract(archive, target, limits=ArchiveLimits(**limits))
    return target


def contents(root: Path) -> dict[str, str]:
    return {name: oct(status.st_mode) for name, status in trees.walk(root)}


def zipped(members: dict[str, bytes], link: tuple[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # a fixed date
        if link:
            info = zipfile.ZipInfo(link[0])
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, link[1])
    return out.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_tars(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    out = unpack(pack(tar(HONEST)), tmp_path)
    assert contents(out) == {
        "bin": "0o40755", "bin/tool": "0o100755", "file": "0o100644", "link": "0o120777", "same": "0o100644",
        "up": "0o40755", "up/link": "0o120777",
    }  # fmt: skip
    assert (out / "same").read_bytes() == (out / "up/link").read_bytes() == b"data"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "out"]


def test_names_that_no_file_system_has(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a complete"):
        unpack(tar([("a" * 300, b"x")]), tmp_path)


def test_zip_member_without_a_name(tmp_path: Path) -> None:
    data = zipped({"d": b"x"})
    central = bytearray(data[data.index(b"PK\x01\x02") :])
    central[28:30] = b"\0\0"  # the name's length; the name becomes the extra field
    central[30:32] = b"\1\0"
    with pytest.raises(InputError):
        unpack(data[: data.index(b"PK\x01\x02")] + bytes(central), tmp_path)


def test_zip_directory_at_a_negative_offset(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": b"x", "b": b"y"}))
    # The end record's offset of the directory (at -6): zipfile corrects every member by the difference.
    data[-6:-2] = (0x7FFFFF).to_bytes(4, "little")
    with pytest.raises(InputError):
        unpack(bytes(data), tmp_path)


def test_zip(tmp_path: Path) -> None:
    out = unpack(zipped({"top/a/file": b"data", "top/empty/": b""}, ("top/link", "a/file")), tmp_path)
    assert (out / "link").read_bytes() == b"data"
    assert (out / "empty").is_dir()


def test_top_folder_is_kept_when_it_is_not_alone(tmp_path: Path) -> None:
    out = unpack(tar([("kernel.img", b"k"), ("klibs/a", b"1")]), tmp_path)
    assert sorted(contents(out)) == ["kernel.img", "klibs", "klibs/a"]


def test_single_file_is_no_top_folder(tmp_path: Path) -> None:
    assert sorted(contents(unpack(tar([("kernel.img", b"k")]), tmp_path))) == ["kernel.img"]


ATTACKS: dict[str, Members] = {
    "absolute": [("/etc/evil", b"x")],
    "parent": [("../evil", b"x")],
    "inner-parent": [("a/../../evil", b"x")],
    "link-absolute": [("l", ("link", "/etc/passwd"))],
    "link-out": [("a/l", ("link", "../../x"))],
    "through-link": [("d", "dir"), ("l", ("link", "d")), ("l/evil", b"x")],
    "link-then-directory": [("l", ("link", "d")), ("l/sub", "dir")],
    "hard-out": [("h", ("hard", "../archive"))],
    "hard-absolute": [("h", ("hard", "/etc/passwd"))],
    "hard-nothing": [("h", ("hard", "none"))],
    "hard-to-link": [("l", ("link", "f")), ("h", ("hard", "l"))],
    "device": [("d", ("device", ""))],
    "pipe": [("p", ("pipe", ""))],
    "file-over-directory": [("d/f", b"x"), ("d", b"x")],
    "below-file": [("f", b"x"), ("f/g", b"y")],
    "deep": [("d/" * 200 + "f", b"x")],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused(tmp_path: Path, name: str) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(InputError, match="refused"):
        unpack(tar(ATTACKS[name]), work)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert [path.name for path in work.iterdir()] == ["archive"]


@pytest.mark.parametrize("name", ["/evil", "../evil", "a/../../evil"])
def test_zip_attacks_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="refused"):
        unpack(zipped({name: b"x"}), tmp_path)
    with pytest.raises(InputError, match="refused"):
        unpack(zipped({}, ("l", "/etc/passwd")), tmp_path)


def test_bombs_are_refused(tmp_path: Path) -> None:
    zeros = gzip.compress(tar([("f", bytes(5_000_000))]))
    with pytest.raises(InputError, match="refused"):
        unpack(zeros, tmp_path, ratio_from=100_000)
    with pytest.raises(InputError, match="refused"):
        unpack(zeros, tmp_path, size=1_000_000)
    with pytest.raises(InputError, match="refused"):
        unpack(tar([(f"f{n}", b"") for n in range(20)]), tmp_path, members=10)


def header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_header_bombs_are_refused_before_they_are_read(
    tmp_path: Path, kind: bytes, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(header("x", 64 << 20, kind) + bytes(64 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="a member's header"):
        unpack(data, tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (header("x", 200 * 1024, tarfile.XGLTYPE) * 1 + (b"9 a=bbbb\n" * 22756)[: 200 * 1024], "header|not a complete"),
        ((header("x", 512, tarfile.GNUTYPE_LONGNAME) + b"n" * 511 + b"\0") * 2000, "header"),
        (header("x", 512, tarfile.GNUTYPE_SPARSE) + bytes(512), "sparse"),
        (header("x", 2**62, b"?"), "not a file, directory or link|truncated"),
        (gzip.compress(tar([("a", b"x")])) + gzip.compress(bytes(8 << 20)), "unpacks to"),
    ],
)
def test_bombs_of_other_kinds_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        unpack(data, tmp_path, ratio=20, ratio_from=1 << 20)


def test_a_list_of_members_that_is_too_long_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(50):
            archive.writestr(f"{number:0>200}", b"")
    with pytest.raises(InputError, match="list of members"):
        unpack(out.getvalue(), tmp_path, directory=8 * 1024)
    with pytest.raises(InputError, match="more than 10 members"):
        unpack(out.getvalue(), tmp_path / "2", members=10)


def test_time_has_a_limit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="longer than 0 s"):
        unpack(tar(HONEST), tmp_path, seconds=0)


THROUGH_LINKS: dict[str, Members] = {
    # The text of `kernel.img` stays inside; `a/b/s` is a link itself.
    "through": [("a/b/s", ("link", "../..")), ("kernel.img", ("link", "a/b/s/../secret"))],
    "later": [("kernel.img", ("link", "a/b/s/../secret")), ("x", b""), ("a/b/s", ("link", "../.."))],
    "twice": [("a/one", ("link", "..")), ("a/two", ("link", "one/../out")), ("x", b"")],
    "above-the-top-folder": [("top/x", b""), ("top/link", ("link", "../../top"))],
    "beside-the-top-folder": [("top/x", b""), ("top/link", ("link", "../entry.json"))],
}


@pytest.mark.parametrize("name", THROUGH_LINKS)
def test_links_that_leave_through_others_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="outside the archive"):
        unpack(tar(THROUGH_LINKS[name]), tmp_path)


def test_links_that_stay_inside_through_others_are_kept(tmp_path: Path) -> None:
    members: Members = [
        ("a/b/s", ("link", "../c")), ("a/c/x", b"x"), ("k", ("link", "a/b/s/../c/x")), ("round", ("link", "round")),
        ("replaced", ("link", "../out")), ("replaced", b"file"),
    ]  # fmt: skip
    out = unpack(tar(members), tmp_path)
    assert (out / "k").read_bytes() == b"x"
    assert (out / "replaced").read_bytes() == b"file"


def test_later_member_wins(tmp_path: Path) -> None:
    out = unpack(tar([("a", b"1"), ("l", ("link", "a")), ("l", b"2")]), tmp_path)
    assert (out / "a").read_bytes() == b"1"
    assert (out / "l").read_bytes() == b"2"
    assert not (out / "l").is_symlink()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_cut_off_anywhere_is_an_error(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    # Random content, so that the packed archive is cut inside members too, not only in its zeros.
    plain = tar([("a", bytes(range(256)) * 20), ("b", b"x" * 600)])
    end = len(plain.rstrip(b"\0")) + 512 if pack is bytes else len(pack(plain)) - 1
    data = pack(plain)
    for cut in [0, 1, 5, 100, 512, 1024, end // 2, end - 600, end - 1]:
        if not 0 <= cut < end:
            continue
        with pytest.raises(InputError):
            unpack(data[:cut], tmp_path)
        assert not (tmp_path / "out").exists()


def test_cut_between_members_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is truncated"):
        unpack(tar([("a", b"1" * 512), ("b", b"2")])[:1024], tmp_path)


def test_checksum_damage_is_an_error(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(tar(HONEST)))
    data[-6] ^= 1  # the CRC at gzip's end
    with pytest.raises(InputError, match="not a complete"):
        unpack(bytes(data), tmp_path)
    damaged = bytearray(zipped({"a": b"hello" * 100, "b": b"x"}))
    damaged[45] ^= 0xFF
    with pytest.raises(InputError):
        unpack(bytes(damaged), tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"PK", b"\x1f\x8b", b"\x28\xb5\x2f\xfd0000", bytes(10_240), b"x" * 600]
)
def test_no_archive(tmp_path: Path, data: bytes) -> None:
    if data == bytes(10_240):
        assert contents(unpack(data, tmp_path)) == {}  # an empty tar is one
        return
    with pytest.raises(InputError):
        unpack(data, tmp_path)


names = st.text("ab./l\0", min_size=1, max_size=8)
what = st.one_of(
    st.binary(max_size=20),
    st.just("dir"),
    st.tuples(st.sampled_from(["link", "hard", "device"]), names),
)


@settings(max_examples=200, deadline=None)
@given(members=st.lists(st.tuples(names, what), max_size=8))
def test_nothing_lands_or_points_outside(members: Members) -> None:
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory) / "work"
        work.mkdir()
        try:
            out = unpack(tar(members), work)
        except InputError:
            assert [path.name for path in work.iterdir()] == ["archive"]
        else:
            inside = out.resolve()
            for name, status in trees.walk(out):
                if not stat.S_ISLNK(status.st_mode):
                    continue
                try:
                    # The kernel says what is a loop; realpath takes `a -> a//` for the root.
                    with contextlib.suppress(FileNotFoundError):
                        (out / name).stat()
                    end = (out / name).resolve()
                except (RuntimeError, OSError):
                    continue  # a loop leads nowhere
                assert end.is_relative_to(inside.parent)
        assert [path.name for path in Path(directory).iterdir()] == ["work"]


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_damaged_archives_give_our_error_only(data: st.DataObject) -> None:
    source = data.draw(
        st.sampled_from([tar(HONEST), gzip.compress(tar(HONEST)), zipped({"a/b": b"c" * 50, "d": b"e"})])
    )
    damaged = bytearray(source)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as directory:
        try:
            unpack(bytes(damaged), Path(directory))
        except InputError:
            assert not (Path(directory) / "out").exists()


KINDS = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.AREGTYPE, tarfile.FIFOTYPE)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=120)


def rows_of(archive: tarfile.TarFile) -> tuple[list[object], bool]:
    """What each member is, and whether reading ends with an error."""
    rows: list[object] = []
    try:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            data = content.read() if content is not None else b""
            fields = (
                "name",
                "size",
                "type",
                "linkname",
                "mode",
                "uid",
                "gid",
                "mtime",
                "uname",
                "gname",
                "pax_headers",
            )
            rows.append([*(getattr(member, field) for field in fields), data])
    except (tarfile.TarError, reading.ArchiveError, ValueError, OverflowError, LookupError):
        return rows, True
    return rows, False


@given(
    st.lists(st.tuples(NAMES, st.sampled_from(KINDS), st.integers(0, 1500), NAMES), max_size=6),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=2),
    st.integers(0, 600),
)
def test_a_stream_is_read_as_tarfile_reads_it(
    members: list[tuple[str, bytes, int, str]], form: int, changes: list[tuple[int, int]], cut: int
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, kind, size, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.mtime, member.uid, member.uname = kind, size, 1000, "me"
            member.size = size if kind in tarfile.REGULAR_TYPES else 0
            member.linkname = target if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            with contextlib.suppress(ValueError):  # too long for the form
                archive.addfile(member, io.BytesIO(b"x" * member.size))
    data = bytearray(out.getvalue())
    for at, byte in changes:
        data[at % len(data)] = byte
    data = data[: len(data) - cut] if cut > 500 else data
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as archive:
            plain = rows_of(archive)
    except tarfile.TarError:
        plain = [], True
    meter = reading.Meter(stream=io.BytesIO(data), limits=reading.UnpackLimits())
    for opened in (reading.read_tar(meter), reading.read_tar_file(io.BytesIO(data))):
        try:
            with opened as archive:
                ours = rows_of(archive)
        except (tarfile.TarError, reading.ArchiveError):
            ours = [], True
        assert ours[0] == plain[0][: len(ours[0])]
        assert ours == plain or ours[1]  # it may refuse more: sparse files, long headers
        if not changes:
            assert ours == plain
