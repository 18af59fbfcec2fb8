"""The context as BuildKit keeps it: whatever happened before, a build's steps see what the tar would hold."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.clean import clean_records
from orchestrator.engine import context_sync
from orchestrator.engine.base import BuildRequest
from orchestrator.errors import BuildStepError, UsageError
from orchestrator.events import StepProgress
from orchestrator.user_paths import synced_contexts
from tests.support.engines import Events
from tests.support.synced import DIRECTORY, LINK, Copy, KeepingDaemon, SeenFile

TEMPORARY = 1 << 28
SMALLEST = context_sync.SMALLEST


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A member of a context, of `data` (a file), `target` (a link), or nothing (a directory)."""

    path: str
    data: bytes | None = None
    target: str = ""
    executable: bool = False
    mtime: int = 7

    @property
    def kind(self) -> str:
        if self.target:
            return "link"
        return "dir" if self.data is None else "file"


@dataclass
class Tree:
    """A context in memory; `changing`: what its files hold when they are read for the transfer."""

    entries: Sequence[Entry]
    changing: Mapping[str, bytes] = field(default_factory=dict)

    def members(self) -> Sequence[Entry]:
        return self.entries

    def contents(self) -> Mapping[str, tuple[int, str]]:
        return {e.path: (len(e.data), hashlib.sha256(e.data).hexdigest()) for e in self.entries if e.data is not None}

    def chunks(self, path: str) -> Iterator[bytes]:
        yield self.changing.get(path) or next(e.data or b"" for e in self.entries if e.path == path)

    def seen(self) -> dict[str, SeenFile]:
        return {e.path: (_mode(e), e.mtime, e.data or e.target.encode()) for e in self.entries}


def _mode(entry: Entry) -> int:
    permissions = 0o755 if entry.executable or entry.kind == "dir" else 0o644
    return {"dir": DIRECTORY | permissions, "link": LINK | 0o777, "file": permissions}[entry.kind]


def tree(**files: str) -> Tree:
    names = {"Containerfile": "FROM scratch", **{f"src/{name}": text for name, text in files.items()}}
    entries = [Entry(path=name, data=text.encode()) for name, text in names.items()]
    return Tree(sorted([*entries, Entry(path="src")], key=lambda entry: entry.path.split("/")))


def request(files: Tree, place: str, size: int = SMALLEST) -> BuildRequest:
    return BuildRequest(
        context=(), containerfile="Containerfile", tag="t", build_id="b", context_size=size, files=files, place=place
    )


@pytest.fixture(autouse=True, scope="module")
def _records() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        patch.setattr(context_sync, "SMALLEST", 0)
        patch.setattr(context_sync, "SMALLEST_MEMBER", 0)
        yield


@pytest.fixture
def place() -> str:
    return secrets.token_hex(8)


def warm(daemon: KeepingDaemon, files: Tree, place: str) -> None:
    assert daemon.build(request(files, place)) is None, "the first build has the tar"
    assert daemon.build(request(files, place)) == files.seen()
    assert daemon.asked == [], "the build itself has nothing left to ask for"


def asked_by(daemon: KeepingDaemon, files: Tree, place: str) -> list[str]:
    """Build; what the daemon asked for before it."""
    with daemon.open(request(files, place)) as attachables:
        assert attachables is not None
        asked = daemon.asked
        daemon.take(attachables, {})
        assert daemon.asked == []
        assert daemon.copies[attachables.key].seen() == files.seen()
    return asked


def test_only_what_changed_travels(place: str) -> None:
    daemon, events = KeepingDaemon(), Events()
    warm(daemon, tree(a="one", b="two"), place)
    # Of equal size, with equal times: nothing but its content tells it from the one before.
    assert asked_by(daemon, tree(a="ONE", b="two"), place) == ["src/a"]
    assert asked_by(daemon, tree(a="ONE", b="two"), place) == []
    assert asked_by(daemon, tree(a="two", b="ONE"), place) == ["src/a", "src/b"]
    daemon.build(request(tree(a="twos", b="ONE"), place), emit=events)
    assert [event.done for event in events.seen if isinstance(event, StepProgress)][-1] == len("twos")


NAMES = st.sampled_from(["src/a", "src/a/b", "src/a.b", "src/c", "src/c/d/e"])
LEAVES = st.builds(
    Entry,
    path=NAMES,
    data=st.sampled_from([b"", b"x", b"y"]),
    executable=st.booleans(),
    mtime=st.sampled_from([7, 8]),
) | st.builds(Entry, path=NAMES, target=st.sampled_from(["a", "c"]))


def _tree_of(leaves: Sequence[Entry]) -> Tree:
    entries = {entry.path: entry for entry in tree().entries}
    for leaf in leaves:
        above = ["/".join(leaf.path.split("/")[:end]) for end in range(1, leaf.path.count("/") + 1)]
        entries |= {path: Entry(path=path) for path in above}
        entries = {path: entry for path, entry in entries.items() if not path.startswith(f"{leaf.path}/")}
        entries[leaf.path] = leaf
    return Tree(sorted(entries.values(), key=lambda entry: entry.path.split("/")))


@settings(max_examples=25)
@given(st.lists(st.lists(LEAVES, max_size=5).map(_tree_of), min_size=2, max_size=6))
def test_any_trees_one_after_the_other(trees: Sequence[Tree]) -> None:
    daemon, place = KeepingDaemon(), secrets.token_hex(8)
    warm(daemon, tree(), place)
    for files in trees:
        asked_by(daemon, files, place)
    assert len(daemon.copies) == 1


