"""What a Podman service that was killed left among its temporary files: ours goes, all else stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.engine import podman_files
from orchestrator.engine.podman_files import remove_left
from orchestrator.engine.running import RunningBuild

MARK = ".orchestrator-secret-1234-mark"
SHM = 70_000_001


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, RunningBuild]:
    """A killed build, whose service has `tmp_path`/tmp."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(podman_files, "_COMMITTED_IN", place)
    monkeypatch.setattr(podman_files, "_COMMITTERS", ("committer",))
    monkeypatch.setattr(podman_files, "_MAKING", 0.0)
    record = tmp_path / "record"
    record.touch()
    return record, RunningBuild(build_id="b", store="s", shm=SHM, temporary=str(place), mark=MARK)


def put(folder: Path, name: str, text: str = "") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def bundle(shm: int) -> str:
    return json.dumps({"mounts": [{"destination": "/proc"}, {"destination": "/dev/shm", "options": [f"size={shm}"]}]})


def test_what_is_of_the_killed_build_goes(tmp_path: Path, killed: tuple[Path, RunningBuild]) -> None:
    ours = ("libpod_builder1/build/src/a", f"libpod_builder2/build/{MARK}", "buildah3/hosts", "libpod_builder4/tarBall")
    theirs = (
        "libpod_builder5/tarBall",
        "libpod_builder6/build/Containerfile",
        "buildah-cache/a",
        "storage-x/a",
        "mine",
    )
    for name in (*ours, *theirs):
        put(tmp_path / "tmp", name)
    put(tmp_path / "tmp", f"libpod_builder1/{MARK}")
    put(tmp_path / "tmp", "libpod_builder4/tarBall", f"{MARK}\0\0 and a secret")
    put(tmp_path / "tmp", "libpod_builder5/tarBall", "another's")
    put(tmp_path / "tmp", "buildah3/config.json", bundle(SHM))
    put(tmp_path / "tmp", "buildah7/config.json", bundle(SHM + 4096))
    put(tmp_path, f"elsewhere/{MARK}")
    (tmp_path / "tmp/libpod_builder8").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tmp/libpod_builder9").mkdir()
    assert remove_left([killed])
    left = {path.name for path in (tmp_path / "tmp").iterdir()}
    theirs_left = {"libpod_builder5", "libpod_builder6", "buildah-cache", "storage-x", "mine"}
    assert left == theirs_left | {"buildah7", "libpod_builder8"}
    assert (tmp_path / f"elsewhere/{MARK}").exists()


@contextmanager
def committing(folder: Path) -> Iterator[None]:
    """A program that may have made such a directory."""
    program = folder / "committer"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as running:
        try:
            yield
        finally:
            running.kill()


def test_layers_that_were_being_committed(tmp_path: Path, killed: tuple[Path, RunningBuild]) -> None:
    """Nothing says whose they are: they stay for as long as somebody lives who may have made them."""
    with committing(tmp_path):
        time.sleep(0.1)
        put(tmp_path / "tmp", "storage123/1", "a layer")
        assert not remove_left([killed]), "it is not known yet"
        assert (tmp_path / "tmp/storage123/1").exists()
    assert remove_left([killed])
    assert [*(tmp_path / "tmp").iterdir()] == []
    put(tmp_path / "tmp", "storage124/1", "a layer")
    killed[0].unlink()
    killed[0].touch()
    assert remove_left([(tmp_path / "record", RunningBuild(build_id="b", store="s"))])
    assert (tmp_path / "tmp/storage124/1").exists(), "of no build of ours"


def test_layers_of_a_service_that_was_started_again_at_once(
    tmp_path: Path, killed: tuple[Path, RunningBuild], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clocks don't tell which of the two was first, and the new one lives on: not as if it might have made them."""
    put(tmp_path / "tmp", "storage123/1", "a layer")
    with committing(tmp_path):
        now = time.time()
        os.utime(tmp_path / "tmp/storage123", (now, now))
        monkeypatch.setattr(podman_files, "_MAKING", 60.0)
        assert not remove_left([killed]), "it may be at it"
        monkeypatch.setattr(podman_files, "_MAKING", 0.0)
        assert remove_left([killed])
        assert [*(tmp_path / "tmp").iterdir()] == []
