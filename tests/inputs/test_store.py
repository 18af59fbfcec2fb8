from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.events import Event, Notice
from orchestrator.inputs import trees
from orchestrator.inputs.store import Store, key_of
from orchestrator.user_paths import cache_root
from tests.inputs.conftest import leftovers


def fill_with(data: bytes, calls: list[int] | None = None):  # type: ignore[no-untyped-def]
    def fill(target: Path) -> dict[str, str]:
        if calls is not None:
            calls.append(1)
        target.write_bytes(data)
        return {"source": "test"}

    return fill


def test_put_makes_an_entry_once_and_finds_it_again(store: Store) -> None:
    calls: list[int] = []
    first = store.put("a-1", fill_with(b"data", calls))
    assert (first.sha256, first.size) == (hashlib.sha256(b"data").hexdigest(), 4)
    assert store.put("a-1", fill_with(b"other", calls)) == first
    assert calls == [1]
    assert Store(store.root).get("a-1") == first
    with store.open("a-1") as stream:
        assert stream.read() == b"data"


def test_directories_are_entries_too(store: Store) -> None:
    def fill(target: Path) -> dict[str, str]:
        (target / "sub").mkdir(parents=True)
        (target / "sub/file").write_text("x")
        (target / "link").symlink_to("sub/file")
        return {}

    entry = store.put("tree-1", fill)
    assert entry.sha256 == trees.digest_tree(entry.path)
    (entry.path / "sub/file").write_text("y!")
    assert store.get("tree-1") is None


def test_corrupted_entry_is_made_again(store: Store) -> None:
    entry = store.put("a-1", fill_with(b"good"))
    entry.path.write_bytes(b"baad")
    assert store.get("a-1") is None
    assert store.put("a-1", fill_with(b"good")).path.read_bytes() == b"good"


def test_touched_but_equal_entry_is_kept(store: Store) -> None:
    entry = store.put("a-1", fill_with(b"good"))
    os.utime(entry.path, (1, 1))
    again = store.get("a-1")
    assert again is not None
    assert again.sha256 == entry.sha256
    assert store.get("a-1") == again


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": 1}', "\xff"])
def test_damaged_record_counts_as_no_entry(store: Store, text: str) -> None:
    entry = store.put("a-1", fill_with(b"good"))
    (entry.path.parent / "entry.json").write_text(text, encoding="latin-1")
    assert store.get("a-1") is None
    assert store.put("a-1", fill_with(b"good")).size == 4


def test_mismatch_names_both_hashes_and_keeps_nothing(store: Store) -> None:
    with pytest.raises(InputError) as caught:
        store.keep("a-1", fill_with(b"bad"), expected="0" * 64)
    assert "0" * 64 in str(caught.value)
    assert hashlib.sha256(b"bad").hexdigest() in str(caught.value)
    assert store.list() == []
    assert leftovers(store) == []


def test_keep_stores_by_content_and_refresh_leaves_the_old_content(store: Store) -> None:
    old = store.keep("url-1", fill_with(b"old"))
    assert store.keep("url-1", fill_with(b"new")) == old
    new = store.keep("url-1", fill_with(b"new"), newer_than=time.time())
    assert new.path.read_bytes() == b"new"
    assert old.path.read_bytes() == b"old"
    assert store.kept("url-1") == new
    assert store.keep("url-2", fill_with(b"x"), expected=old.sha256) == old


def test_remove_and_list(store: Store) -> None:
    store.put("b-1", fill_with(b"1"))
    store.put("a-1", fill_with(b"2"))
    assert [entry.key for entry in store.list()] == ["a-1", "b-1"]
    assert store.remove("a-1")
    assert not store.remove("a-1")
    assert [entry.key for entry in store.list()] == ["b-1"]
    with pytest.raises(InputError):
        store.open("a-1")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_an_input_error_without_leftovers(store: Store, code: int) -> None:
    def fill(target: Path) -> dict[str, str]:
        target.write_bytes(b"half")
        raise OSError(code, os.strerror(code))

    with pytest.raises(InputError, match="no space left") as caught:
        store.put("a-1", fill)
    assert "ORCHESTRATOR_CACHE_DIR" in caught.value.remedy
    assert leftovers(store) == []
    assert store.get("a-1") is None


