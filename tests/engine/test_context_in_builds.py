"""What a build's steps see of its context after any change of it, on real engines: what a tar of it would bring."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.build.context_request import with_context
from orchestrator.containerfile.context import ORDER, BuildContext, Content, ContextListing
from orchestrator.containerfile.tree import HostTree
from orchestrator.engine import context_sync
from orchestrator.engine.base import BuildRequest, Engine
from orchestrator.events import StepProgress
from tests.support.engines import Events

LIST = "find . -mindepth 1 -exec stat -c '%N %Y %a' {} + && find . -type f -exec sha256sum {} +"
SHOW = f"RUN --mount=type=bind,source=src,target=/mounted cat /ignored; cd /copied && {LIST}; cd /mounted && {LIST}"


@dataclass(frozen=True, kw_only=True)
class Project:
    """Sources on this machine, and an engine that they are built on, as the build `identity`."""

    root: Path
    engine: Engine
    base: str
    identity: str

    @property
    def ignored(self) -> bytes:
        """What the context's own `.dockerignore` says, which was read already; Podman reads it once more."""
        return b"src\nscripts\n" if self.engine.capabilities.context_sync else b"none\n"

    def check(self) -> int:
        """Build; a step sees the sources as they are, copied and mounted. How many bytes were sent."""
        text = (
            f"FROM {self.base}\nCOPY .dockerignore /ignored\nCOPY {ORDER} /order\nCOPY src/ /copied/\n{SHOW}"
            f" # {secrets.token_hex(4)}\n"
        )
        parts = (
            Content(path="Containerfile", data=text.encode()),
            Content(path=".dockerignore", data=self.ignored),
            HostTree(prefix="src", source=self.root, sources=True),
        )
        context, events = BuildContext(parts=parts), Events()
        request = BuildRequest(
            context=(),
            containerfile="Containerfile",
            tag=f"localhost/orchestrator-test:{self.identity}",
            build_id=self.identity,
            place=str(self.root),
        )
        self.engine.build(with_context(request, context), events)
        expected = tuple(_lines(ContextListing(context)))
        ignored = self.ignored.decode().splitlines()
        assert sorted(events.output("RUN ").splitlines()) == sorted([*ignored, *expected, *expected])
        return [e.done for e in events.seen if isinstance(e, StepProgress) and e.id == "context"][-1]


def _lines(listing: ContextListing) -> Iterator[str]:
    for member in listing.members():
        name = f"./{member.path.removeprefix('src/')}"
        if not member.path.startswith("src/"):
            continue
        mode = {"dir": "755", "link": "777"}.get(member.kind, "755" if member.executable else "644")
        shown = f"'{name}' -> '{member.target}'" if member.target else name
        yield f"{shown} {member.mtime} {mode}"
        if member.kind == "file":
            yield f"{listing.contents()[member.path][1]}  {name}"


@pytest.fixture
def project(engine: Engine, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(context_sync, "SMALLEST_MEMBER", 0)
    monkeypatch.setattr(context_sync, "SMALLEST_MEMBER_FAR", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root, identity = tmp_path / "sources", f"test-{secrets.token_hex(6)}"
    for name in ("a/one", "a/two", "b/deep/three", "four"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name[-3:])
    with (root / "large").open("wb") as sink:
        sink.truncate(context_sync.SMALLEST)
    os.utime(root / "large", (0, 0))  # the oldest: one that goes makes those younger that are newer, which then travel
    (root / "link").symlink_to("four")
    yield Project(root=root, engine=engine, base=base_image, identity=identity)
    for leftover in engine.leftovers():
        if leftover.build_id == identity:
            engine.remove(leftover)


def _unseen(path: Path, text: str) -> None:
    """Other content of the same size, at the same time."""
    status = path.stat()
    assert status.st_size == len(text)
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _edit(root: Path) -> None:
    _unseen(root / "a/one", "ONE")


def _swap(root: Path) -> None:
    one, two = (root / "a/one").read_text(), (root / "a/two").read_text()
    _unseen(root / "a/one", two)
    _unseen(root / "a/two", one)
    (root / "four").chmod(0o755)
    (root / "link").unlink()
    (root / "link").symlink_to("a/ab")


def _retype(root: Path) -> None:
    shutil.rmtree(root / "b")
    (root / "b").write_text("b")
    (root / "four").unlink()
    (root / "four").mkdir()
    (root / "four/hard").hardlink_to(root / "a/one")
    (root / "a/two").rename(root / "a/three")


def _back(root: Path) -> None:
    (root / "b").unlink()
    (root / "b").symlink_to("a")
    _unseen(root / "a/one", "222")  # and of its other name
    (root / "a/three").unlink(missing_ok=True)


EDITS: tuple[Callable[[Path], None], ...] = (_swap, _retype, _back)


def test_every_change_arrives(project: Project) -> None:
    whole, keeps = project.check(), project.engine.capabilities.context_sync
    assert whole > context_sync.SMALLEST, "the first build has the tar"
    if not keeps:  # the tar each time
        for edit in EDITS:
            edit(project.root)
        assert project.check() > context_sync.SMALLEST
        return
    project.check()
    for edit in EDITS:
        edit(project.root)
        assert project.check() < 10_000, edit

    # Another checkout of this name, on another machine that builds on the same engine.
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setenv("XDG_CACHE_HOME", str(project.root.parent / "another"))
        _edit(project.root)
        assert project.check() > context_sync.SMALLEST
        project.check()
    _back(project.root)
    assert project.check() < 10_000
