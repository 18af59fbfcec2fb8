from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.lock.changes import changes
from orchestrator.lock.project_lock import LockedInput, ProjectLock, lock_text, parse_lock, read_lock
from orchestrator.project.load import lock_path

HASH = "ab" * 32
COMMIT = "0123456789" * 4
LOCK = ProjectLock(
    entries={
        "gevulot": LockedInput(
            requested={"git": "https://example.org/g", "ref": "main"},
            kind="git",
            resolved={"commit": COMMIT, "tree-sha256": HASH, "cargo-lock-sha256": HASH},
        ),
        "base": LockedInput(
            requested={"image": "rust:1", "debian": "bookworm", "packages": ["gcc"]},
            kind="bootstrap",
            resolved={"sha256": HASH, "size": "12", "suite": "bookworm"},
            packages=("gcc=4:12.2.0-3", "libc6=2.36-9+deb12u10"),
        ),
        "nanos": LockedInput(requested={"path": "nanos"}, kind="directory", resolved={"tree-sha256": HASH}),
    }
)


def test_a_lock_says_what_was_asked_and_what_it_became_a_line_each() -> None:
    text = lock_text(LOCK)
    assert parse_lock(text, "x") == LOCK
    assert lock_text(parse_lock(text, "x")) == text
    document = json.loads(text)
    assert document["version"] == 1
    assert list(document["inputs"]) == ["base", "gevulot", "nanos"]
    assert text.count('"gcc=4:12.2.0-3",\n') == 1
    assert text.endswith("}\n")


def test_the_users_own_files_are_recorded_and_pin_nothing() -> None:
    assert set(LOCK.pins()) == {"gevulot", "base"}
    assert LOCK.pins()["gevulot"].values["commit"] == COMMIT


def test_name_beside_the_project() -> None:
    assert lock_path(Path("a/project.yaml")) == Path("a/project.lock")
    assert lock_path(Path("project.ops.yaml")) == Path("project.ops.lock")


def test_changes_name_what_moved_and_not_what_follows_from_it() -> None:
    gevulot = LOCK.entries["gevulot"]
    moved = LockedInput(
        requested=gevulot.requested,
        kind="git",
        resolved={**gevulot.resolved, "commit": "f" * 40, "tree-sha256": "cd" * 32},
    )
    base = LOCK.entries["base"]
    newer = LockedInput(
        requested=base.requested,
        kind=base.kind,
        resolved={**base.resolved, "sha256": "cd" * 32},
        packages=("gcc=4:13", "make=1"),
    )
    after = ProjectLock(entries={"gevulot": moved, "base": newer})
    assert [str(change) for change in changes(LOCK, after)] == [
        f"base: sha256: {HASH} -> {'cd' * 32}",
        "base: package gcc: 4:12.2.0-3 -> 4:13",
        "base: package libc6: 2.36-9+deb12u10 -> none",
        "base: package make: none -> 1",
        f"gevulot: commit: {COMMIT} -> {'f' * 40}",
        f"nanos: directory: {HASH} -> none",
    ]
    assert changes(LOCK, LOCK) == []


def broken(**entry: Any) -> str:
    good = json.loads(lock_text(LOCK))
    good["inputs"]["gevulot"] |= entry
    return json.dumps(good)


BAD = {
    "": "not JSON",
    "<<<<<<< ours\n{}\n=======\n": "merge",
    "[]": "is not a lock",
    "null": "is not a lock",
    '{"version": 2, "inputs": {}}': "update orchestrator",
    '{"version": true, "inputs": {}}': "version",
    '{"version": 1}': "is not a lock",
    '{"version": 1, "inputs": {}, "more": 1}': "is not a lock",
    '{"version": 1, "inputs": {"kernel": {}}}': "kernel",
    broken(kind="stub"): "kind",
    broken(kind=["git"]): "kind",
    broken(resolved={"commit": "main", "tree-sha256": HASH}): "commit",
    broken(resolved={"commit": "--upload-pack=x", "tree-sha256": HASH}): "commit",
    broken(resolved={"commit": COMMIT}): "tree-sha256",
    broken(resolved={"commit": COMMIT, "tree-sha256": HASH, "path": "/etc"}): "path",
    broken(requested={"ref": 1}): "requested",
    broken(packages=["gcc"]): "packages",
    broken(packages=["gcc=1\nPin: x"]): "packages",
    broken(extra=1): "inputs.gevulot: unknown key extra",
    "[" * 100_000: "not JSON",
}


@pytest.mark.parametrize("text", BAD, ids=[f"{number}-{words}" for number, words in enumerate(BAD.values())])
def test_what_is_no_lock_is_a_usage_error_that_names_the_file(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_lock(text, "dir/project.lock")
    said = f"{caught.value.message} {caught.value.remedy}"
    assert "dir/project.lock" in said
    assert BAD[text] in said


def test_no_file_is_no_lock_and_a_binary_one_is_an_error(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "project.lock") is None
    (tmp_path / "project.lock").write_bytes(b"\xff\xfe\0")
    with pytest.raises(UsageError):
        read_lock(tmp_path / "project.lock")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_lock_is_read_as_it_was_or_refused(data: st.DataObject) -> None:
    text = bytearray(lock_text(LOCK).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        lock = parse_lock(text.decode("utf-8", "replace"), "x")
    except UsageError:
        return
    assert parse_lock(lock_text(lock), "x") == lock
