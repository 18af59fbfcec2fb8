from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.inputs.gc import collect, items, parse_size
from orchestrator.inputs.store import Store


def add(store: Store, key: str, size: int, age: float) -> None:
    def fill(target: Path) -> dict[str, str]:
        target.write_bytes(b"x" * size)
        return {"source": key}

    entry = store.put(key, fill)
    when = time.time() - age
    os.utime(entry.path.parent / "entry.json", (when, when))


def keys(store: Store) -> list[str]:
    return [entry.key for entry in store.list()]


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("20G", 20 * 2**30), ("1.5 GiB", 3 * 2**29), ("500m", 500 * 2**20), ("7B", 7), ("3kb", 3072)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1e9", "20 gigs", "0x10", "1..2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


def test_the_longest_unused_goes_first(store: Store) -> None:
    add(store, "git-a", 100, 50_000)
    add(store, "git-b", 100, 90_000)
    add(store, "git-c", 100, 10)
    assert [item.key for item in items(store)] == ["git-b", "git-a", "git-c"]
    done = collect(store, 250)
    assert [item.key for item in done.removed] == ["git-b"]
    assert (done.kept, done.spared) == (200, False)
    assert collect(store, 250).removed == ()
    collect(store, 0)
    assert keys(store) == []


def test_use_counts(store: Store) -> None:
    add(store, "git-a", 100, 90_000)
    add(store, "git-b", 100, 50_000)
    assert store.get("git-a") is not None
    assert [item.key for item in collect(store, 100).removed] == ["git-b"]


def test_what_a_running_build_may_read_stays(store: Store) -> None:
    add(store, "git-old", 100, 100_000)
    add(store, "git-new", 100, 60)
    with store.in_use():
        done = collect(Store(store.root), 0)
    assert ([item.key for item in done.removed], done.spared) == (["git-old"], True)
    assert keys(store) == ["git-new"]
    assert collect(store, 0).spared is False


def test_names_of_removed_entries_go_and_repositories_count(store: Store) -> None:
    def fill(target: Path) -> dict[str, str]:
        target.write_bytes(b"data")
        return {}

    store.keep("url-1", fill)
    copy = store.root / "git/repo-1.git"
    copy.mkdir()
    (copy / "HEAD").write_text("ref")
    assert {item.kind for item in items(store)} == {"entry", "repository"}
    collect(store, 0)
    assert store.named("url-1") is None
    assert not copy.exists()
    assert store.keep("url-1", fill).size == 4