def test_a_copy_that_is_not_as_it_was_is_not_used(place: str) -> None:
    daemon = KeepingDaemon()
    one, two = tree(a="one", b="two"), tree(a="ONE", b="two", c="")
    warm(daemon, one, place)
    (key,) = daemon.copies
    before = Copy(dict(daemon.copies[key].stats), dict(daemon.copies[key].data))
    asked_by(daemon, two, place)
    daemon.copies[key] = before  # as of a backup
    assert daemon.build(request(two, place)) == two.seen()
    assert len(daemon.copies) == 2, "under another key"
    daemon.copies.clear()  # as by `docker builder prune`
    assert daemon.build(request(two, place)) == two.seen()
    assert key not in daemon.copies


@pytest.mark.parametrize("side", ["daemon", "record"])
def test_what_was_put_back_as_it_was_is_of_another_time(place: str, side: str) -> None:
    """A snapshot of the daemon's disk, or a CI system's cache of ours; every edit is of equal size and age."""
    daemon = KeepingDaemon()
    warm(daemon, tree(a="one"), place)
    (key,) = daemon.copies
    folder = synced_contexts()
    records = {path: path.read_bytes() for path in folder.glob("*.json")}
    copy = Copy(dict(daemon.copies[key].stats), dict(daemon.copies[key].data))
    asked_by(daemon, tree(a="two"), place)
    if side == "daemon":
        daemon.copies[key] = copy
        assert daemon.build(request(tree(a="two"), place)) == tree(a="two").seen()
    else:
        for path, data in records.items():
            path.write_bytes(data)
        assert daemon.build(request(tree(a="one"), place)) == tree(a="one").seen()
    assert len(daemon.copies) == 2, "under another key"
    assert asked_by(daemon, tree(a="six"), place) == ["src/a"]


def test_a_daemon_that_does_not_ask_for_what_it_lacks(place: str) -> None:
    daemon = KeepingDaemon()
    warm(daemon, tree(a="one"), place)
    daemon.masks = TEMPORARY
    changed = tree(a="ONE")
    # By sizes and times nothing is missing; the new key has it all.
    seen = daemon.build(request(changed, place))
    assert seen is not None
    assert seen["src/a"] == changed.seen()["src/a"]
    assert len(daemon.copies) == 2


def test_a_transfer_that_was_cut(place: str) -> None:
    daemon = KeepingDaemon()
    warm(daemon, tree(a="one"), place)

    def cut() -> None:
        raise KeyboardInterrupt

    daemon.between = cut
    with pytest.raises(KeyboardInterrupt):
        daemon.build(request(tree(a="ONE"), place))
    daemon.between = lambda: None
    # What arrived of it, nobody knows: not even where it is as before again.
    assert daemon.build(request(tree(a="one"), place)) == tree(a="one").seen()
    assert len(daemon.copies) == 2


def test_a_copy_that_goes_between_the_two_is_an_error_of_the_build(place: str) -> None:
    daemon, files = KeepingDaemon(), tree(a="one")
    warm(daemon, files, place)
    with daemon.open(request(files, place)) as attachables:
        assert attachables is not None
        assert attachables.context is not None
        daemon.copies.clear()
        with pytest.raises(BuildStepError):
            daemon.take(attachables, {})
        assert attachables.context.differed
    assert daemon.build(request(files, place)) == files.seen()


def test_a_file_that_changes_while_it_is_sent(place: str) -> None:
    daemon = KeepingDaemon()
    warm(daemon, tree(a="one"), place)
    changing = tree(a="two")
    changing.changing = {"src/a": b"TWO"}
    with pytest.raises(UsageError, match="src/a of the build context changed while it was sent"):
        daemon.build(request(changing, place))
    assert daemon.build(request(tree(a="two"), place)) == tree(a="two").seen()


def test_one_build_of_a_place_at_a_time(place: str) -> None:
    daemon, files = KeepingDaemon(), tree(a="one")
    warm(daemon, files, place)
    with daemon.open(request(files, place)) as attachables:
        assert attachables is not None
        assert daemon.build(request(tree(a="ONE"), place)) is None, "another one has the tar"
        assert daemon.build(request(files, f"{place} elsewhere")) is None
    assert daemon.build(request(files, place), identity="two") is None, "another daemon knows nothing of it"
    assert daemon.build(request(files, place)) == files.seen()


def test_what_goes_as_a_tar(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon, files = KeepingDaemon(), tree(a="one")
    warm(daemon, files, place)
    odd = Tree([*files.entries, Entry(path="src/\udcff", data=b"")])
    assert daemon.build(request(odd, place)) is None, "a name that is not UTF-8"
    monkeypatch.setattr(context_sync, "SMALLEST", SMALLEST)
    assert daemon.build(request(files, place)) == files.seen()
    assert daemon.build(request(files, place, SMALLEST - 1)) is None, "a small context"
    monkeypatch.setattr(context_sync, "SMALLEST_MEMBER", SMALLEST)
    assert daemon.build(request(files, place)) is None, "many small files"
    assert daemon.build(request(files, "")) is None, "a context of no place"


def test_what_is_known_of_kept_contexts_is_forgotten(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `clean --all`, but for a build that runs; the next one is as the first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    daemon, files = KeepingDaemon(), tree(a="one")
    warm(daemon, files, place)
    with daemon.open(request(files, place)):
        assert clean_records(dry_run=False).removed == ()
    assert len(clean_records(dry_run=True).removed) == 1
    assert asked_by(daemon, files, place) == []
    assert len(clean_records(dry_run=False).removed) == 1
    assert [*synced_contexts().iterdir()] == []
    warm(daemon, files, place)
