from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.inputs import trees
from orchestrator.inputs.store import Store
from orchestrator.inputs.transfer import export_entries, import_entries
from tests.inputs.conftest import leftovers


def make_tree(target: Path) -> dict[str, str]:
    (target / "bin").mkdir(parents=True)
    (target / "empty").mkdir()
    (target / "bin/tool").write_text("#!/bin/sh\n")
    (target / "bin/tool").chmod(0o755)
    (target / "read me").write_text("words")
    (target / "link").symlink_to("bin/tool")
    (target / "out").symlink_to("/etc/hostname")  # git takes it, so we do; nothing is written through it
    return {"source": "a tree"}


def make_file(target: Path) -> dict[str, str]:
    target.write_bytes(b"data" * 1000)
    return {"source": "a file"}


SOURCES = "git-" + "a" * 40


def filled(store: Store) -> list[str]:
    file = store.keep("url-1", make_file)
    return [store.put(SOURCES, make_tree).key, file.key]


@pytest.mark.parametrize("name", ["all.tar", "all.tar.zst"])
def test_to_another_cache_and_back(store: Store, tmp_path: Path, name: str) -> None:
    keys = filled(store)
    export_entries(store, keys, tmp_path / name)
    other = Store(tmp_path / "other", imported=True)
    done = import_entries(other, tmp_path / name)
    assert Store(tmp_path / "other").kept("url-1") is None  # nothing proves a name, but to who can ask nobody else
    assert (sorted(done.new), done.known) == (sorted(keys), ())
    for key in keys:
        there, here = other.get(key), store.get(key)
        assert there is not None
        assert here is not None
        assert (there.sha256, there.size, there.info["source"]) == (here.sha256, here.size, here.info["source"])
    tree = other.get(SOURCES)
    assert tree is not None
    assert trees.digest_tree(tree.path) == tree.sha256
    assert (tree.path / "bin/tool").stat().st_mode & 0o111
    assert (tree.path / "out").readlink() == Path("/etc/hostname")
    kept = other.kept("url-1")
    assert kept is not None
    assert kept.path.read_bytes() == b"data" * 1000
    again = import_entries(other, tmp_path / name)
    assert (again.new, sorted(again.known)) == ((), sorted(keys))
    export_entries(other, keys, tmp_path / f"again-{name}")
    assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes() or name.endswith("tar")


def test_same_entries_same_bytes(store: Store, tmp_path: Path) -> None:
    keys = filled(store)
    export_entries(store, keys, tmp_path / "one.tar.zst")
    export_entries(store, [*reversed(keys), *keys], tmp_path / "two.tar.zst")
    assert (tmp_path / "one.tar.zst").read_bytes() == (tmp_path / "two.tar.zst").read_bytes()


def test_only_what_was_asked_for(store: Store, tmp_path: Path) -> None:
    filled(store)
    export_entries(store, [SOURCES], tmp_path / "one.tar")
    other = Store(tmp_path / "other")
    assert import_entries(other, tmp_path / "one.tar").new == (SOURCES,)
    assert other.named("url-1") is None
    with pytest.raises(InputError, match="no complete git-none"):
        export_entries(store, ["git-none"], tmp_path / "none.tar")
    assert not (tmp_path / "none.tar").exists()


def test_a_name_of_this_machine_stays(store: Store, tmp_path: Path) -> None:
    export_entries(store, filled(store), tmp_path / "all.tar")
    other = Store(tmp_path / "other")

    def mine(target: Path) -> dict[str, str]:
        target.write_bytes(b"mine")
        return {}

    own = other.keep("url-1", mine)
    import_entries(other, tmp_path / "all.tar")
    kept = other.kept("url-1")
    assert kept is not None
    assert kept.key == own.key


