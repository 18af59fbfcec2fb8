"""Random edits of a context that BuildKit keeps: after each, a build's steps see the sources as they are.

`make test-engines` runs it on some of its engines. `EDITS=100 SEED=7`: so many builds; a sequence once more. Some of
them come after the daemon has lost what it kept, or with a record on this machine that is an earlier build's.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from orchestrator.engine import context_sync
from orchestrator.engine.select import connect
from orchestrator.user_paths import synced_contexts
from tests.engine.test_context_in_builds import Project
from tests.engines import record
from tests.engines.daemons import UNIX
from tests.engines.matrix import bench, digests, users_cache  # noqa: F401  # fixtures
from tests.engines.scenarios import Bench
from tests.support.engines import ensure_base

BUILDS = int(os.environ.get("EDITS", "30"))
SEED = int(os.environ.get("SEED") or secrets.randbelow(10**6))
SMALL = 100_000
"""More than all files but one hold, and much less than that one."""
_NAMES = ("a", "a/one", "a/two", "a/two/deep/er", "a.b", "b/deep/three", "b", "four", "with space/ü", "z")
_TEXTS = ("one", "two", "ONE", "", "longer\n" * 100)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """A directory of sources, and how `random` edits it."""

    root: Path
    random: Random

    def edit(self) -> str:
        """Edit something; what was done."""
        action = self.random.choice([self._write, self._write, self._overwrite, self._overwrite, self._link])
        action = self.random.choice([action, action, self._move, self._remove, self._change_mode, self._hard_link])
        return action()

    def _existing(self, *, only_files: bool) -> Path | None:
        paths = sorted(path for path in self.root.rglob("*") if path.name != "large")
        if only_files:
            paths = [path for path in paths if path.is_file() and not path.is_symlink()]
        return self.random.choice(paths) if paths else None

    def _free(self) -> Path:
        """A path of `_NAMES`, with nothing there any more, in directories that are."""
        path = self.root / self.random.choice(_NAMES)
        for above in [*reversed(path.relative_to(self.root).parents)][1:]:
            if not (directory := self.root / above).is_dir() or directory.is_symlink():
                _remove(directory)
                directory.mkdir()
        _remove(path)
        return path

    def _write(self) -> str:
        path = self._free()
        path.write_text(self.random.choice(_TEXTS))
        os.utime(path, (at := self.random.choice([7, 8, 1_700_000_000]), at))
        return f"write {path.name}"

    def _overwrite(self) -> str:
        """Other content of the same size, at the same time."""
        path = self._existing(only_files=True)
        if path is None:
            return self._write()
        status = path.stat()
        path.write_text("".join(self.random.choices("xyz", k=status.st_size)))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return f"overwrite {path.name}"

    def _link(self) -> str:
        path = self._free()
        path.symlink_to(self.random.choice(["one", "two", "gone"]))
        return f"link {path.name}"

    def _hard_link(self) -> str:
        path = self._existing(only_files=True)
        if path is None:
            return self._write()
        kept = self.root / "kept"
        _remove(kept)
        kept.hardlink_to(path)
        kept.rename(new := self._free())
        return f"hard link {new.name} of {path.name}"

    def _move(self) -> str:
        path = self._existing(only_files=False)
        if path is None:
            return self._write()
        path.rename(self.root / "moving")
        (self.root / "moving").rename(new := self._free())
        return f"move {path.name} to {new.name}"

    def _remove(self) -> str:
        path = self._existing(only_files=False)
        if path is None:
            return self._write()
        _remove(path)
        return f"remove {path.name}"

    def _change_mode(self) -> str:
        path = self._existing(only_files=True)
        if path is None:
            return self._write()
        path.chmod(path.stat().st_mode ^ 0o111)
        return f"change the mode of {path.name}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.fixture
def project(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:  # noqa: F811
    if bench.client.service.engine.way != UNIX or bench.client.service.engine.program != "docker":
        pytest.skip("only BuildKit keeps contexts; the same engines are asked by their sockets")
    monkeypatch.setattr(context_sync, "SMALLEST_MEMBER", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "sources"
    root.mkdir()
    with (root / "large").open("wb") as sink:
        sink.truncate(context_sync.SMALLEST)
    os.utime(root / "large", (0, 0))  # the oldest: it stays so, whatever the others' times are
    engine = connect(bench.client.service.spec)
    try:
        yield Project(root=root, engine=engine, base=ensure_base(engine), identity=f"test-{secrets.token_hex(6)}")
    finally:
        engine.close()


def test_random_edits_arrive(bench: Bench, project: Project) -> None:  # noqa: F811
    random = Random(SEED)
    sources, disturbed = Sources(root=project.root, random=random), 0
    with record.keeping(bench.client.service.engine.title, record.EDITS) as said:
        assert project.check() > context_sync.SMALLEST, "the first build has the tar"
        project.check()
        for number in range(BUILDS):
            said[:] = [f"{number} of {BUILDS} builds right (SEED={SEED})"]
            disturbance = _disturb(bench, random)
            disturbed += bool(disturbance)
            edits = [sources.edit() for _ in range(random.randint(1, 3))]
            print(f"build {number}:", "; ".join([disturbance, *edits] if disturbance else edits))
            sent = project.check()
            assert disturbance or sent < SMALL, f"{sent} bytes were sent"
        said[:] = [f"{BUILDS} of {BUILDS} builds right, {disturbed} of them after a loss (SEED={SEED})"]


def _disturb(bench: Bench, random: Random) -> str:  # noqa: F811
    """Sometimes the daemon loses what it kept, or this machine's record is an earlier one; what was done."""
    records, earlier = synced_contexts(), synced_contexts().with_name("earlier")
    if random.random() < 0.3 or not earlier.exists():
        shutil.rmtree(earlier, ignore_errors=True)
        shutil.copytree(records, earlier)
        return ""
    match random.randrange(8):
        case 0:
            bench.client.service.command("builder", "prune", "--all", "--force")
            return "pruned"
        case 1:
            shutil.rmtree(records)
            shutil.copytree(earlier, records)
            return "an earlier record"
    return ""