def test_real_size_limit_of_the_system_is_reported_as_no_space(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from pathlib import Path
from orchestrator.errors import InputError
from orchestrator.inputs.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(Path({str(tmp_path / "cache")!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
def fill(target):
    target.write_bytes(b"x" * 100_000)
    return {{}}
try:
    store.put("a-1", fill)
except InputError as error:
    print(error.message, list((store.root / "tmp").iterdir()), store.list())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("no space left"), done.stderr
    assert done.stdout.rstrip().endswith("[] []")


def test_failed_fill_keeps_the_key_free(store: Store) -> None:
    def fill(target: Path) -> dict[str, str]:
        target.mkdir()
        raise InputError("no")

    with pytest.raises(InputError):
        store.put("a-1", fill)
    assert store.put("a-1", fill_with(b"now")).size == 3


WORKER = """
import sys, time
from pathlib import Path
from orchestrator.inputs.store import Store
def fill(target):
    with open(sys.argv[2], "a") as log:
        log.write("filled\\n")
    time.sleep(0.3)
    target.write_bytes(b"data")
    return {}
print(Store(Path(sys.argv[1])).put("a-1", fill).sha256)
"""


def test_several_processes_fill_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", WORKER, str(tmp_path / "cache"), str(log)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    digests = {worker.communicate()[0].strip() for worker in workers}
    assert digests == {hashlib.sha256(b"data").hexdigest()}
    assert log.read_text() == "filled\n"


def test_temporaries_of_a_killed_process_are_swept_and_its_lock_is_free(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    hanging = WORKER.replace("time.sleep(0.3)", "target.write_bytes(b'x'); print('in', flush=True); time.sleep(60)")
    worker = subprocess.Popen(
        [sys.executable, "-c", hanging, str(root), str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "in\n"
    assert len(leftovers(Store(root))) == 1  # alive: its temporary stays
    worker.kill()
    worker.wait()
    worker.stdout.close()
    again = Store(root)
    assert leftovers(again) == []
    assert again.put("a-1", fill_with(b"data")).size == 4


def test_waiting_for_another_build_is_said(tmp_path: Path) -> None:
    events: list[Event] = []
    root = tmp_path / "cache"
    slow = WORKER.replace("time.sleep(0.3)", "print('in', flush=True); time.sleep(1.5)")
    worker = subprocess.Popen(
        [sys.executable, "-c", slow, str(root), str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    worker.stdout.readline()
    assert Store(root, emit=events.append).put("a-1", fill_with(b"mine")).size == 4
    worker.communicate()
    assert any(isinstance(event, Notice) and "waiting" in event.text for event in events)


def test_cache_directory_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"
    monkeypatch.delenv("ORCHESTRATOR_CACHE_DIR")
    assert cache_root().name == "gevulot-orchestrator"


def test_unusable_cache_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot use the input cache"):
        Store(tmp_path / "file")


@pytest.mark.parametrize("key", ["", "../x", "a/b", "A", ".x"])
def test_keys_that_could_leave_the_cache_are_refused(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="not a cache key"):
        store.get(key)


def test_key_of_separates_its_parts() -> None:
    assert key_of("k", "a", "bc") != key_of("k", "ab", "c")


def test_digest_tree_sees_content_and_kind_not_time(tmp_path: Path) -> None:
    def tree(name: str) -> Path:
        root = tmp_path / name
        (root / "d").mkdir(parents=True)
        (root / "d/f").write_text("1")
        (root / "l").symlink_to("d/f")
        return root

    one, two = tree("one"), tree("two")
    os.utime(two / "d/f", (time.time() - 1000,) * 2)
    assert trees.digest_tree(one) == trees.digest_tree(two)
    (two / "d/f").chmod(0o755)
    assert trees.digest_tree(one) != trees.digest_tree(two)
    (two / "d/f").chmod(0o644)
    (two / "l").unlink()
    (two / "l").write_text("1")
    assert trees.digest_tree(one) != trees.digest_tree(two)
    assert trees.digest_tree(one, ["l"]) == trees.digest_tree(two, ["l"])