def test_cut_off_anywhere(store: Store, tmp_path: Path) -> None:
    export_entries(store, filled(store), tmp_path / "all.tar.zst")
    data = (tmp_path / "all.tar.zst").read_bytes()
    for cut in [0, 3, 10, len(data) // 2, len(data) - 50]:
        (tmp_path / "cut").write_bytes(data[:cut])
        other = Store(tmp_path / f"other-{cut}")
        with pytest.raises(InputError):
            import_entries(other, tmp_path / "cut")
        assert leftovers(other) == []
    with pytest.raises(InputError, match="No such file"):
        import_entries(store, tmp_path / "missing")


def test_a_changed_byte_of_content_is_found(store: Store, tmp_path: Path) -> None:
    export_entries(store, filled(store), tmp_path / "all.tar")
    data = bytearray((tmp_path / "all.tar").read_bytes())
    data[data.index(b"datadata") + 100] ^= 1
    (tmp_path / "bad.tar").write_bytes(data)
    other = Store(tmp_path / "other")
    with pytest.raises(InputError, match="sha256"):
        import_entries(other, tmp_path / "bad.tar")
    assert [entry.key for entry in other.list()] == [SOURCES]
    assert leftovers(other) == []


Member = tuple[str, bytes | tuple[bytes, str]]


def forged(path: Path, *members: Member) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, what in [("orchestrator-cache", b"1\n"), *members, ("orchestrator-cache-end", b"1\n")]:
            info = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                info.size = len(what)
                tar.addfile(info, io.BytesIO(what))
            else:
                info.type, info.linkname = what
                tar.addfile(info)
    return path


def record(content: bytes) -> bytes:
    return json.dumps({"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "info": {}}).encode()


DIR, LINK = (tarfile.DIRTYPE, ""), tarfile.SYMTYPE


def test_unpacked_archives_and_facts_of_a_bundle_are_not_believed(store: Store, tmp_path: Path) -> None:
    """A tree under a genuine archive's key (a kernel, say) would be taken under any lock."""
    genuine = store.keep("url-1", make_file)

    def evil(target: Path) -> dict[str, str]:
        target.mkdir()
        (target / "kernel.img").write_text("EVIL")
        return {"source": "x", "imported": "", "commit": "f" * 40}

    keys = [store.put(key, evil).key for key in (f"tree-{genuine.sha256}", "stub-" + "1" * 64, SOURCES)]
    export_entries(store, [genuine.key, *keys], tmp_path / "evil.tar.zst")
    other = Store(tmp_path / "other")
    done = import_entries(other, tmp_path / "evil.tar.zst")
    assert sorted(done.left_out) == sorted(keys[:2])
    assert done.unproven == (SOURCES,)
    assert [entry.key for entry in other.list()] == [SOURCES, genuine.key]
    sources = other.get(SOURCES)
    assert sources is not None
    assert sources.info["commit"] == "a" * 40


FORGERIES: dict[str, list[Member]] = {
    "other-key": [
        ("entries/sha256-" + "0" * 64 + "/entry.json", record(b"x")),
        ("entries/sha256-" + "0" * 64 + "/data", b"x"),
    ],
    "no-data": [("entries/git-" + "a" * 40 + "/entry.json", record(b"x"))],
    "parent": [
        ("entries/git-" + "a" * 40 + "/entry.json", record(b"x")),
        ("entries/git-" + "a" * 40 + "/data", DIR),
        ("entries/git-" + "a" * 40 + "/data/../../evil", b"x"),
    ],
    "through-link": [
        ("entries/git-" + "a" * 40 + "/entry.json", record(b"x")),
        ("entries/git-" + "a" * 40 + "/data", DIR),
        ("entries/git-" + "a" * 40 + "/data/l", (LINK, "/tmp")),
        ("entries/git-" + "a" * 40 + "/data/l/evil", b"x"),
    ],
    "below-file": [
        ("entries/git-" + "a" * 40 + "/entry.json", record(b"x")),
        ("entries/git-" + "a" * 40 + "/data", b"x"),
        ("entries/git-" + "a" * 40 + "/data/y", b"x"),
    ],
    "data-is-a-link": [
        ("entries/git-" + "a" * 40 + "/entry.json", record(b"x")),
        ("entries/git-" + "a" * 40 + "/data", (LINK, "/etc/passwd")),
    ],
    "device": [
        ("entries/git-" + "a" * 40 + "/entry.json", record(b"x")),
        ("entries/git-" + "a" * 40 + "/data", (tarfile.CHRTYPE, "")),
    ],
    "twice": [
        ("entries/git-" + "a" * 40 + "/entry.json", record(b"x")),
        ("entries/git-" + "a" * 40 + "/data", b"x"),
        ("entries/git-" + "a" * 40 + "/data", b"x"),
    ],
    "elsewhere": [("../evil", b"x")],
    "absolute": [("/evil", b"x")],
    "bad-key": [("entries/../entry.json", record(b"x"))],
    "record-is-no-json": [("entries/git-" + "a" * 40 + "/entry.json", b"{")],
    "record-is-a-list": [("entries/git-" + "a" * 40 + "/entry.json", b"[]")],
    "record-is-deep": [("entries/git-" + "a" * 40 + "/entry.json", b"[" * 200_000)],
    "record-of-numbers": [("entries/git-" + "a" * 40 + "/entry.json", b'{"sha256": 1, "info": {}}')],
    "name-of-numbers": [("names/url-1.json", b'{"key": 1}')],
    "name-out": [("names/../x.json", b'{"key": "git-x"}')],
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_are_refused(tmp_path: Path, name: str) -> None:
    work = tmp_path / "work"
    other = Store(work / "cache")
    with pytest.raises(InputError):
        import_entries(other, forged(tmp_path / "forged.tar", *FORGERIES[name]))
    assert other.list() == []
    assert leftovers(other) == []
    assert [path.name for path in work.iterdir()] == ["cache"]


def test_other_files_are_said_to_be_others(store: Store, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "plain.tar", "w") as tar:
        tar.add(__file__, "orchestrator.py")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="cache export"):
        import_entries(store, tmp_path / "plain.tar")
    with pytest.raises(InputError, match="damaged"):
        import_entries(store, tmp_path / "text")


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_damaged_export_gives_whole_entries_or_our_error(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        store = Store(root / "cache")
        wanted = {key: store.get(key) for key in filled(store)}
        export_entries(store, wanted, root / "all.tar")
        damaged = bytearray((root / "all.tar").read_bytes())
        for _ in range(data.draw(st.integers(1, 5))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        packed = data.draw(st.booleans())
        (root / "bad").write_bytes(zstandard.compress(bytes(damaged)) if packed else bytes(damaged))
        other = Store(root / "other")
        with suppress(InputError):
            import_entries(other, root / "bad")
        assert leftovers(other) == []
        for entry in other.list():
            digest = trees.digest_tree(entry.path) if entry.path.is_dir() else trees.file_digest(entry.path)[0]
            assert digest == entry.sha256
            assert not stat.S_ISLNK(entry.path.lstat().st_mode)
        assert sorted(path.name for path in root.iterdir()) == ["all.tar", "bad", "cache", "other"]
